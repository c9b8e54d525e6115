"""From frames to results: window, backend and detection rows joined.

Law: frames pushed in any chunking give the results of the whole movie pushed at once,
to the tolerance in the model card.

Design notes: knows nothing of cameras, threads, sinks or files. Results come in the
order of the frames, one frame late; `flush` returns the one still to come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import BlinkloopError, InputError
from blinkloop.runtime.backends import create_backend
from blinkloop.runtime.camera_maps import CameraMaps, make_camera_maps
from blinkloop.runtime.model import ModelFile
from blinkloop.runtime.protocols import Backend, BackendOutput, Localizer
from blinkloop.runtime.records import Frame, FrameResult, Roi
from blinkloop.runtime.window import FrameHeader, RollingWindow, WindowStep
from blinkloop.schema import DETECTION_COLUMNS, LOCALIZATION_DTYPE

__all__ = ["StreamLocalizer", "check_frame", "frame_results", "localize_movie"]

_Span = tuple[np.dtype[Any], slice, slice]


def _spans() -> list[_Span]:
    """Columns that follow each other in detections and localizations: copied at once.

    Type, columns of a localization as numbers of that type, columns of a detection.
    """
    spans: list[_Span] = []
    for name, (kind, offset, *_) in (LOCALIZATION_DTYPE.fields or {}).items():
        if name not in DETECTION_COLUMNS:
            continue
        to, source = offset // kind.itemsize, DETECTION_COLUMNS.index(name)
        first_to, first_source = to, source
        if spans and (spans[-1][0], spans[-1][1].stop, spans[-1][2].stop) == (
            kind,
            to,
            source,
        ):
            _, before_to, before_source = spans.pop()
            first_to, first_source = before_to.start, before_source.start
        spans.append((kind, slice(first_to, to + 1), slice(first_source, source + 1)))
    return spans


_SPANS = _spans()
_DOUBLES = LOCALIZATION_DTYPE.itemsize // 8


def check_frame(frame: Frame) -> None:
    """Refuse pixels that cannot be analysed."""
    pixels, roi = frame.pixels, frame.roi
    if pixels.ndim != 2 or 0 in pixels.shape:
        raise InputError(
            f"frame {frame.index} has shape {pixels.shape}; expected one grey image "
            f"(height, width)"
        )
    if pixels.shape != (roi.height, roi.width):
        raise InputError(
            f"frame {frame.index} is {pixels.shape[1]} x {pixels.shape[0]} px (width x "
            f"height) but its region of interest says {roi.width} x {roi.height}"
        )
    kind, size = pixels.dtype.kind, pixels.dtype.itemsize
    if (kind, size) not in (("u", 1), ("u", 2), ("f", 4)):
        raise InputError(
            f"frame {frame.index} has pixels of type {pixels.dtype}; the network takes "
            f"raw camera counts as uint8, uint16 or float32; convert the movie"
        )
    if kind == "f":
        bad = int(np.count_nonzero(~np.isfinite(pixels)))
        if bad:
            raise InputError(
                f"frame {frame.index} has {bad} pixels that are NaN or infinite; the "
                f"network would spread them over their surroundings; replace them by "
                f"the camera's baseline"
            )


class StreamLocalizer:
    """Localizes frames as they come; implements `Localizer`.

    Parameters
    ----------
    model
        The model file.
    backend
        A loaded backend, or the name of one; "auto" takes the best one here.
    maps
        Camera maps of the chip, cropped here to each region; default: the maps of the
        card's camera.
    threshold
        Detection threshold in (0, 1); default: the card's. A loaded backend already
        has one.
    threads
        Threads of a backend created here; default: all CPUs this process may use.
    max_frames_per_call
        Longer pushes are cut into calls of this many frames, to bound the memory.

    Raises
    ------
    InputError
        The model, backend or threshold cannot be used.
    """

    def __init__(
        self,
        model: ModelFile,
        backend: Backend | str = "auto",
        maps: CameraMaps | None = None,
        *,
        threshold: float | None = None,
        threads: int | None = None,
        max_frames_per_call: int = 64,
    ) -> None:
        self._maps = make_camera_maps(model.card.camera) if maps is None else maps
        if isinstance(backend, str):
            backend = create_backend(
                backend, model, self._maps, threshold=threshold, threads=threads
            )
        elif threshold is not None or threads is not None:
            raise ValueError("a loaded backend already has its threshold and threads")
        self._backend = backend
        self._window = RollingWindow(max_frames_per_call)
        self._seen_roi: Roi | None = None
        self._input_THW = np.empty((0, 0, 0), np.float32)

    @property
    def backend_name(self) -> str:
        """Name of the backend in use."""
        return self._backend.name

    def push(self, frames: Sequence[Frame]) -> list[FrameResult]:
        """Take some frames, return the results that are ready.

        A jump in frame numbers or a new region of interest ends a segment, whose last
        frame is then returned too. Pixels are not kept after the call.

        Raises
        ------
        InputError
            A frame cannot be used. None of `frames` was taken then: results before
            them were returned, and `flush` still returns the one that is due.
        DeviceError
            The backend failed. The open segment is lost; the next frame begins one.
        """
        for frame in frames:
            check_frame(frame)
            if frame.roi is not self._seen_roi:
                self._maps.crop(frame.roi)
                self._seen_roi = frame.roi
        return self._run(self._window.push(frames), frames)

    def flush(self) -> list[FrameResult]:
        """End the segment and return its last frame, if one is due."""
        return self._run(self._window.flush(), ())

    def close(self) -> None:
        """Release the backend."""
        self._window.reset()
        self._backend.close()

    def _run(
        self, steps: Sequence[WindowStep], frames: Sequence[Frame]
    ) -> list[FrameResult]:
        results: list[FrameResult] = []
        try:
            for step in steps:
                output = self._step(step, frames)
                results += frame_results(step.rows, output)
        except BaseException:
            # The window is ahead of the backend now, so the segment cannot go on.
            self._window.reset()
            raise
        return results

    def _step(self, step: WindowStep, frames: Sequence[Frame]) -> BackendOutput:
        if step.is_flush:
            # The buffer still holds the segment's last frame, at its front.
            return self._backend.step(self._input_THW[:1], segment_start=False)
        taken = frames[step.frames.start : step.frames.stop]
        if step.segment_start:
            self._backend.set_camera(self._maps.crop(taken[0].roi))
        height, width = taken[0].pixels.shape
        if self._input_THW.shape[1:] != (height, width) or (
            self._input_THW.shape[0] < len(taken)
        ):
            self._input_THW = np.empty((len(taken), height, width), np.float32)
        input_THW = self._input_THW[: len(taken)]
        for row, frame in zip(input_THW, taken, strict=True):
            row[...] = frame.pixels
        output = self._backend.step(input_THW, segment_start=step.segment_start)
        if len(taken) > 1:
            self._input_THW[0] = input_THW[-1]
        return output


def frame_results(
    rows: Sequence[FrameHeader | None], output: BackendOutput
) -> list[FrameResult]:
    """Results of the rows that describe a frame."""
    capacity = output.detections.shape[1]
    if len(rows) == 1:  # live, one frame at a time: nothing to join or to cut
        header = rows[0]
        if header is None:
            return []
        count = int(output.counts[0])
        make = partial(_table, output.detections[0, :count], header)
        return [_result(header, make, output, 0, full=count > capacity)]
    kept = [number for number, header in enumerate(rows) if header is not None]
    headers = [header for header in rows if header is not None]
    if not headers:
        return []
    counts = output.counts.tolist()
    lengths = [min(counts[row], capacity) for row in kept]
    filled = [
        output.detections[row, :length]
        for row, length in zip(kept, lengths, strict=True)
    ]
    # All rows of one call lie in one region, except the row before a new segment,
    # which is never in the same call.
    table = _localizations(np.concatenate(filled), headers[0].roi)
    stops = list(accumulate(lengths))
    parts = [
        table[stop - length : stop] for stop, length in zip(stops, lengths, strict=True)
    ]
    for part, header in zip(parts, headers, strict=True):
        part["frame"] = header.index
    return [
        _result(header, part, output, row, full=counts[row] > capacity)
        for row, header, part in zip(kept, headers, parts, strict=True)
    ]


def _localizations(detections: npt.NDArray[np.float32], roi: Roi) -> npt.NDArray[Any]:
    """Rows (n, 11) of the network as (n,) of a table, without frame numbers."""
    doubles = np.empty((len(detections), _DOUBLES))
    for kind, to, source in _SPANS:
        doubles.view(kind)[:, to] = detections[:, source]
    table = doubles.view(LOCALIZATION_DTYPE)[:, 0]
    if roi.x or roi.y:
        table["x_px"] += roi.x
        table["y_px"] += roi.y
    return table


def _table(
    detections: npt.NDArray[np.float32], header: FrameHeader
) -> npt.NDArray[Any]:
    """Rows (n, 11) of one frame as (n,) of a table."""
    table = _localizations(detections, header.roi)
    table["frame"] = header.index
    return table


def _result(
    header: FrameHeader,
    table: npt.NDArray[Any] | Callable[[], npt.NDArray[Any]],
    output: BackendOutput,
    row: int,
    *,
    full: bool,
) -> FrameResult:
    return FrameResult(
        index=header.index,
        timestamp_s=header.timestamp_s,
        roi=header.roi,
        segment=header.segment,
        localizations=table,
        table_full=full,
        count_mean=float(output.count_mean[row]),
        count_variance=float(output.count_variance[row]),
        block_mean=output.block_mean[row],
    )


def localize_movie(
    frames: Iterable[Frame], localizer: Localizer, *, batch: int = 16
) -> Iterator[FrameResult]:
    """Results of a whole movie, one by one, never holding more than a batch.

    Parameters
    ----------
    frames
        The movie; may reuse the pixels of a frame once the next one is taken.
    localizer
        Used, flushed, not closed.
    batch
        Frames handed over at once.

    Raises
    ------
    BlinkloopError
        What `frames` or the localizer raised, after the results of every frame before
        the fault.
    """
    if batch < 1:
        raise InputError(f"the batch must be at least 1 frame, got {batch}")
    waiting: list[Frame] = []
    try:
        for frame in frames:
            waiting.append(replace(frame, pixels=frame.pixels.copy()))
            if len(waiting) == batch:
                results = localizer.push(waiting)
                waiting = []
                yield from results
        results = localizer.push(waiting)
        waiting = []
        yield from results
        yield from localizer.flush()
    except BlinkloopError:
        yield from _before_fault(localizer, waiting)
        raise


def _before_fault(
    localizer: Localizer, waiting: Sequence[Frame]
) -> Iterator[FrameResult]:
    """Results of the frames before the one at fault."""
    # What is suppressed first is the fault itself, which the caller is about to raise.
    with suppress(BlinkloopError):
        for frame in waiting:
            yield from localizer.push([frame])
    # A backend that failed has no last frame to give.
    with suppress(BlinkloopError):
        yield from localizer.flush()
