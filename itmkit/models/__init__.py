"""Pretrained models: found or downloaded, never pickled, and how they want their pixels."""
