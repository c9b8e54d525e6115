"""Frames of a Micro-Manager camera, popped from the core's ring.

Design notes
------------
* This object owns the acquisition: it starts the sequence, is the only one that pops,
  and stops the sequence however the run ends. A second reader of the same core would
  steal frames.
* Stop on overflow is on. With it off MMCore answers an overflow by clearing its whole
  ring, and no flag says so. With it on the camera stops, what is in the ring still
  comes out without a hole, and the flag is set: data that end early and say so are
  better than data with silent holes. The ring holds seconds, and the pipeline's
  hand-over never blocks, so an overflow means the computer stood still that long.
* An open-ended run asks for 2^31 - 1 frames, because MMCore's call without a number of
  frames cannot stop on overflow. 2^31 - 1 is the largest number that every platform's
  C long holds; at 1000 frames/s it lasts 24 days.
* MMCore has no event for a new frame, so the ring is polled, when a `FrameClock` says.
* Never touches exposure, ROI or binning while the camera runs: cores accept some of
  these calls silently. Who does ends the run: what comes then is another movie.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from blinkloop.errors import DeviceError, InputError
from blinkloop.integrations.micromanager.clears import ClearCounter
from blinkloop.integrations.micromanager.device import CameraDevice
from blinkloop.integrations.micromanager.facts import (
    camera_facts,
    check_exposure,
    one_line,
    select_camera,
)
from blinkloop.integrations.micromanager.frame_clock import FrameClock
from blinkloop.integrations.micromanager.numbering import FrameNumbering
from blinkloop.integrations.micromanager.ring import image_format, ring_size, set_ring
from blinkloop.integrations.micromanager.watch import SettingsWatch
from blinkloop.runtime.records import Frame

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["MicroManagerSource"]

_ENDLESS = 2**31 - 1
_MIN_PERIOD_MS = 1.0  # shorter exposures do not make cameras faster than this


class MicroManagerSource(CameraDevice):
    """A camera of a `CMMCorePlus` (C++) or `UniMMCore` (C++ or Python) as frame source.

    Parameters
    ----------
    core
        A core with its devices loaded; see `open_core`.
    camera
        Device label; None = the core's current camera.
    n_frames
        Frames to take; None = until `stop`.
    exposure_ms
        Set before the run; None = leave as it is.
    ring_seconds
        How long a stall of the computer the core's ring can bridge, in s.
    ring_frames
        Size of the ring in frames instead.
    ring_max_mb
        Upper limit of the ring's memory in MiB; wins over `ring_seconds`.
    stop_on_overflow
        False = the core drops frames when its ring is full (live view): an overflow
        then shows as a jump in `Frame.index` and the run goes on.
    stall_timeout_s
        `DeviceError` after so long without a frame although the camera claims to run;
        None = wait for ever (external trigger). Longer exposures get 5 periods.

    Raises
    ------
    InputError
        No such camera; RGB, several channels, or pixels of more than 16 bit.
    DeviceError
        The camera does not answer.
    """

    def __init__(
        self,
        core: CMMCorePlus,
        *,
        camera: str | None = None,
        n_frames: int | None = None,
        exposure_ms: float | None = None,
        ring_seconds: float = 2.0,
        ring_frames: int | None = None,
        ring_max_mb: float = 1024.0,
        stop_on_overflow: bool = True,
        stall_timeout_s: float | None = 10.0,
    ) -> None:
        if n_frames is not None and not 0 < n_frames <= _ENDLESS:
            raise InputError(f"number of frames must be positive, got {n_frames}")
        self._core = core
        self._camera = select_camera(core, camera)
        try:
            if exposure_ms is not None:
                core.setExposure(exposure_ms)
                check_exposure(self._camera, exposure_ms, float(core.getExposure()))
            self._exposure_ms = float(core.getExposure())
            self._roi, self._dtype = image_format(core, self._camera)
        except InputError:
            raise
        except Exception as error:  # any adapter may raise anything
            raise DeviceError(
                f"camera {self._camera!r} does not answer ({one_line(error)}); check "
                "that it is switched on and not used by another program"
            ) from error
        self._facts = camera_facts(core, self._camera)
        self._n_frames = n_frames
        self._stop_on_overflow = stop_on_overflow
        self._stall_timeout_s = stall_timeout_s
        self._ring_frames = ring_size(
            ring_frames,
            ring_seconds,
            ring_max_mb,
            self._period_ms,
            self._frame_bytes,
        )
        self._lost = 0
        self._estimated = 0
        self._elapsed_ms: float | None = None
        self._started_s: float | None = None
        self._clock = FrameClock()
        self._stop_asked = threading.Event()
        self._halt_lock = threading.Lock()
        self._running = False
        self._clears = ClearCounter(core)
        self._watch = SettingsWatch(core, self._camera, self._roi)

    @property
    def lost(self) -> int:
        """Frames known to be lost after the last one delivered."""
        return self._lost

    @property
    def estimated(self) -> int:
        """Of the lost frames those whose number only the camera's clock tells."""
        return self._estimated

    @property
    def ring_frames(self) -> int:
        """Frames the core's ring holds."""
        return self._ring_frames

    @property
    def frame_timeout_s(self) -> float | None:
        """The frames end after so long without one; None = never."""
        if self._stall_timeout_s is None:
            return None
        return max(self._stall_timeout_s, 5 * self._period_ms / 1000)

    @property
    def elapsed_ms(self) -> float | None:
        """The camera's own clock (`ElapsedTime-ms`) at the last frame delivered."""
        return self._elapsed_ms

    def camera_facts(self) -> Mapping[str, Any]:
        """Facts the core knows, as keyword arguments of `CameraSettings`."""
        return dict(self._facts)

    def start(self) -> None:
        """Size the ring and start the camera; `DeviceError` when it does not start."""
        core = self._core
        with self._halt_lock:
            if self._stop_asked.is_set():
                return
            if self._running or core.isSequenceRunning():
                raise DeviceError(
                    f"camera {self._camera!r} is already running; stop the other "
                    "acquisition or live view first"
                )
            try:
                set_ring(core, self._camera, self._ring_frames, self._frame_bytes)
                self._started_s = time.monotonic()
                core.startSequenceAcquisition(
                    self._camera,
                    _ENDLESS if self._n_frames is None else self._n_frames,
                    0.0,
                    self._stop_on_overflow,
                )
                self._running = True
                self._ring_frames = int(core.getBufferTotalCapacity())
                if not self._stop_on_overflow:
                    self._clears.start(self._ring_frames * self._period_ms / 1000)
            except Exception as error:
                raise DeviceError(
                    f"camera {self._camera!r} did not start ({one_line(error)}); "
                    "check that it is switched on and not used by another program"
                ) from error

    def frames(self) -> Iterator[Frame]:
        """Yield frames until the number asked for, `stop`, or a failure.

        Frames already in the ring when `stop` is called are still delivered. Pixels
        are owned by the frame.

        Raises
        ------
        DeviceError
            The ring overflowed, the camera stopped by itself, vanished or stalled.
        """
        if self._started_s is None:
            self.start()
        numbering = FrameNumbering(self._period_ms, self._ring_frames)
        self._watch = SettingsWatch(self._core, self._camera, self._roi)
        index = -1
        failed = True
        try:
            while self._wait_for_frame(index):
                frame = self._pop(numbering)
                if frame is None:
                    continue
                index = frame.index
                yield frame
            self._check_end(index)
            failed = False
        finally:
            error = self._halt()
            if error is not None and not failed:
                raise error

    def stop(self) -> None:
        """Stop the camera; from any thread, any number of times."""
        self._stop_asked.set()
        error = self._halt()
        if error is not None:
            raise error

    @property
    def _period_ms(self) -> float:
        return max(self._exposure_ms, _MIN_PERIOD_MS)

    @property
    def _frame_bytes(self) -> int:
        return self._roi.width * self._roi.height * self._dtype.itemsize

    def _wait_for_frame(self, index: int) -> bool:
        """True when a frame waits in the ring, False when the sequence is over."""
        core = self._core
        limit_s = self.frame_timeout_s
        since = time.perf_counter()
        waited = False
        try:
            while core.getRemainingImageCount() == 0:
                # Asked before the count is read again: a last frame may arrive between
                # the two questions.
                if not core.isSequenceRunning():
                    return core.getRemainingImageCount() > 0
                now_s, waited = time.perf_counter(), True
                if limit_s is not None and now_s - since > limit_s:
                    raise DeviceError(
                        f"camera {self._camera!r} gave no frame for {limit_s:g} s "
                        f"after frame {index} although it claims to run; check cable, "
                        "power and trigger (a slow one: --frame-timeout)"
                    )
                time.sleep(self._clock.pause_s(now_s))
            self._clock.came(time.perf_counter(), waited=waited)
        except DeviceError:
            raise
        except Exception as error:
            raise self._gone(index, error) from error
        return True

    def _pop(self, numbering: FrameNumbering) -> Frame | None:
        try:
            pixels, tags = self._core.popNextImageAndMD()
            self._clears.popped()
        except IndexError:
            # Somebody else popped, or the ring was cleared: the numbers will tell.
            return None
        except Exception as error:
            raise self._gone(numbering.last, error) from error
        timestamp_s = time.monotonic() - (self._started_s or 0.0)
        number = tags.get("ImageNumber")
        if number is None:
            raise DeviceError(
                f"frames of camera {self._camera!r} carry no ImageNumber, so lost ones "
                "cannot be seen; update pymmcore to 11 or newer"
            )
        elapsed = tags.get("ElapsedTime-ms")
        # Cameras without a clock of their own: the time of the pop is good enough to
        # estimate a loss.
        elapsed_ms = timestamp_s * 1000 if elapsed is None else float(elapsed)
        self._elapsed_ms = elapsed_ms
        self._watch.frame(pixels.shape, tags)
        self._watch.look()
        rings = self._clears.take() if numbering.falls(int(number)) else None
        index = numbering.index(int(number), elapsed_ms, rings)
        self._estimated = numbering.estimated
        return Frame(
            index=index,
            timestamp_s=timestamp_s,
            pixels=pixels,
            roi=self._roi,
        )

    def _check_end(self, index: int) -> None:
        """Say why the sequence ended when nobody asked it to."""
        if self._stop_on_overflow and self._core.isBufferOverflowed():
            # The frame that found no room; the camera exposed no more after it.
            self._lost = 1
            raise DeviceError(
                f"camera {self._camera!r} stopped after frame {index}: the core's ring "
                f"of {self._ring_frames} frames was full, so the computer did not keep "
                "up; close other programs or give the ring more seconds"
            )
        if self._stop_asked.is_set():
            return
        if self._n_frames is not None and index + 1 >= self._n_frames:
            return
        raise self._watch.ended() or self._gone(index, None)

    def _gone(self, index: int, error: BaseException | None) -> DeviceError:
        where = f"after frame {index}" if index >= 0 else "before its first frame"
        why = "it ended its sequence by itself" if error is None else one_line(error)
        return DeviceError(
            f"camera {self._camera!r} stopped {where} ({why}); check cable, power and "
            "whether another program uses it"
        )

    def _halt(self) -> DeviceError | None:
        """Stop the sequence once; the error instead of raising it."""
        with self._halt_lock:
            if not self._running:
                return None
            self._running = False
            self._clears.stop()
            try:
                self._core.stopSequenceAcquisition(self._camera)
            except Exception as error:  # any adapter may raise anything
                return DeviceError(
                    f"camera {self._camera!r} could not be stopped "
                    f"({one_line(error)}); it may have been unplugged"
                )
        return None
