"""Pooled vectors of dual encoders: one per picture and one per caption, in a common space."""
