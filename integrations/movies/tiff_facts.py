"""What the metadata of a TIFF file say of the camera.

OME-TIFF: `Pixels/@PhysicalSizeX` (micrometres unless `PhysicalSizeXUnit` says so), see
https://docs.openmicroscopy.org/ome-model/. ImageJ: `unit` in the description and the
resolution tag (pixels per unit). Micro-Manager: the JSON record of each page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from blinkloop.integrations.movies.tiff_ome import ome_pixels

__all__ = [
    "camera_facts",
    "chip_origin",
    "imagej_channels",
    "imagej_images",
    "planes_and_times",
]

_NM = {
    "nm": 1.0,
    "µm": 1e3,
    "μm": 1e3,
    "um": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "\\u00b5m": 1e3,
    "mm": 1e6,
    "cm": 1e7,
}


def camera_facts(tags: Mapping[int, Any], name: str = "") -> dict[str, Any]:
    """Arguments of `CameraSettings` that the first page knows.

    Parameters
    ----------
    tags
        `TiffDirectory.first_tags`.
    name
        Of the file: an OME description may tell of images in other files, too.

    Returns
    -------
    dict
        Any of `pixel_size_nm`, `exposure_ms`, `bit_depth`.
    """
    facts: dict[str, Any] = {}
    description = str(tags.get(270, ""))
    pixel = _imagej_pixel(description, tags)
    pixels = ome_pixels(description, name)
    if pixels is not None:
        size = _number(pixels.get("PhysicalSizeX"))
        factor = _NM.get(pixels.get("PhysicalSizeXUnit", "µm"))
        if size and factor:
            pixel = size * factor
        bits = _number(pixels.get("SignificantBits"))
        if bits and bits <= 16:
            facts["bit_depth"] = int(bits)
    record = _micro_manager(tags)
    size = _number(record.get("PixelSizeUm", record.get("PixelSize_um")))
    if size:
        pixel = size * 1e3
    exposure = _number(record.get("Exposure-ms"))
    if exposure:
        facts["exposure_ms"] = exposure
    bits = _number(record.get("BitDepth"))
    if bits and bits <= 16:
        facts["bit_depth"] = int(bits)
    if pixel:
        facts["pixel_size_nm"] = pixel
    return facts


def chip_origin(tags: Mapping[int, Any]) -> tuple[int, int]:
    """Column and row of the first pixel on the chip, from Micro-Manager's record."""
    match = re.fullmatch(r"(\d+)-(\d+)-\d+-\d+", str(_micro_manager(tags).get("ROI")))
    return (int(match[1]), int(match[2])) if match else (0, 0)


def imagej_channels(tags: Mapping[int, Any]) -> int:
    """Colour channels of an ImageJ hyperstack; 1 when it does not say.

    When all images are channels it is a stack whose writer did not say what they are.
    """
    text = str(tags.get(270, ""))
    if not text.startswith("ImageJ="):
        return 1
    match = re.search(r"^channels=(\d+)", text, re.MULTILINE)
    channels = int(match[1]) if match else 1
    return 1 if channels == imagej_images(tags) else channels


def planes_and_times(tags: Mapping[int, Any], name: str = "") -> tuple[int, int]:
    """Planes along z and times of a hyperstack of ImageJ or OME; 1 each if not said.

    Parameters
    ----------
    tags
        `TiffDirectory.first_tags`.
    name
        Of the file, as for `camera_facts`.
    """
    text = str(tags.get(270, ""))
    if text.startswith("ImageJ="):
        found = (
            re.search(rf"^{axis}=(\d+)", text, re.MULTILINE)
            for axis in ("slices", "frames")
        )
        planes, times = (int(match[1]) if match else 1 for match in found)
        return planes, times
    pixels = ome_pixels(text, name)
    if pixels is None:
        return 1, 1
    sizes = (_number(pixels.get(key)) or 1 for key in ("SizeZ", "SizeT"))
    planes, times = (int(size) for size in sizes)
    return planes, times


def imagej_images(tags: Mapping[int, Any]) -> int:
    """Images an ImageJ or tifffile description promises; 1 when there is none."""
    text = str(tags.get(270, ""))
    if text.startswith("ImageJ="):
        match = re.search(r"^images=(\d+)", text, re.MULTILINE)
        return int(match[1]) if match else 1
    if text.startswith('{"shape":'):
        try:
            shape = json.loads(text)["shape"]
            images = 1
            for n in shape[:-2]:
                images *= int(n)
            return images
        except (ValueError, TypeError, KeyError):
            return 1
    return 1


def _imagej_pixel(description: str, tags: Mapping[int, Any]) -> float | None:
    if not description.startswith("ImageJ="):
        return None
    unit = re.search(r"^unit=(.*)$", description, re.MULTILINE)
    factor = _unit_nm(unit[1]) if unit else None
    resolution = _number(tags.get(282))
    return factor / resolution if factor and resolution else None


def _unit_nm(name: str) -> float | None:
    """A unit in nm; ImageJ writes the micro sign as an escape or in Latin 1."""
    text = (
        name.strip().replace("\\u00B5", "µ").replace("\N{REPLACEMENT CHARACTER}", "µ")
    )
    return _NM.get(text, _NM.get(text.lower()))


def _micro_manager(tags: Mapping[int, Any]) -> Mapping[str, Any]:
    try:
        record = json.loads(tags.get(51123, "{}"))
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _number(value: Any) -> float | None:
    """A finite number above 0, or None: 0 means "not set" in these files."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < float("inf") else None
