"""Bead stacks from movie files: pixels, step, pixel size, camera facts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from blinkloop.camera_facts import read_camera_file
from blinkloop.cli._bead_hyperstack import split_stacks
from blinkloop.cli._options import CameraFlags
from blinkloop.errors import InputError
from blinkloop.extras import installed

if TYPE_CHECKING:
    from blinkloop.training.calibration.bead_records import BeadStack

__all__ = ["ReadStacks", "read_stacks", "step_in_file"]

_MICROMETRES = ("um", "µm", "μm", "micron", "microns", "\\u00b5m", "\\u00B5m")
_LARGEST_BYTES = 8 << 30
_AGREE = 0.01
_UNEVEN = 0.2
_STEP, _BELIEVED_NM = "z step", 500.0
_ZARR_UNITS = {"micrometer": 1e3, "nanometer": 1.0}


@dataclass(frozen=True, slots=True)
class ReadStacks:
    """Stacks in memory, and the facts that hold for all of them."""

    stacks: list[BeadStack]
    dz_nm: float
    pixel_size_nm: float
    notes: list[str]


def read_stacks(
    paths: Sequence[Path], *, dz_nm: float | None, flags: CameraFlags
) -> ReadStacks:
    """Read bead stacks and find out their step and pixel size.

    Raises
    ------
    InputError
        When a file is no stack, or step or pixel size are not known or differ.
    """
    from blinkloop.integrations.movies import find_movies, open_movie
    from blinkloop.training.calibration.bead_records import BeadStack

    camera = _camera(flags)
    stacks, steps, sizes, notes = [], {}, {}, []
    for path in [movie for given in paths for movie in find_movies(given)]:
        with open_movie(path) as movie:
            size = movie.n_frames * movie.height * movie.width * 8
            if size > _LARGEST_BYTES:
                raise InputError(
                    f"{path}: {movie.n_frames} slices of {movie.width} x "
                    f"{movie.height} px are too large for a bead stack; cut out the "
                    f"part with beads"
                )
            if movie.damage:
                raise InputError(
                    f"{path}: the stack is damaged ({movie.damage}); copy it again"
                )
            facts = movie.facts()
            bits = camera.get("bit_depth", facts.get("bit_depth"))
            parts, said = split_stacks(path, movie.read(0, movie.n_frames))
            stacks += [
                BeadStack(
                    pixels,
                    path.name,
                    movie.origin,
                    float(camera.get("baseline_adu", 0.0)),
                    _photons_per_adu(camera),
                    None if bits is None else float(2 ** int(bits) - 1),
                )
                for pixels in parts
            ]
            notes += [] if said is None else [f"{path.name}: {said}"]
            notes += [f"{path.name}: {text}" for text in movie.notes()]
            stated = getattr(movie, "z_step_nm", None)
        step = step_in_file(path) if stated is None else stated
        if step is not None:
            steps[path.name] = step
        if facts.get("pixel_size_nm"):
            sizes[path.name] = float(facts["pixel_size_nm"])
    chosen = _one(
        dz_nm, steps, _STEP, "--dz-nm", notes, "the step of the stage, e.g. 50"
    )
    pixel = _one(
        camera.get("pixel_size_nm"),
        sizes,
        "pixel size",
        "--pixel-size-nm",
        notes,
        "camera pixel / magnification, e.g. 100",
    )
    return ReadStacks(stacks, chosen, pixel, notes)


def _camera(flags: CameraFlags) -> dict[str, Any]:
    """Facts a person gave; nothing is assumed."""
    from pydantic import ValidationError

    from blinkloop.schema import CameraSettings

    values = {**(read_camera_file(flags.file) if flags.file else {}), **flags.values}
    try:
        CameraSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "camera"
        raise InputError(
            f"camera: {name} = {first['input']!r} cannot be used ({first['msg']}); "
            f"correct it"
        ) from error
    return values


def _photons_per_adu(camera: Mapping[str, Any]) -> float:
    gain = float(camera.get("em_gain", 1.0))
    efficiency = float(camera.get("quantum_efficiency", 1.0))
    return float(camera.get("e_per_adu", 1.0)) / gain / efficiency


def _one(
    given: float | None,
    found: Mapping[str, float],
    what: str,
    option: str,
    notes: list[str],
    example: str,
) -> float:
    """What the person says, else what the files say."""
    values = sorted(set(found.values()))
    if given is None and what == _STEP and values and values[-1] > _BELIEVED_NM:
        raise InputError(
            f"the files say a z step of {values[-1]:g} nm, over which no PSF can be "
            f"followed (ImageJ writes 1 where nothing is known); give the step of the "
            f"stage with {option}, e.g. 50"
        )
    if given is not None:
        other = [v for v in values if abs(v / given - 1) > _AGREE] if given else []
        if other:
            notes.append(
                f"{what} {given:g} nm as given, although a file says {other[0]:g} nm"
            )
        return float(given)
    if not values:
        raise InputError(
            f"the {what} is not known: the files do not say it; give it with {option} "
            f"({example})"
        )
    if values[-1] > values[0] * (1 + _AGREE):
        raise InputError(
            f"the files differ in their {what} ({values[0]:g} to {values[-1]:g} nm); "
            f"calibrate them one by one, or say with {option} which holds for all"
        )
    notes.append(f"{what} {values[0]:g} nm (from the file)")
    return values[0]


def step_in_file(path: Path) -> float | None:
    """Distance of slices in nm that a file states.

    TIFF of ImageJ, OME or Micro-Manager (its summary, or the heights of its pages),
    NDTiff and OME-Zarr. Movies of the makers' programs know it themselves.
    """
    if path.is_dir():
        return _zarr_step(path) if _is_zarr(path) else _ndtiff_step(path)
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    return _tiff_step(path)


def _tiff_step(path: Path) -> float | None:
    if not installed("tifffile"):
        return None
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            imagej = dict(file.imagej_metadata or {})
            ome = file.ome_metadata if file.is_ome else None
            step = _ome_step(ome) if ome else None
            if step is None:
                step = _even_step([_height(page) for page in file.pages[:3]])
            if step is None and not file.is_ndtiff:
                manager = dict(file.micromanager_metadata or {})
                summary = manager.get("Summary")
                if isinstance(summary, Mapping):
                    step = _positive(summary.get("z-step_um"), 1000.0)
    except (OSError, ValueError, IndexError, tifffile.TiffFileError):
        return None
    if step is None and _unit(imagej.get("unit")) is not None:
        step = _positive(imagej.get("spacing"), _unit(imagej.get("unit")) or 0.0)
    return step


def _height(page: Any) -> float | None:
    """Height of the stage in um that Micro-Manager wrote down for a page."""
    tag = page.tags.get(51123)
    record = tag.value if tag is not None else None
    if isinstance(record, str):
        try:
            record = json.loads(record)
        except ValueError:
            return None
    value = record.get("ZPositionUm") if isinstance(record, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def _even_step(heights_um: Sequence[float | None]) -> float | None:
    """Of three pages, when they are evenly apart."""
    known = [height for height in heights_um if height is not None]
    if len(known) < 3:
        return None
    first, second = known[1] - known[0], known[2] - known[1]
    if first == 0 or abs(second / first - 1) > _UNEVEN:
        return None
    return _positive(abs(known[2] - known[0]) / 2, 1000.0)


def _ndtiff_step(path: Path) -> float | None:
    from blinkloop.integrations.movies.folder import tiff_files
    from blinkloop.integrations.movies.ndtiff import ndtiff_folder

    folder = ndtiff_folder(path)
    files = tiff_files(folder) if folder is not None else []
    return _tiff_step(files[0]) if files else None


def _is_zarr(path: Path) -> bool:
    from blinkloop.integrations.movies.arrays import is_zarr

    return is_zarr(path)


def _zarr_step(path: Path) -> float | None:
    """Scale of the z axis of an OME-Zarr image."""
    for name in ("zarr.json", ".zattrs"):
        try:
            record = json.loads((path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        record = record.get("attributes", record)
        try:
            image = record.get("ome", record)["multiscales"][0]
            names = [axis.get("name") for axis in image["axes"]]
            at = names.index("z")
            change = image["datasets"][0]["coordinateTransformations"][0]
            unit = _ZARR_UNITS.get(str(image["axes"][at].get("unit")), 0.0)
            return _positive(change["scale"][at], unit)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            return None
    return None


def _ome_step(text: str) -> float | None:
    try:
        root = ElementTree.fromstring(text.encode())
    except ElementTree.ParseError:
        return None
    for element in root.iter():
        if element.tag.endswith("}Pixels"):
            unit = _unit(element.get("PhysicalSizeZUnit", "µm"))
            return _positive(element.get("PhysicalSizeZ"), unit or 0.0)
    return None


def _unit(name: object) -> float | None:
    text = re.sub(r"\s", "", str(name))
    return 1000.0 if text in _MICROMETRES else 1.0 if text == "nm" else None


def _positive(value: object, factor: float) -> float | None:
    try:
        number = float(str(value)) * factor
    except ValueError:
        return None
    return number if 0 < number < float("inf") else None
