"""What a person wants corrected in the frames before the network sees them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from blinkloop.cli._hot_mask import HotPixelMask, mask_again, masked
from blinkloop.cli._options import with_options

if TYPE_CHECKING:
    from blinkloop.cli._session import Session
    from blinkloop.integrations.movies import Movie

__all__ = ["Corrections", "correct_again", "correction_options"]


@dataclass(frozen=True, slots=True)
class Corrections:
    """Which corrections are wanted; none by default.

    Parameters
    ----------
    mask_hot_pixels
        Analyse hot pixels as the median of their neighbours.
    remove_static_light
        Take out what shines in every frame.
    """

    mask_hot_pixels: bool = False
    remove_static_light: bool = False

    @property
    def settings(self) -> dict[str, bool]:
        """Those that are wanted. No keys otherwise: older folders of fits go on."""
        wanted = {
            "mask_hot_pixels": self.mask_hot_pixels,
            "remove_static_light": self.remove_static_light,
        }
        return {name: True for name, value in wanted.items() if value}

    def of_movie(
        self, session: Session, movie: Movie, start: int, again: Callable[[], Movie]
    ) -> tuple[Session, HotPixelMask | None]:
        """For a movie that is fitted.

        Parameters
        ----------
        session
            For the frames as they are.
        movie, start
            Hot pixels are sought from this frame on.
        again
            Opens what is analysed of it once more, as somebody else reads the movie
            meanwhile; whoever gives it closes it.
        """
        mask = HotPixelMask.of_movie(movie, start) if self.mask_hot_pixels else None
        session = masked(session, mask)
        if self.remove_static_light:
            # Imported at the call: help must not wait for NumPy.
            from blinkloop.cli._static_light import movie_without_static_light

            session = movie_without_static_light(session, again())
        return session, mask

    def live(
        self, session: Session, movie: Movie | None = None
    ) -> tuple[Session, HotPixelMask | None]:
        """For a camera, or a movie that is played as one."""
        mask = None
        if self.mask_hot_pixels:
            mask = HotPixelMask() if movie is None else HotPixelMask.of_movie(movie)
        session = masked(session, mask)
        if self.remove_static_light:
            from blinkloop.cli._static_light import live_without_static_light

            session = live_without_static_light(session)
        return session, mask


def correct_again(
    session: Session, meta: Mapping[str, Any], raw: Movie, again: Callable[[], Movie]
) -> Session:
    """As in a run with these facts, for what its raw data have and it had not.

    Parameters
    ----------
    session
        For the frames as they are.
    meta
        Facts of the run.
    raw
        Its raw data.
    again
        Opens what is analysed of these once more.
    """
    from blinkloop.cli._static_light import movie_without_static_light, was_removed

    session = masked(session, mask_again(meta, raw))
    if was_removed(meta):
        session = movie_without_static_light(session, again())
    return session


def correction_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags; the verb gets one `corrections: Corrections`."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        wanted = Corrections(
            kwargs.pop("mask_hot_pixels"), kwargs.pop("remove_static_light")
        )
        return function(*args, corrections=wanted, **kwargs)

    mask = click.option(
        "--mask-hot-pixels",
        is_flag=True,
        help="Analyse hot pixels of the camera as the median of their neighbours.",
    )
    light = click.option(
        "--remove-static-light",
        is_flag=True,
        help="Take out what shines in every frame: fiducials, autofluorescent "
        "structure, edges of cells. Not where emitters are on most of the time.",
    )
    return with_options(wrapper, (mask, light))
