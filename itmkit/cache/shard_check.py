"""Checks a shard before HDF5 opens it, since a damaged file can crash the library and with it the process.

A shard is older than the manifest, which is written after it. A newer shard was copied, restored or changed since. Its
sha256 is compared once; if it is right, the file is dated back, so that no later process compares it again.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py

from itmkit.cache.manifest import NAME
from itmkit.errors import ItmkitError
from itmkit.files import sha256_file

# As HDF5 meets damaged structures.
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError)


def check_shard_file(folder: Path, shard: Mapping[str, Any]) -> None:
    """Raises ItmkitError unless the file of a shard of the manifest is the one that was written.

    This costs two `stat` calls if nothing was touched since the manifest was written.
    """
    path = folder / shard["file"]
    advice = "restore it, or rerun the stage with --force"
    try:
        found, manifest = path.stat(), (folder / NAME).stat()
    except FileNotFoundError:
        raise ItmkitError(f"{path}: missing; {advice}") from None
    if not stat.S_ISREG(found.st_mode):  # opening a named pipe would wait for ever
        raise ItmkitError(f"{path}: is not a regular file; {advice}")
    if found.st_size != shard["bytes"]:
        raise ItmkitError(f"{path}: has {found.st_size:,} bytes, {shard['bytes']:,} were written; {advice}")
    if found.st_mtime_ns > manifest.st_mtime_ns:
        with naming(path):
            changed = sha256_file(path) != shard["sha256"]
        if changed:
            raise ItmkitError(f"{path}: its content is not what was written; {advice}")
        with suppress(OSError):  # of another user, or on a disk that cannot be written
            os.utime(path, ns=(found.st_atime_ns, manifest.st_mtime_ns), follow_symlinks=False)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turns errors that HDF5 raises while it reads `path` into one that names the file."""
    try:
        yield
    except DAMAGE as error:
        if isinstance(error, OSError) and (too_many := too_many_open(path, error)) is not None:
            raise too_many from None
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ItmkitError(f"{path}: is damaged ({words}); restore it, or rerun the stage with --force") from None


def too_many_open(path: Path, error: OSError) -> ItmkitError | None:
    """What to say if `path` could not be opened because too many files are open; None for any other error."""
    if error.errno not in (errno.EMFILE, errno.ENFILE):
        return None
    whose = "this process" if error.errno == errno.EMFILE else "this machine"
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ItmkitError(
        f"{path}: cannot be opened, since too many files are open in {whose} (`ulimit -n` allows {allowed}); nothing is"
        f" wrong with the file. Allow more, for example with `ulimit -n {max(1024, 2 * allowed)}`, and run again"
    )


def unsafe(file: h5py.File, name: str) -> str | None:
    """Why a data set must not be read: missing, a link to elsewhere, virtual, or stored outside the file."""
    if "/" in name or name in (".", ".."):
        return f"{name!r} is no name of a data set"
    link = file.get(name, getlink=True)
    if link is None:
        return f"data set {name!r} is missing"
    if not isinstance(link, h5py.HardLink):
        return f"{name!r} is a {type(link).__name__}, not data of this file"
    data = file[name]
    if not isinstance(data, h5py.Dataset):
        return f"{name!r} is not a data set"
    if data.is_virtual or data.external:
        return f"{name!r} keeps its data in other files"
    return None
