"""TIFF movies: single and multi page, BigTIFF, ImageJ, OME (also in several files).

Design notes
------------
Pages that lie uncompressed in one run are read as plain bytes; all others are decoded
by tifffile, page by page. ImageJ writes stacks beyond 4 GB with a single directory
whose description says how many images follow one another; so does tifffile, and a
MetaMorph stack (.stk) is always such a file. Channels,
colours and pages of several sizes are refused: they are not one movie.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.extras import installed, require
from blinkloop.integrations.movies.movie import MovieBase
from blinkloop.integrations.movies.tiff_directory import (
    Page,
    TiffDirectory,
    first_directory_tags,
    read_directory,
)
from blinkloop.integrations.movies.tiff_facts import (
    camera_facts,
    chip_origin,
    imagej_channels,
    imagej_images,
    planes_and_times,
)
from blinkloop.integrations.movies.tiff_ome import (
    OmePlanes,
    continued_in,
    described_in,
    ome_planes,
)

__all__ = ["TiffMovie", "companions", "open_tiff"]

_KINDS = {1: "u", 2: "i", 3: "f"}
_PLAIN = (1, 8, 32773, 32946, 34925)
"""Compressions that tifffile decodes alone: none, Deflate, PackBits, LZMA."""


@dataclass(frozen=True, slots=True)
class _Plane:
    """One frame: byte at which it starts in its file, or (-1) the page to decode."""

    file: Path
    start: int
    page: int


def companions(path: Path) -> set[str]:
    """Names of other files that hold frames of a file's OME image."""
    if not path.is_file():  # a link to nowhere
        return set()
    ome = ome_planes(first_directory_tags(path), path.name)
    if ome is None or ome.strangers:
        return set()
    return {Path(file).name for file, _ in ome.planes if file} - {path.name}


def open_tiff(path: Path, remarks: tuple[str, ...] = ()) -> TiffMovie:
    """Open a TIFF file as a movie.

    Parameters
    ----------
    path
        The file.
    remarks
        Notes that the movie has beside its own.

    Raises
    ------
    InputError
        When it holds colours, channels, pages of several sizes, or no whole frame.
    """
    directory = read_directory(path)
    name = path.name
    if not directory.pages:
        raise InputError(
            f"{name}: the file ends before its first page (it has {directory.size} "
            f"bytes); copy it again"
        )
    # A thumbnail may come first.
    first = next(page for page in directory.pages if not page.reduced)
    _refuse_mixed(directory, first)
    _refuse_several(directory)
    stored = _pixel_type(first, directory)
    planes, damage = _planes(directory, first)
    if damage is None and all(plane.file == path for plane in planes):
        remarks += _unlisted(path, directory.first_tags)
    return TiffMovie(
        name,
        (len(planes), first.height, first.width),
        stored,
        planes,
        damage,
        directory.first_tags,
        remarks,
    )


def _unlisted(path: Path, tags: Mapping[int, Any]) -> tuple[str, ...]:
    """A remark when Micro-Manager went on in a file that this one does not tell of."""
    more = continued_in(path.name)
    known = described_in(str(tags.get(270, "")))
    if known or not more or not (path.parent / more).is_file():
        return ()
    return (
        f"{path.name}: {more} lies beside it, but its frames are not listed here, as "
        f"when a recording is interrupted; this file alone is read",
    )


