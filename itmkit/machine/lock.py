"""One process at a time: locks on what a stage or a training writes, and who holds them.

The lock is the system's own (flock), so that it is gone when its owner is, however that ended. The file says who the
owner is, for the one who comes second. It stays behind, empty, when the owner is done: removing it could take it away
from under another process that has just opened it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from itmkit.errors import ItmkitError

# What flock answers on file systems without locks (some mounts of Lustre and NFS).
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
SHORT = 4096  # bytes; what says more is not the record of an owner


class Locked(ItmkitError):
    """Another process holds the lock."""


@dataclass(frozen=True)
class Owner:
    pid: int
    host: str
    since: str  # local time, to the second

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


@contextmanager
def lock(path: Path, what: str, *, shared: bool = False) -> Iterator[Owner | None]:
    """Holds the lock file `path` until the end of the block. It is made where it does not exist, its folder too.

    Args:
        what: what the one who comes second reads before the owner's name, such as "caches/text: another process
            writes this cache".
        shared: others may hold the lock too, provided that they share it.

    Yields:
        The owner who ended without giving the lock back (killed, or a power cut), whose work is taken over. Else None.

    Raises:
        Locked: another process holds the lock. The message names it, its host and since when.
        ItmkitError: `path` is a link or no file.
    """
    handle = _opened(path)
    try:
        left = _take(handle, path, what, shared=shared)
        owner = Owner(os.getpid(), socket.gethostname(), datetime.now().isoformat(" ", "seconds"))
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(asdict(owner)).encode() + b"\n", 0)
        try:
            yield left
        finally:
            os.ftruncate(handle, 0)  # given back; the record of an owner who was killed stays
    finally:
        os.close(handle)


def _opened(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise ItmkitError(f"{path}: is a link, which a lock must not be; remove it") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ItmkitError(f"{path}: is no file, which a lock must be; remove it")
    return handle


def _take(handle: int, path: Path, what: str, *, shared: bool) -> Owner | None:
    """Takes the lock. Returns who held it last and never gave it back."""
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        found = _owner(handle)
        if error.errno not in NO_LOCKS:
            who = f" ({found})" if found else ""
            raise Locked(f"{what}{who}; wait for it to end, or stop it") from None
        # Nothing but the record says whether the lock is free. It cannot be trusted to the moment.
        if found and not shared and not _is_over(found):
            raise Locked(f"{what} ({found}); wait for it to end. If it is gone already, remove {path}") from None
        return found
    return None if shared else _owner(handle)


def _is_over(owner: Owner) -> bool:
    """Whether the owner is known to be gone, which can be known of this host only."""
    if owner.host != socket.gethostname():
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # of another user
        return False
    return owner.pid == os.getpid()  # in a container every first process has the same number


def _owner(handle: int) -> Owner | None:
    try:
        found = json.loads(os.pread(handle, SHORT, 0))
        return Owner(int(found["pid"]), str(found["host"]), str(found["since"]))
    except (ValueError, KeyError, TypeError):  # empty, or not written by `lock`
        return None
