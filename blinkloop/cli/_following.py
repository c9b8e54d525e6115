"""`run --watch`: a movie that another program writes, instead of a camera of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blinkloop.cli._options import FiniteRange
from blinkloop.cli._output import note
from blinkloop.errors import InputError

if TYPE_CHECKING:
    from blinkloop.integrations.growing import GrowingSource
    from blinkloop.runtime import PipelineSettings

__all__ = ["Following", "following_options"]

_FIRST_FRAME_S = 60.0


@dataclass(frozen=True, slots=True)
class Following:
    """What a person said of a movie to follow.

    Parameters
    ----------
    path
        The movie; None = a camera is used.
    timeout_s
        It has ended when no frame came for so long.
    marker
        It has ended when this file exists.
    """

    path: Path | None
    timeout_s: float
    marker: Path | None

    def refuse(self, **camera_options: Any) -> None:
        """Refuse options that need a camera of ours beside `--watch`.

        Raises
        ------
        InputError
            One of them is given; its name is that of the keyword.
        """
        given = [
            f"--{name.replace('_', '-')}"
            for name, value in camera_options.items()
            if value not in (None, ())
        ]
        if self.path is not None and given:
            raise InputError(
                f"--watch follows a movie that another program records, so there is no "
                f"camera or laser of ours for {', '.join(given)}; leave them out"
            )

    def open(self) -> GrowingSource:
        """Wait for the first frame."""
        from blinkloop.integrations.growing import GrowingSource, open_growing

        assert self.path is not None
        note(f"waiting for the first frame of {self.path}")
        movie = open_growing(self.path, wait_s=max(_FIRST_FRAME_S, self.timeout_s))
        return GrowingSource(movie, timeout_s=self.timeout_s, marker=self.marker)

    @staticmethod
    def settings() -> PipelineSettings:
        """Frames wait on the disk, so none needs to be skipped."""
        from blinkloop.runtime import PipelineSettings

        return PipelineSettings(wait=True, stall_abort_s=None)


def following_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--watch` and its companions; the command gets them as `following`."""
    from functools import wraps

    @click.option(
        "--watch",
        type=click.Path(path_type=Path),
        help="Follow a TIFF, NDTiff or Zarr movie another program writes.",
    )
    @click.option(
        "--watch-timeout",
        type=FiniteRange(0, min_open=True),
        default=10.0,
        show_default=True,
        help="It has ended after so many seconds without a frame.",
    )
    @click.option(
        "--watch-marker",
        type=click.Path(path_type=Path),
        help="It has ended when this file exists.",
    )
    @wraps(command)
    def wrapped(
        *args: Any,
        watch: Path | None,
        watch_timeout: float,
        watch_marker: Path | None,
        **more: Any,
    ) -> Any:
        if watch is None and watch_marker is not None:
            raise InputError("--watch-marker needs --watch; name the movie to follow")
        following = Following(watch, watch_timeout, watch_marker)
        return command(*args, following=following, **more)

    return wrapped
