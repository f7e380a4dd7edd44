from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from itmkit.errors import ItmkitError
from itmkit.files import sha256_file
from itmkit.pictures.facts import Facts, all_picture_facts, picture_facts
from itmkit.pictures.load import UnreadableImage, load_image
from tests.workspaces import save_picture


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "gif", "bmp", "tif", "ppm"])
def test_size_bytes_and_digest_of_every_format(tmp_path: Path, ending: str) -> None:
    path = save_picture(tmp_path / f"a.{ending}")
    assert picture_facts(path) == Facts(30, 20, path.stat().st_size, sha256_file(path))
    assert picture_facts(path, content=False).sha256 == ""


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_the_size_is_that_of_the_upright_picture(tmp_path: Path, ending: str, orientation: int) -> None:
    path = save_picture(tmp_path / f"a.{ending}", orientation=orientation)
    facts = picture_facts(path)
    assert (facts.width, facts.height) == load_image(path).size == ((20, 30) if orientation > 4 else (30, 20))


def test_exif_behind_the_pixels_of_a_png_counts(tmp_path: Path) -> None:
    plain = save_picture(tmp_path / "a.png").read_bytes()
    turned = save_picture(tmp_path / "b.png", orientation=6).read_bytes()
    start = turned.index(b"eXIf") - 4
    chunk = turned[start : start + 12 + int.from_bytes(turned[start : start + 4], "big")]
    late = tmp_path / "late.png"
    late.write_bytes(plain[:-12] + chunk + plain[-12:])  # before IEND, the last 12 bytes
    facts = picture_facts(late)
    assert (facts.width, facts.height) == load_image(late).size == (20, 30)


def test_no_pixel_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_picture(tmp_path / "a.png")

    def refuse(*args: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", refuse)
    assert picture_facts(path).width == 30


def test_wrong_files_are_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    reasons = {
        "missing.jpg": "no such file",
        "empty.jpg": "is empty",
        "text.jpg": "cannot be read as a picture",
        "folder.jpg": "not a regular file",
        "pipe.jpg": "not a regular file",
        "nul\0.jpg": "cannot be read",
    }
    for name, reason in reasons.items():
        with pytest.raises(ItmkitError, match=reason):
            picture_facts(tmp_path / name)


def test_a_header_that_claims_a_billion_pixels_is_no_error_here(tmp_path: Path) -> None:
    data = bytearray(save_picture(tmp_path / "a.bmp").read_bytes())
    data[18:26] = (40_000).to_bytes(4, "little") * 2
    (tmp_path / "bomb.bmp").write_bytes(data)
    facts = picture_facts(tmp_path / "bomb.bmp")
    assert (facts.width, facts.height) == (None, None) and facts.sha256
    with pytest.raises(UnreadableImage, match="too large"):
        load_image(tmp_path / "bomb.bmp")


def test_many_in_order_and_without_warnings(tmp_path: Path) -> None:
    paths = [save_picture(tmp_path / f"{n}.png", size=(n + 1, 5)) for n in range(40)]
    paths.insert(7, tmp_path / "missing.png")
    large = bytearray(save_picture(tmp_path / "large.bmp").read_bytes())
    large[18:26] = (10_000).to_bytes(4, "little") * 2  # 100 megapixels: Pillow warns
    (tmp_path / "large.bmp").write_bytes(large)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = all_picture_facts([*paths, tmp_path / "large.bmp"])
    assert isinstance(found.pop(7), ItmkitError)
    assert [fact.width for fact in found if isinstance(fact, Facts)] == [*range(1, 41), 10_000]


def test_real_awkward_files_agree_with_decoding(test_data: Path) -> None:
    files = [f for f in sorted((test_data / "nasty_images").glob("*/*")) if f.suffix and "LICENSE" not in f.name]
    compared = 0
    for file in files:
        try:
            size = load_image(file).size
        except UnreadableImage:
            continue
        facts = picture_facts(file)
        assert (facts.width, facts.height) == size, file.name
        compared += 1
    assert compared > 30


def test_random_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    starts = [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"GIF89a", b"BM", b"II*\0\x08\0\0\0", b"RIFF"]
    Image.init()
    for number, start in enumerate(starts * 5):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(start + random.bytes(200))
        assert isinstance(all_picture_facts([path])[0], (Facts, ItmkitError))
