"""Readers and makers of data sets: each writes a workspace's dataset.jsonl."""
