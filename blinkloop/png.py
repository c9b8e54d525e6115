"""Write PNG pictures with the standard library alone.

PNG: eight signature bytes, then chunks of length, type, data and CRC (W3C PNG
specification, third edition). The lean runtime has no imaging package.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError

__all__ = ["png_bytes", "write_png"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""Channels -> PNG colour type: gray, gray + alpha, RGB, RGBA."""


def write_png(
    path: str | Path, picture: npt.NDArray[Any], *, pixel_nm: float | None = None
) -> Path:
    """Write a picture; parameters as for `png_bytes`; returns the path."""
    target = Path(path)
    data = png_bytes(picture, pixel_nm=pixel_nm)
    try:
        target.write_bytes(data)
    except OSError as error:
        raise InputError(
            f"cannot write the picture {target}: {error.strerror or error}; choose "
            f"another folder"
        ) from error
    return target


def png_bytes(picture: npt.NDArray[Any], *, pixel_nm: float | None = None) -> bytes:
    """A picture as the bytes of a PNG file.

    Parameters
    ----------
    picture
        (H, W) gray, or (H, W, C) with C = 1 gray, 2 gray + alpha, 3 RGB, 4 RGBA;
        uint8 or uint16.
    pixel_nm
        Size of a pixel, written as text under the key "pixel_nm".

    Raises
    ------
    InputError
        When the array is of another dtype or shape, or empty.
    """
    image = np.asarray(picture)
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in _COLOUR_TYPES or 0 in image.shape:
        raise InputError(
            f"PNG: a picture is (H, W) or (H, W, 1..4) and not empty, got the shape "
            f"{np.shape(picture)}"
        )
    if image.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
        raise InputError(
            f"PNG: pixels must be uint8 or uint16, got {image.dtype}; scale them first "
            f"(blinkloop.colour.to_unit)"
        )
    height, width, channels = image.shape
    depth = 8 * image.dtype.itemsize
    header = struct.pack(
        ">IIBBBBB", width, height, depth, _COLOUR_TYPES[channels], 0, 0, 0
    )
    # Most significant byte first; each row starts with filter type 0 (none).
    rows = np.ascontiguousarray(image.astype(f">u{image.dtype.itemsize}"))
    rows = rows.view(np.uint8).reshape(height, -1)
    rows = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)
    parts = [_SIGNATURE, _chunk(b"IHDR", header)]
    if pixel_nm is not None:
        parts.append(_chunk(b"tEXt", b"pixel_nm\x00" + f"{pixel_nm:g}".encode()))
    parts.append(_chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)))
    parts.append(_chunk(b"IEND", b""))
    return b"".join(parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
