"""Whether the data suit the model: range and PSF checks fed by a run as it goes."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from blinkloop.cli._hot_mask import HotPixelMask
    from blinkloop.cli._session import Session
    from blinkloop.runtime import Frame, FrameResult, FrameSource, Gap, Roi

from blinkloop.cli._hot_share import HotPixelShare
from blinkloop.cli._static_light import was_removed

__all__ = ["PixelTap", "Suitability"]

_FIRST = 100
_EVERY = 25
_WAITING, _WAITING_BYTES = 64, 8 << 20
"""Most frames kept, and their memory: 16 of 512 x 512 px, always at least one."""
_WINDOW_PX = 1024
_TOGETHER = 16
"""Frames whose localizations are counted at once: NumPy's calls cost more than rows."""
_TOGETHER_AT_FIRST = 64
"""Until the hot pixels are known, for which frames with pixels are needed."""
_LOOKS = 2
"""Frames looked at per result: those that waited for the hot pixels are many."""


class PixelTap:
    """A source that keeps copies of a few frames until their results come.

    The first frames and then every 25th; at most 64 wait, fewer of large frames, older
    ones go. Otherwise it is the source it wraps. Of large frames the middle is kept,
    1024 x 1024 px.
    """

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self._kept: OrderedDict[int, npt.NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def roi(self) -> Roi:
        """Of the source."""
        return self._source.roi

    @property
    def kept_origin(self) -> tuple[int, int]:
        """Column and row on the chip of the first pixel of what is kept."""
        roi = self._source.roi
        return roi.x + _margin(roi.width), roi.y + _margin(roi.height)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the source."""
        return self._source.dtype

    @property
    def lost(self) -> int:
        """Of the source."""
        return self._source.lost

    def camera_facts(self) -> Mapping[str, Any]:
        """Of the source."""
        return self._source.camera_facts()

    def start(self) -> None:
        """Start the source."""
        self._source.start()

    def stop(self) -> None:
        """Stop the source."""
        self._source.stop()

    def frames(self) -> Iterator[Frame]:
        """The source's frames; copies some on the way."""
        for number, frame in enumerate(self._source.frames()):
            if number < _FIRST or number % _EVERY == 0:
                height, width = frame.pixels.shape
                y, x = _margin(height), _margin(width)
                middle = frame.pixels[y : y + _WINDOW_PX, x : x + _WINDOW_PX]
                pixels = middle.copy()
                with self._lock:
                    self._kept[frame.index] = pixels
                    most = min(_WAITING, _WAITING_BYTES // pixels.nbytes)
                    if len(self._kept) > max(most, 1):
                        self._kept.popitem(last=False)
            yield frame

    def take(self, index: int) -> npt.NDArray[Any] | None:
        """The kept pixels of a frame, if it is one of the few; given out once."""
        with self._lock:
            return self._kept.pop(index, None)


def _margin(size: int) -> int:
    """Pixels left out before the middle that is kept."""
    return max((size - _WINDOW_PX) // 2, 0)


class Suitability:
    """Observer that compares a run with the model's training range and PSF.

    Hot pixels are sought in the first frames. What lies at them is left out of the
    other checks, which would take it for a wrong PSF or too many emitters.

    Parameters
    ----------
    session
        Model and camera facts in use.
    tap
        Source of pixels.
    feedback
        Whether somebody holds the density by this run.
    mask
        Replaces hot pixels before the analysis, so that they are no warning.
    """

    def __init__(
        self,
        session: Session,
        tap: PixelTap,
        *,
        feedback: bool = False,
        mask: HotPixelMask | None = None,
    ) -> None:
        from blinkloop.noise_check import NoiseCheck
        from blinkloop.optics import Camera
        from blinkloop.psf_check import PsfCheck
        from blinkloop.psf_width_check import PsfWidthCheck
        from blinkloop.range_check import TrainingRangeCheck
        from blinkloop.schema import VariedGaussianPsfSettings
        from blinkloop.standing_light import StandingLight

        card, camera = session.model.card, session.camera.settings
        self._tap = tap
        self._feedback, self._mask = feedback, mask
        self._waiting: list[FrameResult] = []
        self._first: list[tuple[npt.NDArray[Any], FrameResult]] = []
        self._unseen: deque[tuple[npt.NDArray[Any], FrameResult]] = deque()
        self._hot = HotPixelShare(camera.pixel_size_nm)
        self._camera = Camera(camera)
        self._noise = NoiseCheck(self._camera)
        self._standing = StandingLight(removed=was_removed(session.meta))
        self._range = TrainingRangeCheck(card, camera)
        self._psf: PsfCheck | PsfWidthCheck | None
        if isinstance(card.psf, VariedGaussianPsfSettings):
            self._psf = PsfWidthCheck(card.psf, camera)
        else:
            self._psf = PsfCheck.for_card(card, camera, model=session.model.path)

    def observe(self, results: Sequence[FrameResult]) -> None:
        """Take results; their pixels are fetched from the tap where it has them."""
        for result in results:
            if self._waiting and self._waiting[0].roi != result.roi:
                self._count()
            self._waiting.append(result)
            pixels = self._tap.take(result.index)
            if pixels is None:
                pass
            elif self._hot.known:
                self._unseen.append((pixels, result))
            else:
                self._first.append((pixels, result))
                if self._hot.enough([pixels for pixels, _ in self._first]):
                    self._seek()
            self._look(_LOOKS)
            enough = _TOGETHER if self._hot.known else _TOGETHER_AT_FIRST
            if len(self._waiting) >= enough:
                self._count()

    def gap(self, gap: Gap) -> None:
        """Missing frames say nothing about the others."""

    def close(self) -> None:
        """Nothing to release."""

    def summary(self) -> dict[str, Any]:
        """For the report of the run and its store: where pixels were replaced."""
        mask = self._mask
        return {} if mask is None else {"hot_pixels_masked": mask.places}

    def warnings(self) -> list[str]:
        """What lies outside, one line each; empty when the data suit the model."""
        self._catch_up()
        hot = self._hot.warning(feedback=self._feedback)
        found = [] if hot is None or self._mask is not None else [hot]
        noise = self._noise.warning()
        standing = self._standing.warning()
        found += [line for line in (noise, standing) if line is not None]
        found += [
            f"outside the model's training range: {line}"
            for line in self._range.report().warnings
        ]
        if self._psf is not None:
            line = self._psf.result().warning
            if line is not None:
                found.append(f"outside the model's training range: {line}")
        return found

    def facts(self) -> dict[str, Any]:
        """The numbers behind the warnings, for the JSON."""
        self._catch_up()
        facts: dict[str, Any] = dict(self._range.report().facts)
        facts["noise_ratio"] = self._noise.ratio()
        if self._psf is not None:
            agreement = self._psf.result()
            facts["psf_correlation"] = agreement.correlation
            facts["psf_patches"] = agreement.patches
        return {**facts, **self._standing.facts(), **self._hot.facts()}

    def _catch_up(self) -> None:
        """Take in all that waits."""
        self._count()
        self._look(len(self._unseen))

    def _seek(self) -> None:
        """Find the hot pixels of the first frames; these can be looked at then."""
        first, self._first = self._first, []
        if self._hot.known:
            return
        roi = first[0][1].roi if first else None
        self._hot.seek([pixels for pixels, _ in first], self._tap.kept_origin, roi)
        self._unseen.extend(first)

    def _look(self, most: int) -> None:
        """Compare the pixels of some frames and what was found in them."""
        for _ in range(min(most, len(self._unseen))):
            pixels, result = self._unseen.popleft()
            pixels = self._hot.repaired(pixels, result.roi)
            photons = self._camera.backward(pixels.astype(np.float32))
            self._range.add_pixels(pixels, photons)
            if not self._noise.enough:
                self._add_noise(pixels, photons, result)
            if self._psf is not None and not self._psf.enough:
                rows = result.localizations
                rows = rows[~self._hot.touched(rows, result.roi)]
                self._psf.add(photons, rows, origin=self._tap.kept_origin)

    def _add_noise(
        self,
        pixels: npt.NDArray[Any],
        photons: npt.NDArray[Any],
        result: FrameResult,
    ) -> None:
        """Give the noise check what lies in the region whose emitters are known."""
        from blinkloop.runtime import Roi

        roi, rows = result.roi, result.localizations
        left, top = self._tap.kept_origin
        height, width = photons.shape
        seen = roi.common(Roi(left, top, width, height))
        if seen is None:
            return
        row, column = seen.y - top, seen.x - left
        self._noise.add(
            result.index,
            photons[row : row + seen.height, column : column + seen.width],
            rows["x_px"] - seen.x,
            rows["y_px"] - seen.y,
            integers=bool(np.issubdtype(pixels.dtype, np.integer)),
        )

    def _count(self) -> None:
        """Take in the localizations that wait; all are of one region."""
        results, self._waiting = self._waiting, []
        if not results:
            return
        self._seek()
        roi = results[0].roi
        rows = np.concatenate([result.localizations for result in results])
        emitters = sum(result.count_mean for result in results)
        touched = self._hot.touched(rows, roi)
        region = (roi.x, roi.y, roi.width, roi.height)
        self._standing.add(rows[~touched], region, len(results))
        self._range.add(
            rows[~touched],
            frames=len(results),
            height=roi.height,
            width=roi.width,
            emitters=emitters,
            not_emitters=self._hot.count(rows, roi, len(results), emitters),
        )
