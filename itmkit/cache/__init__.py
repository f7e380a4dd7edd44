"""The store between stages: sharded HDF5 with a manifest. One writer, one reader for every cache."""

from itmkit.cache.manifest import Column, MadeBy, Manifest, read_manifest, text_key
from itmkit.cache.parts import merge_parts
from itmkit.cache.reader import CacheReader
from itmkit.cache.shuffled import shuffled_batches
from itmkit.cache.writer import CacheWriter, ShardWriter
from itmkit.machine.part import WHOLE, Part

__all__ = [
    "WHOLE",
    "CacheReader",
    "CacheWriter",
    "Column",
    "MadeBy",
    "Manifest",
    "Part",
    "ShardWriter",
    "merge_parts",
    "read_manifest",
    "shuffled_batches",
    "text_key",
]
