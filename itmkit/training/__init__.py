"""Training: settings and recipes, batches, the loop, exact resume."""
