"""Parts that several matchers share, each written once: encoders, attention, pooling, norms, losses."""
