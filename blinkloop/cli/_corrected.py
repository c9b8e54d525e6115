"""Frames changed on the way to the network, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from blinkloop.cli._session import Session
    from blinkloop.runtime import Frame, FrameResult, Localizer

__all__ = ["CorrectedLocalizer", "Correction", "corrected"]


class Correction(Protocol):
    """Changes frames."""

    def applied(self, frame: Frame) -> Frame:
        """The frame, with a copy of its pixels when they change."""
        ...


class CorrectedLocalizer:
    """A localizer that gets corrected frames; implements `Localizer`.

    The frames it is given stay as they are, for whoever else keeps them.

    Parameters
    ----------
    localizer
        Gets the frames.
    correction
        Applied to each.
    """

    def __init__(self, localizer: Localizer, correction: Correction) -> None:
        self._localizer = localizer
        self._correction = correction

    def push(self, frames: Sequence[Frame]) -> list[FrameResult]:
        """As many frames go on as come."""
        return self._localizer.push(
            [self._correction.applied(frame) for frame in frames]
        )

    def flush(self) -> list[FrameResult]:
        """Of the localizer."""
        return self._localizer.flush()

    def close(self) -> None:
        """Close the localizer."""
        self._localizer.close()


def corrected(
    session: Session, correction: Correction, facts: Mapping[str, Any]
) -> Session:
    """A session whose localizer gets corrected frames, and whose results say so."""
    return replace(
        session,
        localizer=CorrectedLocalizer(session.localizer, correction),
        meta={**session.meta, **facts},
    )
