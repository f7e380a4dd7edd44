"""Tells what a file or folder of itmkit holds, in words: caches, shards, data sets, runs, weights, metrics.

Nothing is imported here: the child that opens HDF5 files (`child.py`) starts with no more than it needs.
"""
