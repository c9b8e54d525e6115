"""Frames of a Pycro-Manager acquisition, taken by its image processor.

    source = PycroSource(core)
    with Acquisition(..., image_process_fn=source.process,
                     notification_callback_fn=source.notify) as acquisition:
        acquisition.acquire(events)

Design notes
------------
* The acquisition belongs to its owner. `process` runs on its thread: it copies into a
  bounded relay, hands the image on unchanged and returns. An exception there would end
  the owner's acquisition, so what goes wrong is raised on our side, from `frames`.
* The engines write the exposure onto each frame. The core is asked for it and the ROI
  too, on our side, because over a bridge that takes some ms.
* Python and Java backend differ in how they write metadata (text or numbers) and pixels
  (rows, or one flat array); both are read. Tested with the Python backend; the Java
  backend takes the same way but was not tested with Micro-Manager Studio.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from blinkloop.errors import DeviceError
from blinkloop.integrations.micromanager.device import CameraDevice
from blinkloop.integrations.micromanager.facts import camera_facts, one_line
from blinkloop.integrations.micromanager.numbering import FrameNumbering
from blinkloop.integrations.micromanager.ring import image_format
from blinkloop.integrations.micromanager.watch import SettingsWatch
from blinkloop.integrations.pushed import PushRelay, relay_frames
from blinkloop.integrations.pycromanager.core import CamelCore
from blinkloop.runtime.records import Frame

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["PycroSource"]

_SINK_FINISHED = "data_sink_finished"
_EXPOSURE = "Exposure"


class PycroSource(CameraDevice):
    """Frame source fed by `Acquisition(image_process_fn=source.process)`.

    Ends when the acquisition tells `notify` that its last image was handed on, or at
    `stop`.

    Parameters
    ----------
    core
        `pycromanager.Core()`, or what `connect` gave.
    relay_mb
        Memory between the acquisition's thread and the run's, in MiB.

    Raises
    ------
    InputError
        RGB, several channels, or pixels of more than 16 bit.
    DeviceError
        The camera does not answer.
    """

    def __init__(self, core: Any, *, relay_mb: float = 256.0) -> None:
        named: Any = core if isinstance(core, CamelCore) else CamelCore(core)
        try:
            self._camera = str(named.getCameraDevice())
            self._roi, self._dtype = image_format(named, self._camera)
            exposure_ms = float(named.getExposure())
        except (OSError, RuntimeError) as error:
            raise DeviceError(
                f"the camera of Pycro-Manager does not answer ({one_line(error)}); "
                f"check that it is switched on"
            ) from error
        self._facts = camera_facts(named, self._camera)
        self._relay = PushRelay(
            self._roi, self._dtype, relay_frames(self._roi, self._dtype, relay_mb)
        )
        self._numbering = FrameNumbering(max(exposure_ms, 1.0))
        self._watch = SettingsWatch(named, self._camera, self._roi)
        self._constant: dict[str, Any] | None = None
        self._last_time: int | None = None
        self._started_s: float | None = None
        self._lock = threading.Lock()

    @property
    def lost(self) -> int:
        """Frames known to be lost after the last one delivered."""
        return self._relay.dropped_at_end

    @property
    def relay_dropped(self) -> int:
        """Frames that found no room between the acquisition's thread and ours."""
        return self._relay.dropped

    def camera_facts(self) -> Mapping[str, Any]:
        """Facts the core knows, as keyword arguments of `CameraSettings`."""
        return dict(self._facts)

    def start(self) -> None:
        """Time stamps count from here. Harmless twice."""
        with self._lock:
            if self._started_s is None:
                self._started_s = time.monotonic()

    def frames(self) -> Iterator[Frame]:
        """Yield frames until the acquisition ends or `stop`.

        Raises
        ------
        DeviceError
            Frames of another size, pixel type, channel, position or exposure came.
        """
        self.start()
        try:
            for frame in self._relay.frames():
                self._watch.look()
                yield frame
        finally:
            self.stop()

    def stop(self) -> None:
        """Take no more frames; the acquisition goes on. From any thread."""
        self.end()

    def end(self, error: BaseException | None = None) -> None:
        """Take no more frames; `frames` raises `error` after those that wait."""
        self._relay.end(error)

    def process(
        self, image: npt.NDArray[Any], metadata: dict[str, Any]
    ) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        """The acquisition's `image_process_fn`: copies the image and hands it on."""
        if not self._relay.ended:
            self.start()
            now_s = time.monotonic() - (self._started_s or 0.0)
            try:
                pixels = self._pixels(np.asarray(image), metadata)
                self._watch.frame(pixels.shape, metadata, _exposure_ms(metadata))
                index = self._number(metadata, now_s)
            except BaseException as error:  # the owner's acquisition must go on
                self._relay.end(error)
            else:
                self._relay.push(index, now_s, pixels)
        return image, metadata

    def notify(self, notification: Any) -> None:
        """The acquisition's `notification_callback_fn`: ends the frames with it."""
        if getattr(notification, "milestone", None) == _SINK_FINISHED:
            # They may be fewer than planned because the camera stopped at another ROI.
            self._relay.end(self._watch.ended())

    def changed(self) -> DeviceError | None:
        """What somebody changed of the camera's image, and so may have stopped it."""
        return self._watch.ended()

    def _pixels(
        self, image: npt.NDArray[Any], metadata: Mapping[str, Any]
    ) -> npt.NDArray[Any]:
        rows = max(1, int(metadata.get("Height", self._roi.height)))
        if image.ndim == 1 and image.size % rows == 0:
            image = image.reshape(rows, -1)
        # Java has no unsigned numbers; the bits are the same.
        if image.dtype.kind == "i" and image.dtype.itemsize == self._dtype.itemsize:
            image = image.view(self._dtype)
        return image

    def _number(self, metadata: Mapping[str, Any], now_s: float) -> int:
        """Index of a frame from the core's number, or from the time axis."""
        axes = dict(metadata.get("Axes") or metadata.get("axes") or {})
        time_index = axes.pop("time", None)
        if self._constant is None:
            self._constant = axes
        elif axes != self._constant:
            raise DeviceError(
                f"the acquisition's axes other than time change ({axes} after "
                f"{self._constant}), which is not one movie; acquire one channel and "
                f"one position at a time"
            )
        numbering = self._numbering
        number = metadata.get("ImageNumber")
        boundary = number is None
        if number is not None:
            # No cleared ring: the engines stop at an overflow. The clock cannot tell:
            # they put that of the acquisition in place of the camera's.
            boundary = numbering.falls(int(number))
        if boundary:
            numbering.restart()
        index = numbering.index(0 if number is None else int(number), now_s * 1000)
        if boundary and time_index is not None and self._last_time is not None:
            # Within a sequence numbers tell; between two only the plan can.
            skipped = int(time_index) - self._last_time - 1
            if skipped > 0:
                numbering.skip(skipped)
                index += skipped
        if time_index is not None:
            self._last_time = int(time_index)
        return index


def _exposure_ms(metadata: Mapping[str, Any]) -> float | None:
    """Of a frame, as its engine wrote it down; None when it did not."""
    with suppress(KeyError, TypeError, ValueError):
        return float(metadata[_EXPOSURE])
    return None
