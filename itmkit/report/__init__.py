"""Figures of what runs left behind: over epochs, by rank, by method, by slice, by label."""
