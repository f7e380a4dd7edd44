"""From scores to the figures of a table."""
