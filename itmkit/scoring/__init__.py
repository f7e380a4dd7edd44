"""Scores of every image with every caption, and the ranks that follow from them."""
