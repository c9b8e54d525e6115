"""Movies of the Zhuang lab's programs: pixels in `name.dax`, facts in `name.inf`.

The `.inf` text has lines `key = value`; used are `frame dimensions = W x H`, `number of
frames`, `data type = 16 bit integers (binary, big endian)` (or little endian), and
`x_start`, `y_start` (from 1), the first pixel on the chip. See the readers of
https://github.com/ZhuangLab/storm-analysis.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from blinkloop.errors import InputError
from blinkloop.integrations.movies.blocks import BlockMovie, whole_frames

__all__ = ["DaxMovie", "is_dax"]


def is_dax(path: Path, head: bytes) -> bool:
    """Whether the ending says so: the pixels have no mark of their own."""
    return path.suffix.lower() == ".dax"


class DaxMovie(BlockMovie):
    """A `.dax` file described by the `.inf` file of the same name.

    Parameters
    ----------
    path
        The `.dax` file.

    Raises
    ------
    InputError
        When the description is missing or does not say the size of the frames.
    """

    def __init__(self, path: Path) -> None:
        beside = path.with_suffix(".inf")
        if not beside.is_file():
            raise InputError(
                f"{path.name}: its description {beside.name} is missing, so size and "
                f"type of the frames are not known; copy both files"
            )
        text = beside.read_text(encoding="utf-8", errors="replace")
        size = _find(r"frame dimensions\s*=\s*(\d+)\s*x\s*(\d+)", text)
        if size is None or 0 in (width := int(size[1]), height := int(size[2])):
            raise InputError(
                f"{beside.name} does not say the size of the frames (a line 'frame "
                f"dimensions = 256 x 256'); correct it"
            )
        kind = _find(r"data type\s*=\s*(.*)", text)
        said = kind[1].strip() if kind else ""
        if kind is not None and "16 bit" not in said.lower():
            raise InputError(
                f"{beside.name}: pixels are {said}, but a .dax holds 16 bit integers; "
                f"save the movie as TIFF"
            )
        order = _find(r"\b(little|big)\b", said)
        if order is None:
            # Either is written by someone; a guess would be wrong 256-fold.
            raise InputError(
                f"{beside.name} does not say the order of the bytes; add the line "
                f"'data type = 16 bit integers (binary, little endian)', or big endian"
            )
        stored = np.dtype("<u2" if order[1].lower() == "little" else ">u2")
        count = _find(r"number of frames\s*=\s*(\d+)", text)
        there = whole_frames(path.stat().st_size, 0, height * width * 2)
        # A recording that was stopped may still say 0 frames.
        frames = int(count[1]) if count and int(count[1]) else there
        super().__init__(path, (frames, height, width), stored)
        self._more = there - frames
        starts = (_find(rf"\b{a}_start\s*=\s*(\d+)", text) for a in "xy")
        x, y = (max(int(s[1]) - 1, 0) if s else 0 for s in starts)
        self._origin = (x, y)

    @property
    def origin(self) -> tuple[int, int]:
        """Column and row of the first pixel on the chip."""
        return self._origin

    def notes(self) -> tuple[str, ...]:
        """Says when the file holds more frames than its description."""
        if self._more < 1:
            return ()
        return (
            f"{self._name}: holds {self._more} frames more than the {self.n_frames} "
            f"that its .inf tells of; these are left out",
        )


def _find(pattern: str, text: str) -> re.Match[str] | None:
    return re.search(pattern, text, re.IGNORECASE)
