"""A camera behind Pycro-Manager whose acquisition is ours.

    blocks of events -> Acquisition -> image processor -> PycroSource -> frames

Design notes
------------
* The acquisition's image processor is the fast way in: over the bridge 465 to 538
  frames/s of 512 x 512, where popping frames one by one gives 170.
* It returns None, so that the acquisition keeps no image: one that keeps them in
  memory fills it.
* The laser is not in the events: a list of them is merged into one hardware sequence,
  and its properties are ignored. `LaserGuard` sets it from its own thread.
* An acquisition needs its events beforehand, so an open-ended run asks for blocks of
  them, the next one while the last one runs. Between two blocks the camera stops and
  starts again.
* What goes wrong in the acquisition is raised from `frames`, in one line.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from blinkloop.errors import DeviceError, InputError
from blinkloop.extras import require
from blinkloop.integrations.micromanager.device import CameraDevice
from blinkloop.integrations.micromanager.facts import (
    check_exposure,
    one_line,
    select_camera,
)
from blinkloop.integrations.micromanager.ring import ring_size, set_ring
from blinkloop.integrations.pycromanager.backend import wait_without_spinning
from blinkloop.integrations.pycromanager.core import CamelCore
from blinkloop.integrations.pycromanager.source import PycroSource
from blinkloop.runtime.records import Frame

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["PycroCamera", "refuse_running"]

_BLOCK_S, _LEAST_BLOCK, _MOST_BLOCK = 30.0, 100, 5000
_RING_S, _RING_MB = 2.0, 1024.0
_LOOK_S = 0.02
_SILENCE_S = 2.0
_END_S = 5.0
_OVERFLOW = "buffer overflow"
_EVENTS_FINISHED = "acq_events_finished"


def refuse_running(core: CamelCore) -> None:
    """Raise `DeviceError` when the camera runs already; nothing is touched."""
    if core.isSequenceRunning():
        raise DeviceError(
            f"camera {core.getCameraDevice()!r} is already running; stop the other "
            f"acquisition or live view first"
        )


class PycroCamera(CameraDevice):
    """Frame source that runs an acquisition of its own, of either backend.

    Parameters
    ----------
    core
        What `connect` or `start_python_backend` gave.
    camera
        Device label; None = the core's current camera.
    n_frames
        Frames to take; None = until `stop`.
    exposure_ms
        Set before the run; None = leave as it is.
    block_frames
        Frames asked for at a time; None = 30 s of them, 100 to 5000.
    relay_mb
        Memory between the acquisition's thread and the run's, in MiB.

    Raises
    ------
    InputError
        No such camera; RGB, several channels, or pixels of more than 16 bit.
    DeviceError
        The camera does not answer.
    """

    def __init__(
        self,
        core: CamelCore,
        *,
        camera: str | None = None,
        n_frames: int | None = None,
        exposure_ms: float | None = None,
        block_frames: int | None = None,
        relay_mb: float = 256.0,
    ) -> None:
        if n_frames is not None and n_frames < 1:
            raise InputError(f"number of frames must be positive, got {n_frames}")
        self._core = core
        named: Any = core
        label = select_camera(named, camera)
        if exposure_ms is not None:
            try:
                core.setExposure(float(exposure_ms))
                taken_ms = float(named.getExposure())
            except Exception as error:  # any adapter may raise anything
                raise DeviceError(
                    f"the exposure of {exposure_ms:g} ms was refused "
                    f"({one_line(error)}); check that the camera is switched on"
                ) from error
            check_exposure(label, exposure_ms, taken_ms)
        self._source = PycroSource(core, relay_mb=relay_mb)
        self._camera = self._source.camera
        self._roi, self._dtype = self._source.roi, self._source.dtype
        exposure = float(self._source.camera_facts().get("exposure_ms", 1.0))
        wanted = math.ceil(1000 * _BLOCK_S / max(exposure, 1.0))
        self._block = block_frames or min(max(wanted, _LEAST_BLOCK), _MOST_BLOCK)
        self._n_frames = n_frames
        self._lock = threading.Lock()
        self._acquisition: Any = None
        self._runner: threading.Thread | None = None
        self._stopping = threading.Event()
        self._finished = threading.Event()
        self._taken = 0
        self._lost_in_ring = 0

    @property
    def lost(self) -> int:
        """Frames known to be lost after the last one delivered."""
        return self._source.lost + self._lost_in_ring

    @property
    def relay_dropped(self) -> int:
        """Frames that found no room between the acquisition's thread and ours."""
        return self._source.relay_dropped

    def camera_facts(self) -> Mapping[str, Any]:
        """Facts the core knows, as keyword arguments of `CameraSettings`."""
        return self._source.camera_facts()

    def start(self) -> None:
        """Begin the acquisition; `DeviceError` when it does not begin. Once."""
        with self._lock:
            if self._runner is not None or self._stopping.is_set():
                return
            refuse_running(self._core)
            module = require("pycromanager", "Pycro-Manager", "pycromanager")
            more = {} if self._core.port is None else {"port": self._core.port}
            self._source.start()
            try:
                if self._core.port is None:
                    self._set_ring()
                else:
                    wait_without_spinning()
                self._acquisition = module.Acquisition(
                    directory=None,
                    name="blinkloop",
                    image_process_fn=self._take,
                    notification_callback_fn=self._notified,
                    show_display=False,
                    **more,
                )
            except Exception as error:
                raise DeviceError(
                    f"Pycro-Manager did not begin the acquisition ({one_line(error)}); "
                    f"check that Micro-Manager and pycromanager are of the same year"
                ) from error
            self._runner = threading.Thread(
                target=self._run, name="blinkloop-acquisition", daemon=True
            )
            self._runner.start()

    def frames(self) -> Iterator[Frame]:
        """Yield frames until the number asked for, `stop`, or a failure.

        Raises
        ------
        DeviceError
            The acquisition ended with an error, or frames of another size, place or
            exposure came.
        """
        self.start()
        try:
            yield from self._source.frames()
        finally:
            self.stop()

    def stop(self) -> None:
        """End the acquisition; from any thread, any number of times.

        Raises
        ------
        DeviceError
            It does not end; the frames do.
        """
        self._stopping.set()
        with self._lock:
            runner = self._runner
        if runner is None:
            self._source.end()
            return
        runner.join(_END_S)
        if runner.is_alive():
            error = DeviceError(
                f"the acquisition of camera {self.camera!r} did not end within "
                f"{_END_S:g} s; stop it in Micro-Manager"
            )
            self._source.end(error)
            raise error

    def _set_ring(self) -> None:
        """2 s of whole frames; Micro-Manager's own buffer is a person's choice."""
        frame_bytes = self.roi.width * self.roi.height * self.dtype.itemsize
        period_ms = max(float(self._core.getExposure()), 1.0)
        frames = ring_size(None, _RING_S, _RING_MB, period_ms, frame_bytes)
        named: Any = self._core
        set_ring(named, self.camera, frames, frame_bytes)

    def _take(self, image: npt.NDArray[Any], metadata: dict[str, Any]) -> None:
        """The image processor: copies the frame and keeps it from being stored."""
        self._taken += 1
        self._source.process(image, metadata)

    def _notified(self, notification: Any) -> None:
        if getattr(notification, "milestone", None) == _EVENTS_FINISHED:
            self._finished.set()

    def _run(self) -> None:
        """Body of the acquisition's thread: ask for blocks, wait for the end."""
        error: DeviceError | None = None
        try:
            self._ask_for_blocks()
        except DeviceError as raised:
            # Micro-Manager has gone, so nobody can tell how the acquisition ended.
            self._source.end(raised)
            return
        except Exception as raised:  # the engines raise whatever a driver raises
            error = self._ended(one_line(raised))
        by_itself = self._finished.is_set() and not self._stopping.is_set()
        try:
            if self._stopping.is_set():
                self._acquisition.abort()
            # One that has finished tells its error only when it is asked.
            self._acquisition._check_for_exceptions()
        except Exception as raised:
            error = error or self._ended(one_line(raised))
        try:
            self._acquisition.mark_finished()
            self._acquisition.await_completion()
        except Exception as raised:
            error = error or self._ended(one_line(raised))
        with suppress(Exception):
            if self._core.isSequenceRunning():
                self._core.stopSequenceAcquisition(self.camera)
        if error is None and by_itself and self._taken != self._n_frames:
            error = self._ended("somebody stopped it")
        self._source.end(error)

    def _ask_for_blocks(self) -> None:
        asked = 0
        limit = self._n_frames
        seen, seen_s = 0, time.monotonic()
        while not self._stopping.is_set() and not self._finished.is_set():
            now = time.monotonic()
            if self._taken != seen:
                seen, seen_s = self._taken, now
            elif now - seen_s > _SILENCE_S:
                self._core.isSequenceRunning()  # raises when nobody answers
                seen_s = now
            if limit is not None and asked >= limit:
                # Not finished yet: `stop` must still be seen.
                if self._taken >= limit:
                    return
                time.sleep(_LOOK_S)
                continue
            if asked - self._taken > self._block // 2:
                time.sleep(_LOOK_S)
                continue
            size = self._block if limit is None else min(self._block, limit - asked)
            events = [{"axes": {"time": asked + k}} for k in range(size)]
            self._acquisition.acquire(events)
            asked += size

    def _ended(self, why: str) -> DeviceError:
        after = f"after {self._taken} frames" if self._taken else "before any frame"
        if _OVERFLOW not in why.lower():
            return self._source.changed() or DeviceError(
                f"the acquisition of camera {self.camera!r} ended {after} ({why}); "
                f"check cable, power and whether another program uses the camera"
            )
        # The engine looks before it pops, so the ring was full; and the frame that
        # found no room.
        with suppress(Exception):
            self._lost_in_ring = int(self._core.getBufferTotalCapacity()) + 1
        return DeviceError(
            f"the acquisition of camera {self.camera!r} ended {after}: the core's ring "
            f"was full, so the computer did not keep up; close other programs or give "
            f"Micro-Manager a larger sequence buffer"
        )
