"""Frames of an MDA that somebody else runs on the same core (pymmcore-plus).

Design notes
------------
* The acquisition belongs to its owner (napari-micromanager, pymmcore-gui, a script):
  nothing here starts, pauses or cancels it, and `stop` only stops listening.
* `frameReady` is called on the thread that pops frames from the core's ring. A slow
  callback there ends the owner's run with an overflow, and an exception in it is only
  logged. So the callback copies into a bounded relay and returns; what goes wrong is
  raised on our side, from `frames`.
* Frames of a hardware sequence carry the core's numbers, snapped ones do not (each is
  waited for, so none can be lost between them). Frames missing at the end of a
  sequence show in the events' time index.
* Another exposure or ROI ends our frames as it ends a camera's of ours, whoever changed
  it, the MDA's own plan included: what comes then is another movie.
* Whether numbers that start again mean a new sequence or a cleared ring is told by the
  camera's clock: it starts again with a sequence, and goes on when a ring is cleared.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from blinkloop.errors import DeviceError, InputError
from blinkloop.integrations.micromanager.device import CameraDevice
from blinkloop.integrations.micromanager.facts import (
    camera_facts,
    one_line,
    select_camera,
)
from blinkloop.integrations.micromanager.numbering import FrameNumbering
from blinkloop.integrations.micromanager.ring import image_format, ring_size, set_ring
from blinkloop.integrations.micromanager.watch import SettingsWatch
from blinkloop.integrations.pushed import PushRelay, relay_frames
from blinkloop.runtime.records import Frame

if TYPE_CHECKING:
    import numpy.typing as npt
    from pymmcore_plus import CMMCorePlus

__all__ = ["MdaSource"]


class MdaSource(CameraDevice):
    """Frame source that listens to the next MDA of a core, or to the one that runs.

    Ends when that MDA ends. `start` may be called early (in a handler of
    `sequenceStarted`, say): frames wait in the relay until `frames` is iterated.

    Parameters
    ----------
    core
        The core whose `mda` is listened to.
    select
        Axis -> index of the frames wanted, e.g. ``{"c": 1}``; other frames are passed
        over. Axes other than time that are not named must not change.
    relay_mb
        Memory between the MDA's thread and the run's, in MiB.
    ring_seconds
        The core's ring is enlarged to bridge so long a stall, in s, unless a sequence
        runs already; a ring that holds more is left as it is, but for cameras written
        in Python, whose ring must be a whole number of frames.

    Raises
    ------
    InputError
        No camera; RGB, several channels, or pixels of more than 16 bit; `select` names
        the time axis.
    DeviceError
        The camera does not answer.
    """

    def __init__(
        self,
        core: CMMCorePlus,
        *,
        select: Mapping[str, int] | None = None,
        relay_mb: float = 256.0,
        ring_seconds: float = 2.0,
    ) -> None:
        self._select = dict(select or {})
        if "t" in self._select:
            raise InputError(
                "frames are taken at all times, so select cannot name the axis 't'; "
                "name others, e.g. {'c': 0}"
            )
        self._core = core
        self._camera = select_camera(core)
        try:
            self._roi, self._dtype = image_format(core, self._camera)
            exposure_ms = float(core.getExposure())
        except InputError:
            raise
        except Exception as error:  # any adapter may raise anything
            raise DeviceError(
                f"camera {self._camera!r} does not answer ({one_line(error)}); check "
                "that it is switched on"
            ) from error
        self._facts = camera_facts(core, self._camera)
        self._ring_seconds = ring_seconds
        self._period_ms = max(exposure_ms, 1.0)
        self._relay = PushRelay(
            self._roi, self._dtype, relay_frames(self._roi, self._dtype, relay_mb)
        )
        self._numbering = FrameNumbering(self._period_ms)
        self._watch = SettingsWatch(core, self._camera, self._roi)
        self._passed_over = 0
        self._constant: dict[str, int] | None = None
        self._last_t: int | None = None
        self._missing_at_end = 0
        self._started_s: float | None = None
        self._lock = threading.Lock()
        self._listening = False

    @property
    def lost(self) -> int:
        """Frames known to be lost after the last one delivered."""
        return self._missing_at_end + self._relay.dropped_at_end

    @property
    def relay_dropped(self) -> int:
        """Frames that found no room between the MDA's thread and ours."""
        return self._relay.dropped

    @property
    def estimated(self) -> int:
        """Of the lost frames those whose number only the camera's clock tells."""
        return self._numbering.estimated

    def camera_facts(self) -> Mapping[str, Any]:
        """Facts the core knows, as keyword arguments of `CameraSettings`."""
        return dict(self._facts)

    def start(self) -> None:
        """Listen from now on. Harmless twice."""
        with self._lock:
            if self._listening or self._relay.ended:
                return
            self._listening = True
            self._started_s = time.monotonic()
        if not self._core.isSequenceRunning():
            self._set_ring()
        events = self._core.mda.events
        events.frameReady.connect(self._on_frame)
        events.sequenceFinished.connect(self._on_finished)

    def frames(self) -> Iterator[Frame]:
        """Yield frames until the MDA ends or `stop`.

        Raises
        ------
        DeviceError
            The MDA ended with an error, or frames of another size, pixel type, channel,
            position or exposure came.
        """
        self.start()
        try:
            yield from self._relay.frames()
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop listening; the MDA goes on. From any thread, any number of times."""
        with self._lock:
            listening, self._listening = self._listening, False
        if listening:
            events = self._core.mda.events
            for signal, slot in (
                (events.frameReady, self._on_frame),
                (events.sequenceFinished, self._on_finished),
            ):
                # Qt raises when the other side is gone already.
                with suppress(Exception):
                    signal.disconnect(slot)
        self._relay.end()

    def _set_ring(self) -> None:
        core, frame_bytes = self._core, self._frame_bytes
        now = int(core.getBufferTotalCapacity())
        wanted = ring_size(
            None, self._ring_seconds, 1024.0, self._period_ms, frame_bytes
        )
        is_python = getattr(core, "isPyDevice", None)
        python = is_python is not None and is_python(self._camera)
        if python or now < wanted:
            set_ring(core, self._camera, max(now, wanted), frame_bytes)

    @property
    def _frame_bytes(self) -> int:
        return self._roi.width * self._roi.height * self._dtype.itemsize

    def _on_frame(
        self, pixels: npt.NDArray[Any], event: Any, meta: Mapping[str, Any]
    ) -> None:
        """Called on the MDA's thread: number the frame, copy it, return."""
        if self._relay.ended:
            return
        now_s = time.monotonic() - (self._started_s or 0.0)
        try:
            tags = meta.get("camera_metadata") or {}
            index = self._number(event, tags, now_s)
            if index is not None:
                self._watch.frame(pixels.shape, tags, meta.get("exposure_ms"))
                self._watch.look()
        except BaseException as error:  # the owner's acquisition must go on
            self._relay.end(error)
            return
        if index is not None:
            self._relay.push(index, now_s, pixels)

    def _number(self, event: Any, tags: Mapping[str, Any], now_s: float) -> int | None:
        """Index of a frame; None when it is not wanted."""
        axes = {str(axis): int(i) for axis, i in dict(event.index).items()}
        time_index = axes.pop("t", None)
        wanted = all(axes.get(axis) == i for axis, i in self._select.items())
        numbering = self._numbering
        number = tags.get("ImageNumber")
        boundary = False
        if number is None:
            numbering.restart()
            boundary = True
            at = numbering.index(0, now_s * 1000)
        else:
            elapsed_ms = float(tags.get("ElapsedTime-ms", now_s * 1000))
            if numbering.began_again(int(number), elapsed_ms):
                numbering.restart()
                boundary = True
            at = numbering.index(int(number), elapsed_ms)
        if not wanted:
            self._passed_over += 1
            return None
        self._check_axes(axes)
        if boundary and time_index is not None and self._last_t is not None:
            # Within a sequence numbers tell; between two only the plan can.
            skipped = time_index - self._last_t - 1
            if skipped > 0:
                numbering.skip(skipped)
                at += skipped
        self._last_t = time_index
        return at - self._passed_over

    def _check_axes(self, axes: dict[str, int]) -> None:
        fixed = {axis: i for axis, i in axes.items() if axis not in self._select}
        if self._constant is None:
            self._constant = fixed
        elif fixed != self._constant:
            changed = sorted(
                axis
                for axis in fixed.keys() | self._constant.keys()
                if fixed.get(axis) != self._constant.get(axis)
            )
            names = ", ".join(repr(axis) for axis in changed)
            raise DeviceError(
                f"the MDA changes {names} between frames, which is not one movie; "
                f"choose with select, e.g. select={{{changed[0]!r}: 0}}"
            )

    def _on_finished(self, sequence: Any) -> None:
        if self._relay.ended:  # what came since then was not for us
            return
        status = self._core.mda.status
        reason = str(status.finish_reason or "completed")
        if reason == "errored":
            overflowed = False
            with suppress(Exception):
                overflowed = bool(self._core.isBufferOverflowed())
            why = "the MDA ended with an error (its own log says which)"
            if overflowed:
                # The frame that found no room; the camera exposed no more after it.
                self._missing_at_end = 1
                why = (
                    "the MDA ended because the core's ring was full: a handler of "
                    "frameReady or the disk did not keep up"
                )
            error = DeviceError(f"{why}; all frames before it were taken")
            changed = None if overflowed else self._watch.ended()
            self._relay.end(changed or error)
            return
        if reason == "completed" and self._last_t is not None:
            planned = 0
            with suppress(Exception):  # a generator of events has no plan
                planned = int(dict(sequence.sizes).get("t", 0))
            self._missing_at_end = max(0, planned - 1 - self._last_t)
        self._relay.end(self._watch.ended() if self._missing_at_end else None)
