from __future__ import annotations

import numpy as np

from itmkit.memory import keep_freed_memory, resident


def test_memory_that_is_used_is_seen() -> None:
    before = resident()
    held = np.ones(8_000_000)
    assert resident() - before > 0.9 * held.nbytes or before == 0  # 0: a system that does not say


def test_freed_memory_may_be_kept_anywhere() -> None:
    keep_freed_memory()
    keep_freed_memory()
