"""A table of localizations for the verbs that look at one: in nm, of some frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from blinkloop.cli._fit_plan import frame_range
from blinkloop.cli._options import FiniteRange, with_options
from blinkloop.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Locs", "locs_options", "read_locs"]

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Locs:
    """Localizations and what is needed to draw them.

    Parameters
    ----------
    data
        (N,) of `LOCALIZATION_DTYPE`.
    pixel_size_nm
        Of the camera, in the sample.
    meta
        Of the table.
    """

    data: npt.NDArray[np.void]
    pixel_size_nm: float
    meta: Mapping[str, Any]


def locs_options(function: _F) -> _F:
    """Add LOCS, `--frames` and `--pixel-size-nm`, as `read_locs` takes them."""
    return with_options(  # type: ignore[return-value]
        function,
        (
            click.argument("locs", type=click.Path(path_type=Path), metavar="LOCS"),
            click.option(
                "--frames",
                metavar="START:STOP",
                help="Frames to take, from 0, without STOP; default: all.",
            ),
            click.option(
                "--pixel-size-nm",
                type=FiniteRange(0, min_open=True),
                help="Pixel of the camera in nm; needed when LOCS does not say it.",
            ),
        ),
    )


def read_locs(locs: Path, frames: str | None, pixel_size_nm: float | None) -> Locs:
    """Read a table and keep some frames of it.

    Raises
    ------
    InputError
        No such table, no pixel size, or nothing in those frames.
    """
    from blinkloop.integrations.formats import read_table

    start, stop = frame_range(frames)
    table = read_table(locs, pixel_size_nm)
    size_nm = pixel_size_nm or table.meta.get("pixel_size_nm")
    if not size_nm:
        raise InputError(f"{locs} does not say its pixel size; give --pixel-size-nm")
    data = table.data
    if start is not None:
        data = data[data["frame"] >= start]
    if stop is not None:
        data = data[data["frame"] < stop]
    if not len(data):
        which = "" if frames is None else f" in frames {frames}"
        raise InputError(f"{locs} holds no localization{which}")
    return Locs(data, float(size_nm), table.meta)
