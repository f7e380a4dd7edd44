"""Training: batches, the loop, exact resume."""
