"""PNG, JPEG and BMP, through Pillow.

PNG of 16 bits goes through imagecodecs, since Pillow halves colour ones to 8. Not the door
to use from elsewhere: that is `images`, which tells formats apart by their first bytes.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import UserError
from cell_curator.io.tiff import Plane, check_size, default_names, is_ramp, one_line

MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"BM")
"""First bytes of the files read here."""

_PILLOW_LOCK = threading.Lock()


def read_plane(path: Path, head: bytes, *, pixels: bool = True, colours: bool = True) -> Plane:
    """Header, and with ``pixels`` the data, of a PNG, JPEG or BMP file.

    Parameters
    ----------
    head
        First 32 bytes of the file.
    colours
        Apply the colour table of a palette image; without, the stored numbers.

    Raises
    ------
    UserError
        CMYK, a truncated or damaged file, no pixels or absurdly many.
    """
    from PIL import Image

    try:
        with _PILLOW_LOCK:
            # Pillow's own guard refuses from 179 million pixels on, which is one slide scan.
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                with Image.open(path, formats=("PNG", "JPEG", "BMP")) as image:
                    check_size(path, image.height, image.width)
                    data = _pixels(path, image, head, colours) if pixels else None
                    channels = len(_bands(image, colours)) if data is None else len(data)
                    deep = _is_deep_png(head) or image.mode.startswith("I")
                    shape = (channels, image.height, image.width)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except (UserError, MemoryError):
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError…, codecs their own
        raise UserError(f"{path}: is damaged or cut short ({one_line(error)}); copy or export it again") from error
    names = ("red", "green", "blue") if channels == 3 else default_names(channels)
    return Plane(shape, np.dtype(np.uint16 if deep else np.uint8), names, None, (), data)


def _is_deep_png(head: bytes) -> bool:
    """PNG with 16 bits a sample: byte 24 of the file is the bit depth."""
    return head.startswith(b"\x89PNG") and head[24] == 16


def _table(image: Any) -> NDArray[np.uint8] | None:
    """(N, 3) colours of a palette image, entries in use only, or None."""
    if image.mode != "P":
        return None
    return np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)


def _bands(image: Any, colours: bool) -> tuple[str, ...]:
    """Channels that are light."""
    if image.mode == "CMYK":
        raise UserError(f"{image.filename}: is in printing colours (CMYK); save it as RGB or grey levels")
    table = _table(image)
    if table is not None:
        return ("L",) if not colours or is_ramp(table) else ("R", "G", "B")
    if image.mode in ("1", "L", "LA", "I", "I;16", "I;16B"):
        return ("L",)
    return ("R", "G", "B")


def _pixels(path: Path, image: Any, head: bytes, colours: bool) -> NDArray[Any]:
    """(C, Y, X) uint8 or uint16 without transparency."""
    bands = _bands(image, colours)
    if _is_deep_png(head):
        import imagecodecs

        data = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    else:
        image.load()
        table = _table(image)
        grey = table is not None and bool((table == table[:, :1]).all())
        if table is not None and len(bands) == 1 and not (grey and colours):
            data = np.asarray(image)  # a tint on grey levels: the stored values are the measurement
        elif image.mode == "1":
            data = np.asarray(image.convert("L"))
        else:
            data = np.asarray(image.convert("L" if len(bands) == 1 else "RGB"))
    data = data[..., None] if data.ndim == 2 else data
    return np.ascontiguousarray(np.moveaxis(data[..., : len(bands)], -1, 0))
