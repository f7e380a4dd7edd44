"""Decodes pictures that may be anything: an upright RGB picture or a reason why not, whatever the file holds."""

from __future__ import annotations

import hashlib
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

MAX_PIXELS = 100_000_000
MAX_BYTES = 1 << 30
MOST_ELONGATED = 100
_LARGE = 20_000_000  # pixels; of such pictures one is decoded at a time, whatever the number of threads
_one_at_a_time = threading.Lock()
# Only formats of photographs. Pillow knows others that start programs (EPS) or that are rarely tested.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
_WHITES = (255.0, 1023.0, 4095.0, 16383.0)  # the largest values of 8, 10, 12 and 14 bits


class UnreadableImage(Exception):
    """A file that gives no picture. `reason` is short, without the path: "truncated", "not a picture", ..."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ChangedImage(Exception):
    """A file that is missing or has other bytes than the data set says. `what` is "missing" or "changed"."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def check_proportions(image: Image.Image) -> None:
    """Models that take pictures of any shape scale the shorter side up: a strip would need gigabytes, or vanish.

    Raises:
        UnreadableImage: one side is more than `MOST_ELONGATED` times the other.
    """
    width, height = image.size
    if max(width, height) > MOST_ELONGATED * min(width, height):
        raise UnreadableImage(f"one side is more than {MOST_ELONGATED} times the other, too thin for this model")


def load_image(path: Path, *, max_pixels: int = MAX_PIXELS, expected_sha256: str | None = None) -> Image.Image:
    """The picture of a file as RGB, upright (EXIF orientation applied), decoded to its last pixel.

    Greyscale, palette, CMYK and 16-bit pictures become 8-bit RGB. Transparent areas become white. An animation gives
    its first frame. The size is read from the header, so a picture beyond `max_pixels` is never decoded.

    Args:
        expected_sha256: hex digest the file's bytes must have.

    Raises:
        UnreadableImage: not a picture in one of `FORMATS`, damaged, truncated, or too large.
        ChangedImage: the file is missing, or its digest is not the expected one.
    """
    data = _read(path)
    if expected_sha256 is not None and hashlib.sha256(data).hexdigest() != expected_sha256:
        raise ChangedImage("changed")
    try:
        Image.init()
        with Image.open(BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN]) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise UnreadableImage(_too_large(f"{width} x {height}", max_pixels))
            if any(tile[0] == "bmp_rle" for tile in image.tile):
                # Pillow decodes damaged runs to a wrong picture without a word, and no photograph is stored so.
                raise UnreadableImage("BMP with run lengths, in which damage goes unnoticed: not read")
            if width < 1 or height < 1:
                raise UnreadableImage("has no pixels")
            with _one_at_a_time if width * height > _LARGE else nullcontext():
                image.load()
                return _rgb(_upright(image))
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        raise UnreadableImage(_not_a_picture(data)) from None
    except Image.DecompressionBombError:
        raise UnreadableImage(_too_large("its header says more", max_pixels)) from None
    except MemoryError:
        raise UnreadableImage("needs more memory than there is") from None
    except Exception as error:  # Pillow's decoders raise dozens of kinds on damaged files
        raise UnreadableImage(_damaged(error)) from None


@contextmanager
def quiet_decoding() -> Iterator[None]:
    """Keeps Pillow from warning about odd metadata and large pictures. For the main thread, around a whole run."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # another library may have switched it on: half pictures would pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
            raise UnreadableImage("is not a regular file")
        if status.st_size > MAX_BYTES:
            raise UnreadableImage(f"has {status.st_size:,} bytes, at most {MAX_BYTES:,} are read")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ChangedImage("missing") from None
    except (OSError, ValueError) as error:
        raise UnreadableImage(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image) or image
    except Exception:  # damaged EXIF: the picture itself is fine
        return image


def _rgb(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image if type(image) is Image.Image else image.copy()
    if mode.startswith("I") or mode == "F":
        return Image.fromarray(_eight_bit(np.asarray(image))).convert("RGB")
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def _eight_bit(values: np.ndarray) -> np.ndarray:
    """Scales greys to 0..255: integers by the bits in use, floats in 0..1 by 255.

    Cameras and microscopes store 10, 12 or 14 bits in 16, and scaled by 16 bits their pictures would be black.
    """
    floats = values.astype(np.float32)
    if not np.isfinite(floats).all():
        raise UnreadableImage("has pixels that are NaN or infinite")
    top = float(floats.max(initial=0))
    if values.dtype.kind == "f":
        scale = 255.0 if top <= 1.0 else 1.0
    else:
        scale = 255.0 / next((limit for limit in _WHITES if top <= limit), 65535.0)
    return np.clip(np.rint(floats * scale), 0, 255).astype(np.uint8)


def _too_large(size: str, max_pixels: int) -> str:
    return f"too large ({size}; at most {max_pixels / 1e6:g} megapixels are read)"


def _not_a_picture(data: bytes) -> str:
    if not data:
        return "is empty"
    return f"not a picture in a known format ({', '.join(FORMATS)})"


def _damaged(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "truncated" in text or "Truncated" in text or isinstance(error, EOFError):
        return "truncated"
    return f"damaged ({type(error).__name__}: {text[:100]})" if text else f"damaged ({type(error).__name__})"
