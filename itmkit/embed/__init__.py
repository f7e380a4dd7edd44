"""Pooled vectors of dual encoders: one a picture, one a caption, in a common space."""
