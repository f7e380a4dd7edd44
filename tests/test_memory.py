from __future__ import annotations

import sys

from itmkit.memory import keep_freed_memory, resident


def test_memory_that_is_used_is_seen() -> None:
    assert 10 << 20 < resident() < 1 << 40 if sys.platform.startswith("linux") else resident() == 0


def test_freed_memory_may_be_kept_anywhere() -> None:
    keep_freed_memory()
    keep_freed_memory()
