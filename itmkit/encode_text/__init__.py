"""Vectors of words and of tag phrases by a frozen language model: caches/words-<name>/texts and .../tags."""
