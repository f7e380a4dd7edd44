"""Captions in, words and dependency trees out: caches/text."""
