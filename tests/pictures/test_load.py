from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from itmkit.embed.dual import DualEncoder
from itmkit.files import sha256_file
from itmkit.pictures.load import ChangedImage, UnreadableImage, load_image, quiet_decoding
from itmkit.regions.detector import Detector
from itmkit.regions.grounding import GroundedDetector
from itmkit.regions.open_vocabulary import OpenDetector


def picture(width: int = 60, height: int = 40) -> Image.Image:
    """Left half red, right half blue."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 255
    pixels[:, width // 2 :, 2] = 255
    return Image.fromarray(pixels)


def middle(image: Image.Image, x: float, y: float) -> tuple[int, ...]:
    found = image.getpixel((int(x * image.width), int(y * image.height)))
    assert isinstance(found, tuple)
    return tuple(int(value) for value in found)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "gif", "bmp", "tif", "ppm"])
def test_formats(tmp_path: Path, ending: str) -> None:
    picture().save(tmp_path / f"a.{ending}")
    image = load_image(tmp_path / f"a.{ending}")
    assert image.mode == "RGB" and image.size == (60, 40)
    assert middle(image, 0.25, 0.5)[0] > 200 and middle(image, 0.75, 0.5)[2] > 200


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LA", "RGBA", "I;16", "YCbCr", "LAB"])
def test_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode in ("CMYK", "LA", "YCbCr", "LAB", "I;16") else "a.png")
    if mode == "I;16":
        Image.fromarray((np.arange(2400, dtype=np.uint16) * 27).reshape(40, 60)).save(path)
    elif mode == "LAB":
        Image.new("LAB", (60, 40)).save(path)
    else:
        picture().convert("L" if mode == "LA" else "RGB").convert(mode).save(path)
    try:
        image = load_image(path)
    except UnreadableImage as error:
        assert mode == "LAB" and error.reason
        return
    assert image.mode == "RGB" and image.size == (60, 40)


def test_sixteen_bit_grey_keeps_its_range(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "a.png")
    found = np.asarray(load_image(tmp_path / "a.png"))[..., 0]
    assert found.min() == 0 and found.max() == 255
    assert np.abs(found.astype(int) - values / 257).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright(tmp_path: Path, orientation: int) -> None:
    """Stored turned by the orientation, the picture comes back as it was."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = picture() if orientation == 1 else picture().transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    image = load_image(tmp_path / "a.png")
    assert image.size == (60, 40)
    assert np.array_equal(np.asarray(image), np.asarray(picture()))


def test_transparent_becomes_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert middle(load_image(tmp_path / "a.png"), 0.5, 0.5) == (255, 255, 255)


def test_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert middle(load_image(tmp_path / "a.gif"), 0.5, 0.5)[0] > 200


def test_truncated(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for ending in ("jpg", "png", "webp", "tif"):
        buffer = io.BytesIO()
        noise = Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
        noise.save(buffer, {"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending.upper()))
        (tmp_path / f"a.{ending}").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
        with pytest.raises(UnreadableImage) as caught:
            load_image(tmp_path / f"a.{ending}")
        assert caught.value.reason, ending


def test_not_a_picture(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("hello, this is no picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "page.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, reason in {
        "a.jpg": "not a picture",
        "empty.jpg": "empty",
        "page.eps": "not a",
        "pipe.jpg": "regular",
    }.items():
        with pytest.raises(UnreadableImage, match=reason):
            load_image(tmp_path / name)


def test_too_large_is_not_decoded(tmp_path: Path) -> None:
    picture(300, 200).save(tmp_path / "a.png")
    with pytest.raises(UnreadableImage, match=r"300 x 200.*0\.05 megapixels"):
        load_image(tmp_path / "a.png", max_pixels=50_000)
    # a header that claims 40,000 x 40,000 pixels
    head = io.BytesIO()
    picture(8, 8).save(head, "BMP")
    data = bytearray(head.getvalue())
    data[18:26] = (40_000).to_bytes(4, "little") * 2
    (tmp_path / "bomb.bmp").write_bytes(data)
    with pytest.raises(UnreadableImage, match="too large"):
        load_image(tmp_path / "bomb.bmp")


def test_changed_or_missing(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    digest = sha256_file(tmp_path / "a.png")
    load_image(tmp_path / "a.png", expected_sha256=digest)
    picture(61, 40).save(tmp_path / "a.png")
    with pytest.raises(ChangedImage, match="changed"):
        load_image(tmp_path / "a.png", expected_sha256=digest)
    with pytest.raises(ChangedImage, match="missing"):
        load_image(tmp_path / "b.png")


@pytest.mark.skipif("ITMKIT_TEST_DATA" not in os.environ, reason="needs ITMKIT_TEST_DATA")
def test_every_nasty_file_is_a_picture_or_a_reason() -> None:
    folder = Path(os.environ["ITMKIT_TEST_DATA"]) / "nasty_images"
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert len(files) > 40
    outcome: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with quiet_decoding():
            for path in files:
                try:
                    image = load_image(path)
                    assert image.mode == "RGB"
                    image.tobytes()
                    outcome[path.name] = "picture"
                except UnreadableImage as error:
                    assert error.reason and "\n" not in error.reason
                    outcome[path.name] = error.reason
    refused = {name: reason for name, reason in outcome.items() if reason != "picture"}
    expected = {
        "README.md": "not a picture",
        "LICENSE": "not a picture",
        "LICENSE-APACHE": "not a picture",
        "LICENSE-MIT": "not a picture",
        "Bad_reallybig.bmp": "too large",
        "Bad_smile-incorrect-image-length.ico": "not a picture",
        "badrle.bmp": "run lengths",
        "broken.png": "not a picture",
        "crash-338516dbd2f0e83caddb8ce256c22db3bd6dc40f.tif": "damaged",
        "decompression_bomb.ico": "not a picture",
        "truncated_jpeg.jpg": "truncated",
    }
    assert refused.keys() == expected.keys()
    assert all(expected[name] in reason for name, reason in refused.items())
    upright = {load_image(path).size for path in files if path.name.startswith("Landscape_")}
    assert len(upright) == 1 and next(iter(upright))[0] > next(iter(upright))[1]


@pytest.mark.parametrize(("white", "scale"), [(255, 255), (1000, 1023), (4095, 4095), (16000, 16383), (60000, 65535)])
def test_grey_of_10_to_16_bits_uses_the_whole_range(tmp_path: Path, white: int, scale: int) -> None:
    values = np.linspace(0, white, 256).astype(np.uint16).reshape(16, 16)
    path = tmp_path / "a.png"
    Image.fromarray(values).save(path)
    read = np.asarray(load_image(path))[..., 0]
    assert np.abs(read - values * 255.0 / scale).max() <= 0.51


@pytest.mark.parametrize("model", [Detector, OpenDetector, GroundedDetector, DualEncoder])
def test_models_that_scale_the_shorter_side_refuse_a_strip(model: Any) -> None:
    with pytest.raises(UnreadableImage, match="one side is more than 100 times the other, too thin for this model"):
        model.prepare(SimpleNamespace(), Image.new("RGB", (1, 101)))
    read = {"pixel_values": torch.zeros(1), "pixel_mask": torch.zeros(1)}
    taken = SimpleNamespace(processor=lambda images, return_tensors: read, _takes=set())
    model.prepare(taken, Image.new("RGB", (1, 100)))
