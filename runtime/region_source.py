"""A part of the camera's image analysed live, while the raw data keep all of it.

    camera -> RegionSource -> frame of the region -> hand-over -> analysis
                    |
                    +-> whole frame -> recorder

Law: the results are those of a camera whose own region of interest is that region.
Coordinates stay those of the chip, per-pixel maps are cut as for any region. Only the
region's pixels are copied to the analysis, and none more than once.

At the borders the network sees what it sees at those of any image. Within `halo_px` of
them results differ from those of the whole image, further inside they are the same,
provided that the region begins on the network's grid (`snapped`).

Design notes: a source around a source and a recorder around a recorder, so the pipeline
and its hand-over know nothing of it, and a run without a region has nothing more to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from blinkloop.errors import DeviceError, InputError
from blinkloop.runtime.protocols import FrameSource, Recorder
from blinkloop.runtime.records import Frame, Gap, Roi
from blinkloop.runtime.tiling import grid_px
from blinkloop.schema import Architecture

__all__ = ["RegionSource", "WholeRecorder", "snapped"]


def snapped(region: Roi, image: Roi, architecture: Architecture) -> Roi:
    """The region that is analysed in place of the one asked for; most often the same.

    Its first pixel is moved to the nearest one on which the network's strides begin
    when it sees the whole image. Its size grows to whole strides, as far as the image
    goes: these pixels would be made up and computed otherwise, so they cost nothing.

    Parameters
    ----------
    region
        What is asked for, chip coordinates.
    image
        What the camera gives.
    architecture
        Of the network.

    Raises
    ------
    InputError
        The region is empty, leaves the image, or is too small for the network.
    """
    _check_inside(region, image)
    least = grid_px(architecture)
    # An image that is small itself can be analysed whole, however small it is.
    if region.width < min(least, image.width) or region.height < min(
        least, image.height
    ):
        raise InputError(
            f"the region of {_words(region)} is too small for this network, which "
            f"needs {least} x {least} px; give a larger one"
        )
    stride = architecture.size_multiple
    x, width = _on_grid(region.x - image.x, region.width, image.width, stride)
    y, height = _on_grid(region.y - image.y, region.height, image.height, stride)
    return Roi(image.x + x, image.y + y, width, height)


def _on_grid(start: int, size: int, most: int, stride: int) -> tuple[int, int]:
    """First pixel and length along one axis, px of the image; never shorter."""
    first = (start + stride // 2) // stride * stride
    if most - first < size:
        first = start // stride * stride
    return first, min(-(-size // stride) * stride, most - first)


def _check_inside(region: Roi, image: Roi) -> None:
    if image.common(region) != region:
        raise InputError(
            f"the region of {_words(region)} is not inside the image, which is "
            f"{_words(image)}; give a part of it, in px of the camera chip"
        )


def _words(roi: Roi) -> str:
    return f"{roi.width} x {roi.height} px (width x height) from ({roi.x}, {roi.y})"


class RegionSource:
    """Gives a region of every frame of a source; implements `FrameSource`.

    Pixels are a view of the source's: nothing is copied here.

    Parameters
    ----------
    source
        The camera. Started and stopped through this object.
    region
        Part of its image, chip coordinates; see `snapped`.

    Raises
    ------
    InputError
        The region is empty or leaves the image.
    """

    def __init__(self, source: FrameSource, region: Roi) -> None:
        self._source = source
        self._image = image = source.roi
        _check_inside(region, image)
        self._region = region
        y, x = region.y - image.y, region.x - image.x
        self._part = slice(y, y + region.height), slice(x, x + region.width)
        self._whole: Frame | None = None
        self._refused = 0

    @property
    def roi(self) -> Roi:
        """The region."""
        return self._region

    @property
    def image(self) -> Roi:
        """What the camera gives."""
        return self._image

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the source."""
        return self._source.dtype

    @property
    def lost(self) -> int:
        """Of the source, and the frame that was refused, if one was."""
        return self._source.lost + self._refused

    @property
    def frame_timeout_s(self) -> float | None:
        """Of the source, if it ends by itself when no frame comes."""
        timeout_s: float | None = getattr(self._source, "frame_timeout_s", None)
        return timeout_s

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
        """The region of every frame.

        Raises
        ------
        DeviceError
            A frame does not show the announced image: the same place in it would be
            another one on the chip.
        """
        image, part, region = self._image, self._part, self._region
        shape = (image.height, image.width)
        for frame in self._source.frames():
            if frame.pixels.shape != shape or frame.roi != image:
                self._refused += 1
                raise DeviceError(
                    f"frame {frame.index} has shape {frame.pixels.shape} and shows "
                    f"{_words(frame.roi)}, but the source announced {_words(image)}; "
                    f"keep the camera's region of interest fixed during a run"
                )
            self._whole = frame
            yield replace(frame, pixels=frame.pixels[part], roi=region)

    def whole(self, index: int) -> Frame:
        """The whole frame of which the region was given last.

        Parameters
        ----------
        index
            Its number. As its pixels may be reused, no other one can be had.
        """
        frame = self._whole
        if frame is None or frame.index != index:
            last = None if frame is None else frame.index
            raise ValueError(f"frame {index} is gone; the last one is {last}")
        return frame


class WholeRecorder:
    """Keeps the whole frames of a source whose region is analysed; a `Recorder`.

    Parameters
    ----------
    recorder
        For frames of the size of the image.
    source
        Gives their regions.
    """

    def __init__(self, recorder: Recorder, source: RegionSource) -> None:
        self._recorder = recorder
        self._source = source

    def open(self, meta: Mapping[str, Any]) -> None:
        """Facts of the run, with the size of what is kept here."""
        image = self._source.image
        size = {
            "width_px": image.width,
            "height_px": image.height,
            "roi_px": [image.x, image.y, image.width, image.height],
        }
        self._recorder.open({**meta, **size})

    def put(self, frame: Frame) -> None:
        """Keep the frame of which this is the region."""
        self._recorder.put(self._source.whole(frame.index))

    def mark(self, gap: Gap) -> None:
        """Of the recorder."""
        self._recorder.mark(gap)

    def close(self, meta: Mapping[str, Any]) -> Sequence[str]:
        """Of the recorder."""
        return self._recorder.close(meta)

    def discard(self) -> None:
        """Of the recorder."""
        self._recorder.discard()

    def summary(self) -> Mapping[str, Any]:
        """Of the recorder, and what was analysed of the frames it kept."""
        roi = self._source.roi
        analysed = [roi.x, roi.y, roi.width, roi.height]
        return {**self._recorder.summary(), "analysed_roi_px": analysed}