class TiffMovie(MovieBase):
    """Frames of one TIFF file, or of the files of one OME-TIFF image.

    Parameters
    ----------
    name
        File, for messages.
    shape
        Frames, rows, columns.
    stored
        Pixel type in the file.
    planes
        Where each frame lies.
    damage
        Why there should have been more frames, or None.
    tags
        Descriptive tags of the first page.
    remarks
        Notes beside those of the tags.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, int, int],
        stored: np.dtype[Any],
        planes: Iterable[_Plane],
        damage: str | None,
        tags: Mapping[int, Any],
        remarks: tuple[str, ...] = (),
    ) -> None:
        super().__init__(name, shape, stored, damage=damage)
        self._stored = stored
        self._planes = tuple(planes)
        self._tags = tags
        self._remarks = remarks
        self._files: dict[Path, BinaryIO] = {}
        self._decoders: dict[Path, Any] = {}

    @property
    def origin(self) -> tuple[int, int]:
        """Column and row on the chip, when Micro-Manager recorded them."""
        return chip_origin(self._tags)

    def notes(self) -> tuple[str, ...]:
        """Says when it is a part, and when frames are of several planes and times."""
        notes = list(self._remarks)
        whole = described_in(str(self._tags.get(270, "")))
        if whole:
            notes.append(
                f"{self._name}: a part of a recording, the frames of which are listed "
                f"in {whole}; give that file for all of them"
            )
        planes, times = planes_and_times(self._tags, self._name)
        if min(planes, times) > 1:
            notes.append(
                f"{self._name}: {planes} planes (z) at {times} times, read as "
                f"{self.n_frames} frames in the order of the file"
            )
        return tuple(notes)

    def facts(self) -> Mapping[str, Any]:
        """Pixel size, exposure, bit depth, as far as the file knows them."""
        return camera_facts(self._tags, self._name)

    def close(self) -> None:
        """Close all files."""
        for file in (*self._files.values(), *self._decoders.values()):
            file.close()
        self._files.clear()
        self._decoders.clear()

    def _load(self, start: int, stop: int) -> npt.NDArray[Any]:
        return self._load_rows(start, stop, 0, self.height)

    def _load_rows(
        self, start: int, stop: int, top: int, bottom: int
    ) -> npt.NDArray[Any]:
        block = np.empty((stop - start, bottom - top, self.width), self._stored)
        for i in range(start, stop):
            plane = self._planes[i]
            try:
                if plane.start >= 0:
                    block[i - start] = self._plain(plane, top, bottom)
                else:
                    block[i - start] = self._decoded(plane)[top:bottom]
            except InputError:
                raise
            except Exception as error:  # decoders raise whatever they like
                raise self._broken(i, f"{type(error).__name__}: {error}") from error
        return block

    def _plain(self, plane: _Plane, top: int, bottom: int) -> npt.NDArray[Any]:
        if plane.file not in self._files:
            self._files[plane.file] = plane.file.open("rb")
        file = self._files[plane.file]
        file.seek(plane.start + top * self.width * self._stored.itemsize)
        pixels = np.fromfile(file, self._stored, (bottom - top) * self.width)
        return pixels.reshape(bottom - top, self.width)

    def _decoded(self, plane: _Plane) -> npt.NDArray[Any]:
        if plane.file not in self._decoders:
            tifffile = require("tifffile", "Reading compressed TIFF movies", "io")
            self._decoders[plane.file] = tifffile.TiffFile(plane.file)
        page = self._decoders[plane.file].pages[plane.page]
        try:
            pixels: npt.NDArray[Any] = page.asarray()
        except Exception as error:
            # tifffile lacks some decoders without saying so in one kind of error.
            plain = page.compression in _PLAIN and page.predictor in (1, 2)
            if plain or installed("imagecodecs"):
                raise
            how = page.compression.name
            if page.compression in _PLAIN:
                how += f" and predictor {page.predictor.name}"
            raise InputError(
                f"{self._name} is compressed with {how}, which needs the package "
                f"imagecodecs; install it with: pip install imagecodecs"
            ) from error
        return pixels


def _refuse_several(directory: TiffDirectory) -> None:
    """One channel, and one image: not the positions of a multi-point recording."""
    name, tags = directory.path.name, directory.first_tags
    ome = ome_planes(tags, name) or OmePlanes(1, ())
    channels = max(ome.channels, imagej_channels(tags))
    if channels > 1:
        raise InputError(
            f"{name} has {channels} channels; split them and give the channel of the "
            f"localizations (ImageJ: Image > Color > Split Channels); slices or frames "
            f"that were saved as channels: Image > Hyperstacks > Re-order Hyperstack"
        )
    if ome.images > 1:
        raise InputError(
            f"{name} has {ome.images} images (positions, or repeats), and a movie is "
            f"one; save each as a file of its own"
        )


def _planes(directory: TiffDirectory, first: Page) -> tuple[list[_Plane], str | None]:
    """All frames that lie whole in the file, and what is missing."""
    run = _single_run(directory, first)
    if run is not None:
        return run
    ome = ome_planes(directory.first_tags, directory.path.name)
    if ome is not None and any(
        file not in ("", directory.path.name) for file, _ in ome.planes
    ):
        return _several_files(directory, ome.planes, first)
    planes: list[_Plane] = []
    damage = None
    for number, page in enumerate(directory.pages):
        if page.reduced:
            continue
        if page.end > directory.size:
            damage = f"the file ends within frame {len(planes)}"
            break
        planes.append(_Plane(directory.path, page.start, number))
    if damage is None and directory.broken:
        damage = (
            f"the file ends after {len(planes)} frames, where its directory says more "
            f"follow"
        )
    if damage is None and ome is not None and len(ome.strangers) > 1:
        damage = (
            f"its description names other files ({', '.join(ome.strangers[:3])}), so "
            f"it was renamed, and which frames are in the others is not known"
        )
    promised = imagej_images(directory.first_tags)
    if damage is not None and promised > len(planes):
        damage += f"; it should hold {promised}"
    return planes, damage


def _single_run(
    directory: TiffDirectory, first: Page
) -> tuple[list[_Plane], str | None] | None:
    """Frames of a file whose one directory stands for many; None for other files."""
    metamorph = int(directory.first_tags.get(33629, 1))
    promised = max(imagej_images(directory.first_tags), metamorph)
    if metamorph > 1 and first.start < 0:
        raise InputError(
            f"{directory.path.name} is a compressed MetaMorph stack of {metamorph} "
            f"planes, of which blinkloop knows the first only; save it as TIFF, one "
            f"page for each frame"
        )
    if first.start < 0 or promised <= len(directory.pages):
        return None
    frame_bytes = first.end - first.start
    if frame_bytes < 1:
        return None
    end = first.start + promised * frame_bytes
    # A directory between the frames means that each page has its own.
    if directory.next_offset and directory.next_offset < end:
        return None
    if len(directory.pages) > 1:
        return None
    there = min(promised, max(0, directory.size - first.start) // frame_bytes)
    damage = None
    if there < promised:
        damage = f"the file ends after {there} of {promised} frames"
    return [
        _Plane(directory.path, first.start + i * frame_bytes, 0) for i in range(there)
    ], damage


def _several_files(
    directory: TiffDirectory, listed: tuple[tuple[str, int], ...], first: Page
) -> tuple[list[_Plane], str | None]:
    """Frames of an OME image whose planes are spread over files."""
    known = {directory.path.name: directory}
    planes: list[_Plane] = []
    for name, number in listed:
        if name not in known:
            # Only names beside the opened file are followed.
            path = directory.path.parent / Path(name).name
            if not path.is_file():
                return planes, (
                    f"{name}, which holds the frames from {len(planes)} on, is missing"
                )
            known[name] = read_directory(path)
            _refuse_mixed(known[name], first)
        pages = known[name].pages
        if number >= len(pages) or pages[number].end > known[name].size:
            return planes, f"{name} ends before its page {number}"
        planes.append(_Plane(known[name].path, pages[number].start, number))
    return planes, None


def _refuse_mixed(directory: TiffDirectory, first: Page) -> None:
    """One size, one type, one value per pixel."""
    name = directory.path.name
    if first.samples > 1 or first.photometric in (2, 3):
        what = "a palette" if first.photometric == 3 else f"{first.samples} colours"
        raise InputError(
            f"{name}: each pixel has {what}; a movie of a camera has one value per "
            f"pixel: save it as 16 bit greyscale (of 3 or 4 frames tifffile makes "
            f"colours without photometric='minisblack')"
        )
    for number, page in enumerate(directory.pages):
        if page.reduced:
            continue
        if (page.height, page.width) != (first.height, first.width):
            raise InputError(
                f"{name}: page {number} is {page.width} x {page.height} px, the first "
                f"{first.width} x {first.height}; a movie has one size: split the file"
            )
        if (page.samples, page.bits, page.sample_format) != (
            first.samples,
            first.bits,
            first.sample_format,
        ):
            raise InputError(
                f"{name}: page {number} has another pixel type than the first; a movie "
                f"has one type: split the file"
            )


def _pixel_type(page: Page, directory: TiffDirectory) -> np.dtype[Any]:
    kind, name = _KINDS.get(page.sample_format), directory.path.name
    if (
        kind is None
        or page.bits not in (8, 16, 32, 64)
        or (kind, page.bits) == ("f", 8)
    ):
        raise InputError(
            f"{name}: pixels of {page.bits} bits, TIFF sample format "
            f"{page.sample_format}, are not camera frames; save the movie as uint16"
        )
    # tifffile hands decoded pages out in native order; assignment converts.
    return np.dtype(f"{directory.byte_order}{kind}{page.bits // 8}")
