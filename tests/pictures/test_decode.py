"""A picture that crashes or hangs its decoder costs that picture only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from itmkit.files import sha256_file
from itmkit.pictures import decode as decoding
from itmkit.pictures.decode import Decoder, Square
from itmkit.pictures.load import ChangedImage, UnreadableImage

pytestmark = pytest.mark.usefixtures("decoding_children")


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    decoder = Decoder()
    yield decoder
    decoder.close()


def picture(path: Path, size: tuple[int, int] = (50, 30)) -> Path:
    values = np.random.default_rng(size[0]).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize("size", [(1, 1), (50, 30), (700, 500), (2600, 40)])
def test_the_child_gives_what_this_process_would(tmp_path: Path, decoder: Decoder, size: tuple[int, int]) -> None:
    path = picture(tmp_path / "a.png", size)
    here, there = decoding.decode(path, None), decoder.decode(path, sha256_file(path))
    assert there.size == here.size == size
    np.testing.assert_array_equal(np.asarray(there.image), np.asarray(here.image))
    assert there.image.mode == "RGB" and max(there.image.size) <= decoding.MOST_PIXELS_A_SIDE


def test_the_child_squashes(tmp_path: Path) -> None:
    path, decoder = picture(tmp_path / "a.png", (700, 500)), Decoder(square=Square(64, 3))
    found = decoder.decode(path, None)
    decoder.close()
    assert found.size == (700, 500)
    squashed = Image.open(path).resize((64, 64), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(np.asarray(found.image), np.asarray(squashed))


def test_one_child_for_many_pictures(tmp_path: Path, decoder: Decoder) -> None:
    decoder.decode(picture(tmp_path / "0.png"), None)
    child = decoder._child
    for number in range(1, 5):
        decoder.decode(picture(tmp_path / f"{number}.png", (20 + number, 9)), None)
    assert decoder._child is child


def test_what_cannot_be_read_is_said_by_the_child(tmp_path: Path, decoder: Decoder) -> None:
    (tmp_path / "no.jpg").write_bytes(b"no picture")
    with pytest.raises(UnreadableImage, match="not a picture"):
        decoder.decode(tmp_path / "no.jpg", None)
    with pytest.raises(ChangedImage, match="missing"):
        decoder.decode(tmp_path / "gone.jpg", None)
    with pytest.raises(ChangedImage, match="changed"):
        decoder.decode(picture(tmp_path / "a.png"), "0" * 64)
    assert decoder.decode(tmp_path / "a.png", None).size == (50, 30)


def test_a_crash_costs_one_picture(tmp_path: Path, decoder: Decoder) -> None:
    good = picture(tmp_path / "a.png")
    decoder.decode(good, None)
    assert decoder._child is not None
    os.kill(decoder._child.pid, signal.SIGSEGV)
    decoder._child.wait()
    with pytest.raises(UnreadableImage, match=r"crashed its decoder \(SIGSEGV\)"):
        decoder.decode(good, None)
    assert decoder.decode(good, None).size == (50, 30)


def test_a_hang_costs_one_picture(tmp_path: Path) -> None:
    """A decoder that no longer answers is ended and replaced."""
    good, decoder = picture(tmp_path / "a.png"), Decoder()
    decoder.decode(good, None)
    assert decoder._child is not None
    decoder._timeout = 0.3
    os.kill(decoder._child.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(UnreadableImage, match=r"took longer than 0\.3 s to decode"):
        decoder.decode(good, None)
    assert time.monotonic() - began > 0.29
    decoder.close()


def test_a_killed_parent_leaves_no_child(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    script = (
        "import os, sys, signal\nfrom pathlib import Path\nfrom itmkit.pictures.decode import Decoder\n"
        f"d = Decoder(); d.decode(Path({str(tmp_path / 'a.png')!r}), None)\n"
        "print(d._child.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    child, until = int(done.stdout), time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()
