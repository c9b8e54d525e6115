"""What the metadata of a TIFF file say of the camera.

OME-TIFF: `Pixels/@PhysicalSizeX` (micrometres unless `PhysicalSizeXUnit` says so) and
`TiffData` (which page of which file is which plane); see
https://docs.openmicroscopy.org/ome-model/. ImageJ: `unit` in the description and the
resolution tag (pixels per unit). Micro-Manager: the JSON record of each page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

__all__ = ["OmePlanes", "camera_facts", "chip_origin", "imagej_images", "ome_planes"]

_NM = {
    "nm": 1.0,
    "µm": 1e3,
    "μm": 1e3,
    "um": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "\\u00b5m": 1e3,
    "mm": 1e6,
}


@dataclass(frozen=True, slots=True)
class OmePlanes:
    """Planes of an OME image in order: (file or "", page within the file) each."""

    channels: int
    planes: tuple[tuple[str, int], ...]


def camera_facts(tags: Mapping[int, Any]) -> dict[str, Any]:
    """Arguments of `CameraSettings` that the first page knows.

    Parameters
    ----------
    tags
        `TiffDirectory.first_tags`.

    Returns
    -------
    dict
        Any of `pixel_size_nm`, `exposure_ms`, `bit_depth`.
    """
    facts: dict[str, Any] = {}
    description = str(tags.get(270, ""))
    pixel = _imagej_pixel(description, tags)
    pixels = _ome_pixels(description)
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


def ome_planes(tags: Mapping[int, Any]) -> OmePlanes | None:
    """Order of the planes of the first OME image; None when it is not stated.

    Planes are sorted by time, then z, as far as `TiffData` places them.
    """
    pixels = _ome_pixels(str(tags.get(270, "")))
    if pixels is None:
        return None
    channels = int(_number(pixels.get("SizeC")) or 1)
    planes: list[tuple[int, int, int, str, int]] = []
    for data in pixels:
        if not data.tag.endswith("TiffData"):
            continue
        file = next(
            (str(u.get("FileName", "")) for u in data if u.tag.endswith("UUID")), ""
        )
        at = [int(data.get(key, 0)) for key in ("FirstT", "FirstZ", "FirstC", "IFD")]
        if data.get("IFD") is None or int(data.get("PlaneCount", 1)) != 1:
            return OmePlanes(channels, ())
        planes.append((at[0], at[1], at[2], file, at[3]))
    planes.sort(key=lambda plane: plane[:3])
    return OmePlanes(channels, tuple((p[3], p[4]) for p in planes))


def _ome_pixels(description: str) -> ElementTree.Element | None:
    if "<OME" not in description[:4096]:
        return None
    try:
        root = ElementTree.fromstring(description.encode())
    except ElementTree.ParseError:
        return None
    return next((e for e in root.iter() if e.tag.endswith("}Pixels")), None)


def _imagej_pixel(description: str, tags: Mapping[int, Any]) -> float | None:
    if not description.startswith("ImageJ="):
        return None
    unit = re.search(r"^unit=(.*)$", description, re.MULTILINE)
    factor = _NM.get(unit[1].strip()) if unit else None
    resolution = _number(tags.get(282))
    return factor / resolution if factor and resolution else None


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
