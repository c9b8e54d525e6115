"""Movies in FITS files: one image of the primary header, frames along its third axis.

The standard is public (https://fits.gsfc.nasa.gov/fits_standard.html): cards of 80
characters in blocks of 2880 bytes up to END, then pixels, big endian, the first axis
fastest. Unsigned pixels are kept as signed ones from which BZERO was taken.

Tried with real pictures of telescopes, one frame each, against the package astropy;
movies only with files that astropy wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.integrations.movies.blocks import BlockMovie

__all__ = ["FitsMovie", "is_fits"]

_BLOCK = 2880
_CARD = 80
_MOST_BLOCKS = 1000
_TYPES = {8: ">u1", 16: ">i2", 32: ">i4", -32: ">f4", -64: ">f8"}
_ADVICE = "export the movie alone, as TIFF (16 bit, not scaled)"


def is_fits(path: Path, head: bytes) -> bool:
    """Whether a file starts as FITS files do."""
    return head.startswith(b"SIMPLE  =")


class FitsMovie(BlockMovie):
    """Frames and rows in the order of the file, though some draw the rows upwards.

    Parameters
    ----------
    path
        The FITS file.

    Raises
    ------
    InputError
        No movie in it, more than one image, scaled or compressed pixels.
    """

    def __init__(self, path: Path) -> None:
        name = path.name
        with path.open("rb") as file:
            cards = _cards(file, name)
            offset = file.tell()
            sizes = _sizes(cards, name)
            stored, self._flip = _pixel_type(cards, name)
            pixels = int(np.prod(sizes)) * stored.itemsize
            file.seek(offset + -(-pixels // _BLOCK) * _BLOCK)
            if b"XTENSION= 'IMAGE" in file.read(_CARD):
                raise InputError(
                    f"{name} holds further images behind the first, and a movie is "
                    f"one; {_ADVICE}"
                )
        width, height = sizes[:2]
        frames = int(np.prod(sizes[2:], dtype=int))
        self._cards = cards
        super().__init__(path, (frames, height, width), stored, offset=offset)

    def facts(self) -> Mapping[str, Any]:
        """Exposure time, which is in seconds by custom."""
        for key in ("EXPTIME", "EXPOSURE"):
            exposure_s = _number(self._cards.get(key))
            if exposure_s is not None and 0 < exposure_s < float("inf"):
                return {"exposure_ms": 1e3 * exposure_s}
        return {}

    def _load(self, start: int, stop: int) -> npt.NDArray[Any]:
        return self._unsigned(super()._load(start, stop))

    def _load_rows(
        self, start: int, stop: int, top: int, bottom: int
    ) -> npt.NDArray[Any]:
        return self._unsigned(super()._load_rows(start, stop, top, bottom))

    def _unsigned(self, block: npt.NDArray[Any]) -> npt.NDArray[Any]:
        # Half the range was taken away: that is the uppermost bit turned.
        return block ^ block.dtype.type(self._flip) if self._flip else block


def _cards(file: BinaryIO, name: str) -> dict[str, str]:
    """Values of the primary header by their names; the file stands behind it after."""
    cards: dict[str, str] = {}
    for _ in range(_MOST_BLOCKS):
        block = file.read(_BLOCK)
        if len(block) < _BLOCK:
            break
        for k in range(0, _BLOCK, _CARD):
            card = block[k : k + _CARD].decode("ascii", "replace")
            key = card[:8].rstrip()
            if key == "END":
                return cards
            if card[8:10] == "= ":
                cards.setdefault(key, card[10:].partition("/")[0].strip())
    raise InputError(f"{name}: the file ends within its header; copy it again")


def _sizes(cards: Mapping[str, str], name: str) -> list[int]:
    """Length of each axis, columns first."""
    try:
        axes = int(cards["NAXIS"])
        sizes = [int(cards[f"NAXIS{k + 1}"]) for k in range(axes)]
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{name}: its header does not say the sizes of its axes ({error}); copy "
            f"it again"
        ) from error
    if axes < 2:
        raise InputError(
            f"{name}: its first part holds no image (tables, several or compressed "
            f"images come behind it); {_ADVICE}"
        )
    if sum(size > 1 for size in sizes[2:]) > 1:
        raise InputError(
            f"{name} has axes of {' x '.join(map(str, sizes))}, and a movie has only "
            f"frames, rows and columns; {_ADVICE}"
        )
    return sizes


def _pixel_type(cards: Mapping[str, str], name: str) -> tuple[np.dtype[Any], int]:
    """Type in the file, and the bit to be turned for unsigned pixels."""
    bits = _number(cards.get("BITPIX"))
    stored = _TYPES.get(int(bits or 0))
    scale = _number(cards.get("BSCALE", "1"))
    zero = _number(cards.get("BZERO", "0"))
    if stored is None or scale != 1 or zero is None:
        raise InputError(
            f"{name}: pixels of BITPIX {cards.get('BITPIX')}, BSCALE "
            f"{cards.get('BSCALE', '1')} are no counts of a camera; {_ADVICE}"
        )
    dtype = np.dtype(stored)
    if zero == 0:
        return dtype, 0
    if dtype.kind == "i" and zero == 2 ** (8 * dtype.itemsize - 1):
        return np.dtype(stored.replace("i", "u")), int(zero)
    raise InputError(
        f"{name}: BZERO {cards['BZERO']} shifts its pixels, which are then no counts "
        f"of a camera; {_ADVICE}"
    )


def _number(text: str | None) -> float | None:
    try:
        return float((text or "").replace("D", "E"))
    except ValueError:
        return None
