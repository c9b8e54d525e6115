"""Localizations where something shines all the time: beads, structure, glare.

Emitters blink. A place that is found in most frames of a movie is a fiducial, an
autofluorescent structure or a bright edge that the network takes for emitters; nothing
in a single frame tells, and the table is full of them.

Measured, 200 frames of 97 x 131 px, `universal-2d`: a static filament beside a bright
cell 57 % of all localizations, two fiducials 9 %; 0 % with structured or drifting
background, clusters, 1.5 emitters per um^2, EMCCD, 200 photons.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.neighbours import grown

__all__ = ["StandingLight"]

_LEAST_FRAMES, _MOST_FRAMES = 200, 1000
_OFTEN = 0.4
"""Share of the frames: emitters of dense clusters reach 0.3 within a pixel."""
_WORTH_SAYING = 0.05
"""Share of all localizations."""


class StandingLight:
    """Counts in how many frames each pixel holds a localization.

    The first frames of a region are taken, as many as a thousand; a new region begins
    anew, unless these were enough.

    Parameters
    ----------
    removed
        Static light was taken out of the frames already.
    """

    def __init__(self, *, removed: bool = False) -> None:
        self._removed = removed
        self._frames = 0
        self._region: tuple[int, int, int, int] | None = None
        self._with: npt.NDArray[np.int32] = np.zeros((0, 0), np.int32)
        self._rows = self._with

    @property
    def enough(self) -> bool:
        """No further frames are needed."""
        return self._frames >= _MOST_FRAMES

    def add(
        self,
        rows: npt.NDArray[np.void],
        region: tuple[int, int, int, int],
        frames: int,
    ) -> None:
        """Take the localizations of some frames.

        Parameters
        ----------
        rows
            (n,) of `LOCALIZATION_DTYPE`, all of whole frames.
        region
            x, y, width, height in px of the chip.
        frames
            How many frames they are of.
        """
        if self.enough:
            return
        x, y, width, height = region
        if region != self._region:
            if self._frames >= _LEAST_FRAMES:
                return
            self._region, self._frames = region, 0
            self._with = np.zeros((height, width), np.int32)
            self._rows = np.zeros((height, width), np.int32)
        self._frames += frames
        column = np.clip(np.rint(rows["x_px"] - x), 0, width - 1).astype(np.int64)
        row = np.clip(np.rint(rows["y_px"] - y), 0, height - 1).astype(np.int64)
        place = row * width + column
        np.add.at(self._rows.reshape(-1), place, 1)
        once = np.unique(rows["frame"] * (width * height) + place) % (width * height)
        np.add.at(self._with.reshape(-1), once, 1)

    def share(self) -> float | None:
        """Share of the localizations at such places; None while frames are too few."""
        if self._frames < _LEAST_FRAMES:
            return None
        total = int(self._rows.sum())
        if not total:
            return 0.0
        often = self._with > _OFTEN * self._frames
        # What is found at a place scatters into the pixels beside it.
        near = grown(often, 1)
        return float(self._rows[near].sum() / total)

    def warning(self) -> str | None:
        """One line when it matters, else None."""
        share = self.share()
        if share is None or share < _WORTH_SAYING or self._region is None:
            return None
        row, column = np.unravel_index(int(np.argmax(self._with)), self._with.shape)
        x, y = self._region[0] + int(column), self._region[1] + int(row)
        advice = (
            "leave these places out"
            if self._removed
            else "--remove-static-light takes it out"
        )
        return (
            f"{100 * share:.0f} % of the localizations lie where something is found in "
            f"more than {100 * _OFTEN:.0f} % of the frames (most often at x {x}, y {y} "
            f"px): beads or static light rather than blinking emitters; {advice}"
        )

    def facts(self) -> dict[str, Any]:
        """The number behind the warning."""
        return {"standing_share": self.share()}
