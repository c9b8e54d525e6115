"""`--roi` of live verbs: only a part of the camera's image is analysed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from blinkloop.cli._output import note

if TYPE_CHECKING:
    from blinkloop.runtime import FrameSource, Roi
    from blinkloop.schema import ModelCard

    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # not generic before click 8.4

__all__ = ["ROI_KEY", "Part", "analysed", "roi_meta", "roi_option", "smaller_part"]

ROI_KEY = "analysed_roi_px"
"""In the facts of a run: x, y, width, height on the chip; no key = the whole image."""

_HEADROOM = 0.7
"""Of the pixels that were followed: small frames cost more per pixel than large ones,
and some time must be left over."""
_STEP_PX, _LEAST_PX = 16, 32


@dataclass(frozen=True, slots=True)
class Part:
    """The part of an image that a person wants analysed.

    Parameters
    ----------
    width, height
        In px.
    corner
        Column and row of its first pixel on the chip; None = in the middle.
    """

    width: int
    height: int
    corner: tuple[int, int] | None = None

    def within(self, image: Roi, card: ModelCard) -> Roi:
        """What is analysed of an image; said, as it may not be exactly what was asked.

        Raises
        ------
        InputError
            It leaves the image or is too small for the network.
        """
        from blinkloop.errors import InputError
        from blinkloop.runtime import Roi, snapped

        x, y = self.corner or (
            image.x + (image.width - self.width) // 2,
            image.y + (image.height - self.height) // 2,
        )
        asked = Roi(x, y, self.width, self.height)
        try:
            roi = snapped(asked, image, card.architecture)
        except InputError as error:
            raise InputError(f"--roi {self}: {error}") from error
        if roi == image:
            return roi
        moved = "" if roi == asked else f" (--roi {self}, on the network's grid)"
        note(
            f"only a part is analysed: {roi.width} x {roi.height} px from ({roi.x}, "
            f"{roi.y}){moved}, of {image.width} x {image.height} px"
        )
        return roi

    def __str__(self) -> str:
        """As it is written on the command line."""
        if self.corner is None:
            return f"center:{self.height}x{self.width}"
        return f"{self.corner[0]},{self.corner[1]},{self.width},{self.height}"


class _Part(_ParamType):
    """X,Y,W,H in px of the chip, or center:HxW."""

    name = "x,y,w,h|center:hxw"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Part:
        """Part of a text; a part stays as it is."""
        if isinstance(value, Part):
            return value
        text = re.sub(r"\s", "", str(value).lower())
        middle = re.fullmatch(r"cent(?:er|re):(\d+)x(\d+)", text)
        if middle:
            part = Part(int(middle[2]), int(middle[1]))
        else:
            numbers = re.fullmatch(r"(\d+),(\d+),(\d+),(\d+)", text)
            if numbers is None:
                self.fail(
                    f"{value!r}: give X,Y,WIDTH,HEIGHT in whole px of the camera chip, "
                    f"such as 128,64,256,256, or center:HEIGHTxWIDTH"
                )
            x, y, width, height = (int(number) for number in numbers.groups())
            part = Part(width, height, (x, y))
        if min(part.width, part.height) < 1:
            self.fail(f"{value!r} has no pixel; give a width and a height from 1")
        return part


_F = TypeVar("_F", bound=Callable[..., Any])


def roi_option(function: _F) -> _F:
    """Add `--roi`; the verb gets `roi: Part | None`."""
    return click.option(
        "--roi",
        type=_Part(),
        metavar="X,Y,W,H|center:HxW",
        help="Analyse only this part of the image, px of the camera chip; --raw keeps "
        "all of it. Default: whole frames.",
    )(function)


def analysed(source: FrameSource, part: Part | None, model: Path) -> FrameSource:
    """The source of the part of its image that is analysed; itself for all of it."""
    from blinkloop.runtime import RegionSource, read_card

    if part is None:
        return source
    roi = part.within(source.roi, read_card(model))
    return source if roi == source.roi else RegionSource(source, roi)


def roi_meta(source: FrameSource) -> dict[str, Any]:
    """Facts of a run: what was analysed, and of which image; none for all of it."""
    from blinkloop.runtime import RegionSource

    if not isinstance(source, RegionSource):
        return {}
    return {
        name: [roi.x, roi.y, roi.width, roi.height]
        for name, roi in ((ROI_KEY, source.roi), ("camera_roi_px", source.image))
    }


def smaller_part(width: int, height: int, share: float) -> str | None:
    """A part of the image this computer can follow, as `--roi` takes it.

    Parameters
    ----------
    width, height
        Of what was analysed, px.
    share
        Of its frames that were analysed in time.

    Returns
    -------
    str or None
        None when even the smallest part would be too large.
    """
    scale = math.sqrt(_HEADROOM * share)
    sides = [int(scale * side) // _STEP_PX * _STEP_PX for side in (height, width)]
    if min(sides) < _LEAST_PX:
        return None
    return f"center:{sides[0]}x{sides[1]}"
