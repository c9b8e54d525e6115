"""Which pages of which files are the planes of an OME-TIFF image.

`TiffData` of the OME-XML in the first page says so, see
https://docs.openmicroscopy.org/ome-model/. Micro-Manager describes all positions in
the file of each; the image meant is the one that names the opened file.

Design notes
------------
Knows texts, no files: whether a file that is named is there is found out by `tiff.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

__all__ = ["OmePlanes", "continued_in", "described_in", "ome_pixels", "ome_planes"]


@dataclass(frozen=True, slots=True)
class OmePlanes:
    """Planes of an OME image in order: (file or "", page within the file) each.

    `images` counts the images that lie in the opened file; "" is that file. `strangers`
    are the files that are named when the opened one is not: it has been renamed.
    """

    channels: int
    planes: tuple[tuple[str, int], ...]
    images: int = 1
    strangers: tuple[str, ...] = ()


def described_in(description: str) -> str:
    """The file that describes the recording this one is a part of; "" if it is whole.

    `BinaryOnly`: Micro-Manager's second and further files, Bio-Formats' companions.
    """
    found = re.search(r'<BinaryOnly[^>]*\bMetadataFile="([^"]+)"', description[:4096])
    return found[1] if found else ""


def continued_in(name: str) -> str:
    """The file in which Micro-Manager would go on after one of that name; "" if none.

    After 4 GB, `m_MMStack_Pos0.ome.tif` is followed by `m_MMStack_Pos0_1.ome.tif`.
    """
    # Positions of a grid end in numbers, too, but in three digits: 1-Pos_000_001.
    form = r"(.*MMStack(?:_.*?)?)(?:_([1-9]\d*))?(\.ome\.tiff?)"
    found = re.fullmatch(form, name)
    if found is None:
        return ""
    return f"{found[1]}_{int(found[2] or 0) + 1}{found[3]}"


def ome_pixels(description: str, name: str = "") -> ElementTree.Element | None:
    """`Pixels` of the image in a file of that name; of the first image without one."""
    found = _images(description)
    named = [pixels for pixels in found if name in _files(pixels)]
    return next(iter(named or found), None)


def ome_planes(tags: Mapping[int, Any], name: str = "") -> OmePlanes | None:
    """Order of the planes of the image in a file; None when no OME-XML is there.

    Planes are sorted by time, then z, as far as `TiffData` places them.

    Parameters
    ----------
    tags
        `TiffDirectory.first_tags`.
    name
        Of the file they are from.
    """
    found = _images(str(tags.get(270, "")))
    if not found:
        return None
    here = [pixels for pixels in found if name in _files(pixels)]
    if not here:
        # Nobody names a file, or none of this name.
        here = [pixels for pixels in found if not any(_files(pixels))]
    strangers: tuple[str, ...] = ()
    if not here:
        strangers = tuple(sorted({file for pixels in found for file in _files(pixels)}))
        here = found
    pixels = here[0]
    channels = int(pixels.get("SizeC", "1") or 1)
    planes: list[tuple[int, int, int, str, int]] = []
    for data in _data(pixels):
        at = [int(data.get(key, 0)) for key in ("FirstT", "FirstZ", "FirstC", "IFD")]
        if data.get("IFD") is None or int(data.get("PlaneCount", 1)) != 1:
            planes = []
            break
        planes.append((at[0], at[1], at[2], _file(data), at[3]))
    planes.sort(key=lambda plane: plane[:3])
    listed = tuple((p[3], p[4]) for p in planes)
    if strangers:
        # One name for all: this file under its old name. Else its place is unknown.
        listed = tuple(("", p) for _, p in listed) if len(strangers) == 1 else ()
    return OmePlanes(channels, listed, 1 if strangers else len(here), strangers)


def _images(description: str) -> list[ElementTree.Element]:
    if "<OME" not in description[:4096]:
        return []
    try:
        root = ElementTree.fromstring(description.encode())
    except (ElementTree.ParseError, LookupError, ValueError):  # or no known encoding
        return []
    return [e for e in root.iter() if e.tag.endswith("}Pixels")]


def _data(pixels: ElementTree.Element) -> list[ElementTree.Element]:
    return [e for e in pixels.iter() if e.tag.endswith("}TiffData")]


def _file(data: ElementTree.Element) -> str:
    return next((str(u.get("FileName", "")) for u in data if "UUID" in u.tag), "")


def _files(pixels: ElementTree.Element) -> set[str]:
    return {_file(data) for data in _data(pixels)}
