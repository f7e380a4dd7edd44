"""What a checkpoint is, from its bytes alone: nothing of it is unpickled here, and nothing is unpacked.

A checkpoint of PyTorch is a pickle, which may call any function, and it says itself how much memory it wants. So torch
reads a file, without running code, only after this has seen that it names nothing but tensors and plain containers and
that it cannot ask for more memory than it has bytes.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path
from typing import IO

from itmkit.errors import ItmkitError, first_line
from itmkit.files import size_in_words

MOST_BYTES = 4 << 30  # of a file: VSE-infinity with BERT has half a GiB
MOST_PICKLED = 64 << 20  # of the part that says what the tensors are
MOST_STEPS = 20_000_000  # of all pickles of a file
MOST_ENTRIES = 10_000
LARGEST = 1 << 32  # number that a small file may hold, such as a count of steps
LEGACY_PICKLES = 5  # magic number, protocol, facts of the machine, the object, the keys of its storages
CONVERT = (
    "convert it once where you trust it: `checkpoint = torch.load(FILE, weights_only=False)`, keep the tensors and the"
    " plain values of `opt`, and `torch.save` them again"
)
_STORAGES = {f"torch {kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Byte")}
# All that a checkpoint may name. torch would also take bytearray, with which a few bytes ask for any amount of memory.
_NAMED = _STORAGES | {
    "collections OrderedDict",
    "argparse Namespace",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
}
_OF_NUMPY = ("_codecs", "numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.dtypes")


def check_file(path: Path) -> None:
    """Raises ItmkitError unless the file is a checkpoint that torch may read without running code."""
    if not path.is_file():
        raise ItmkitError(f"{path}: {'is a folder, a file is needed' if path.is_dir() else 'no such file'}")
    size = path.stat().st_size
    if size > MOST_BYTES:
        most = size_in_words(MOST_BYTES)
        raise ItmkitError(f"{path}: has {size_in_words(size)}; checkpoints of more than {most} are not read")
    with open(path, "rb") as file:
        head = file.read(512)
        if head[257:262] == b"ustar":
            raise ItmkitError(
                f"{path}: a tar archive, the form of PyTorch before 0.1.10, which cannot be read safely; {CONVERT}"
            )
        if head[:4] == b"PK\3\4":
            _check_zip(path, size)
        elif head[:1] == b"\x80":
            file.seek(0)
            _check_pickles(path, file, size, LEGACY_PICKLES)
        else:
            raise ItmkitError(f"{path}: not a checkpoint that torch.save wrote")


def _check_zip(path: Path, size: int) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
            total = sum(entry.file_size for entry in entries)
            named = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
            if packed or total > size or len(entries) > MOST_ENTRIES or len(named) != 1:
                raise ItmkitError(f"{path}: {_wrong_zip(packed, total, size, len(entries))}; it was not read")
            if named[0].file_size > MOST_PICKLED:
                raise ItmkitError(f"{path}: {named[0].filename} is too large for a checkpoint; it was not read")
            pickled = archive.read(named[0])
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise ItmkitError(f"{path}: a damaged zip archive ({first_line(error)})") from None
    _check_pickles(path, io.BytesIO(pickled), size, 1)


def _wrong_zip(packed: list[str], total: int, size: int, entries: int) -> str:
    if packed:
        return f"{packed[0][:60]!r} in it is compressed, which torch.save never does"
    if total > size:
        return f"its parts claim {size_in_words(total)}, and the file has {size_in_words(size)}"
    if entries > MOST_ENTRIES:
        return f"it has {entries:,} parts"
    return "a zip archive without a checkpoint in it"


def _check_pickles(path: Path, file: IO[bytes], size: int, count: int) -> None:
    """Goes through pickles, one after the other, without executing them."""
    steps, begin = 0, file.tell()
    named: set[str] = set()
    try:
        for number in range(count):
            for step, value, _ in pickletools.genops(file):
                steps += 1
                if steps > MOST_STEPS or file.tell() - begin > MOST_PICKLED:
                    raise ItmkitError(f"{path}: says too much beside its tensors for a checkpoint; it was not read")
                named |= _named(path, step.name, value)
                first = count > 1 and number == 0  # which holds the magic number alone
                if isinstance(value, int) and step.name in _WHOLE and not first and abs(value) > max(size, LARGEST):
                    raise ItmkitError(f"{path}: declares {value:,} numbers, and has {size:,} bytes; it was not read")
    except (ValueError, EOFError, OverflowError, MemoryError, UnicodeDecodeError, IndexError) as error:
        raise ItmkitError(f"{path}: cut short or damaged ({first_line(error)[:100]})") from None
    if wrong := sorted(named - _NAMED):
        raise ItmkitError(f"{path}: {_refused(wrong)}; nothing of it was run; {CONVERT}")


_WHOLE = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4")


def _named(path: Path, step: str, value: object) -> set[str]:
    if step in ("GLOBAL", "INST"):
        return {str(value).replace("__builtin__", "builtins")}
    if step in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER"):
        raise ItmkitError(
            f"{path}: names things in a way that torch.save does not ({step}); it was not read; {CONVERT}"
        )
    if step == "BINSTRING":
        raise ItmkitError(f"{path}: holds a text of Python 2 of 256 letters or more, which is not read; {CONVERT}")
    return set()


def _refused(wrong: list[str]) -> str:
    names = ", ".join(name.replace(" ", ".")[:80] for name in wrong[:5])
    if all(name.split(" ")[0] in _OF_NUMPY for name in wrong):
        return f"holds numbers of NumPy ({names}), such as best_rsum, and only tensors and plain numbers are read"
    more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
    return f"names {names}{more}; tensors, plain containers and one argparse.Namespace are all that is read"
