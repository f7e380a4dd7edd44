"""Intervals and tests of figures: bootstrap, resampling, seeds."""
