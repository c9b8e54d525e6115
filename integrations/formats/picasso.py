"""Picasso HDF5 tables, with their metadata in a YAML file and in the file itself.

Picasso (doi:10.1038/nprot.2017.024) keeps one structured dataset `locs`. Its fit counts
pixel k from k - 0.5 to k + 0.5, so its x, y are ours: px, x = column, origin at the
centre of pixel (0, 0); `frame` counts from 0. `sx, sy`: width of the PSF, px; `bg`:
photons per pixel; `lpx, lpy`: precision, px; `z, lpz`: nm. From version 0.11 on Picasso
looks for the metadata in `name.yaml` and then in the dataset `metadata` (JSON); both
are written here, as a list of two records: the movie, and the localization.

Picasso's loader drops rows with a NaN, with x or y below 0 (the outer half of the first
pixel) and beyond Width or Height. What is not known therefore gets a stand-in, named in
the metadata: `bg` 0, `sx, sy` 1 px, `lpx, lpy` the theoretical precision at that width.
Unknown `z`, `lpz` and `prob` are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import blinkloop
from blinkloop.errors import InputError
from blinkloop.extras import installed, require
from blinkloop.integrations.formats.columns import (
    blank_rows,
    extent_px,
    is_3d,
    pixel_sizes_nm,
    plain_meta,
    psf_sigmas_px,
    refuse_blank,
    with_bound,
)
from blinkloop.integrations.formats.files import whole_files
from blinkloop.schema import LocalizationTable

__all__ = [
    "is_picasso",
    "picasso_files",
    "picasso_rows",
    "read_picasso",
    "write_picasso",
]

_FEATURE = "Picasso HDF5 tables"
_LAST_FRAME = 2**32 - 1
_READ = {
    "frame": "frame",
    "x": "x_px",
    "y": "y_px",
    "z": "z_nm",
    "photons": "photons",
    "bg": "background_photons",
    "lpx": "x_sigma_px",
    "lpy": "y_sigma_px",
    "lpz": "z_sigma_nm",
    "photons_sigma": "photons_sigma",
    "prob": "prob",
}


def is_picasso(file: Any) -> bool:
    """Whether an open HDF5 file holds a Picasso table."""
    dtype = getattr(file["locs"], "dtype", None) if "locs" in file else None
    return getattr(dtype, "names", None) is not None


def picasso_files(path: Path) -> tuple[Path, Path]:
    """The table and the metadata beside it, which may not be those of a movie.

    Raises
    ------
    InputError
        With a name that can be taken.
    """
    if path.with_suffix(".raw").exists():
        raise InputError(
            f"{path.stem}.yaml describes the movie {path.stem}.raw and must stay; give "
            f"another name, e.g. {path.stem}_locs{path.suffix}"
        )
    return path, path.with_suffix(".yaml")


def write_picasso(
    table: LocalizationTable,
    path: Path,
    *,
    pixel_size_nm: float | None = None,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write a table and its metadata; returns the files written.

    Parameters
    ----------
    table
        Localizations. Pixels that are not square are made so: y is scaled.
    path
        File to write; the metadata go to the same name with the ending `.yaml`.
    pixel_size_nm
        In place of what the table says.
    overwrite
        Allow replacing both files.

    Raises
    ------
    InputError
        When a file exists, the YAML file describes a movie, or the pixel size is not
        known.
    """
    h5py = require("h5py", _FEATURE, "io")
    yaml = require("yaml", _FEATURE, "io")
    path, beside = picasso_files(path)
    if len(table) and table.data["frame"].max() > _LAST_FRAME:
        raise InputError(
            f"{path}: the table has a frame {table.data['frame'].max()}, and Picasso "
            f"counts to {_LAST_FRAME}; write .parquet, or take these rows out"
        )
    pixel_x, pixel_y = pixel_sizes_nm(table.meta, pixel_size_nm, path.name)
    rows, stand_ins = _rows(table, pixel_y / pixel_x)
    info = _describe(table, pixel_x, stand_ins, pixel_y / pixel_x)
    with whole_files((path, beside), overwrite=overwrite) as (data, text):
        with h5py.File(data, "w") as file:
            file.create_dataset("locs", data=rows)
            file.create_dataset("metadata", data=json.dumps(info))
        text.write_text(yaml.safe_dump_all(info, sort_keys=False), encoding="utf-8")
    return path, beside


def read_picasso(
    file: Any, path: Path, pixel_size_nm: float | None = None
) -> LocalizationTable:
    """Read a table from an open HDF5 file.

    Raises
    ------
    InputError
        When `frame`, `x` or `y` is missing, or a frame is no number.
    """
    locs = file["locs"][...]
    rows = picasso_rows(path.name, {name: locs[name] for name in locs.dtype.names})
    merged: dict[str, Any] = {}
    for record in _metadata(file, path):
        merged.update(record)
    meta: dict[str, Any] = {}
    for theirs, ours in (
        ("Width", "width_px"),
        ("Height", "height_px"),
        ("Frames", "frames"),
        ("Pixelsize", "pixel_size_nm"),
    ):
        if isinstance(merged.get(theirs), int | float):
            meta[ours] = merged[theirs]
    own = merged.get("Blinkloop")
    if isinstance(own, dict):
        meta.update(own)
    meta["three_dimensional"] = "z" in locs.dtype.names
    if pixel_size_nm is not None:
        meta["pixel_size_nm"] = pixel_size_nm
    return LocalizationTable(rows, meta)


def picasso_rows(
    what: str, columns: Mapping[str, npt.NDArray[Any]]
) -> npt.NDArray[np.void]:
    """Our rows of the columns of a Picasso table; `what` names the file in messages.

    Raises
    ------
    InputError
        When `frame`, `x` or `y` is missing, or a frame is no number.
    """
    missing = [name for name in ("frame", "x", "y") if name not in columns]
    if missing:
        raise InputError(
            f"{what}: the Picasso table has no column {missing[0]!r} "
            f"(it has {', '.join(columns)})"
        )
    # Centres of clusters have mean frames, which may be unknown.
    refuse_blank(columns["frame"].astype(np.float64), "frame", what)
    rows = blank_rows(len(columns["frame"]))
    for theirs, ours in _READ.items():
        if theirs in columns:
            rows[ours] = columns[theirs]
    return rows


def _rows(
    table: LocalizationTable, y_scale: float
) -> tuple[npt.NDArray[np.void], list[str]]:
    """Picasso's columns, and which of them hold stand-ins."""
    data, stand_ins = table.data, []
    count = len(data)
    photons = data["photons"].astype(np.float64)
    background = data["background_photons"].astype(np.float64)
    widths = psf_sigmas_px(table)
    if widths is None:
        widths = np.ones(count), np.ones(count)
        stand_ins.append("sx, sy: PSF width not known, 1 px stands in")
    for name, values in (("photons", photons), ("bg", background)):
        unknown = np.isnan(values)
        if unknown.any():
            values[unknown] = 0
            stand_ins.append(f"{name}: not known in {unknown.sum()} rows, 0 stands in")
    columns: dict[str, tuple[str, npt.NDArray[Any]]] = {
        "frame": ("<u4", data["frame"]),
        "x": ("<f4", data["x_px"]),
        "y": ("<f4", (data["y_px"] + 0.5) * y_scale - 0.5),
        "photons": ("<f4", photons),
        "sx": ("<f4", widths[0]),
        "sy": ("<f4", widths[1]),
        "bg": ("<f4", background),
    }
    for name, ours, width in (
        ("lpx", "x_sigma_px", widths[0]),
        ("lpy", "y_sigma_px", widths[1]),
    ):
        values, unknown = with_bound(data[ours], width, photons, background)
        if unknown.any():
            stand_ins.append(
                f"{name}: not known in {unknown.sum()} rows, the theoretical precision "
                f"stands in"
            )
        columns[name] = ("<f4", values)
    if is_3d(table):
        columns["z"] = ("<f4", data["z_nm"])
    for name, ours in (
        ("lpz", "z_sigma_nm"),
        ("photons_sigma", "photons_sigma"),
        ("prob", "prob"),
    ):
        known = np.isfinite(data[ours])
        if known.all() and (name != "lpz" or "z" in columns):
            columns[name] = ("<f4", data[ours])
    rows = np.empty(count, [(name, form) for name, (form, _) in columns.items()])
    for name, (_, values) in columns.items():
        rows[name] = values
    return rows, stand_ins


def _describe(
    table: LocalizationTable, pixel_nm: float, stand_ins: list[str], y_scale: float
) -> list[dict[str, Any]]:
    """Two records, as Picasso keeps them."""
    width, height = extent_px(table)
    frames = int(table.meta.get("frames") or 0)
    if len(table):
        frames = max(frames, int(table.data["frame"].max()) + 1)
    maker = f"blinkloop {blinkloop.__version__}"
    movie = {
        "Generated by": maker,
        "Width": width,
        "Height": int(np.ceil(height * y_scale)),
        "Frames": max(1, frames),
    }
    fit: dict[str, Any] = {"Generated by": maker, "Pixelsize": pixel_nm}
    fit["Units"] = (
        "x, y, sx, sy, lpx, lpy in px, origin at the centre of the first pixel; "
        "z, lpz in nm; photons per frame; bg in photons per pixel; frames from 0"
    )
    if stand_ins:
        fit["Stand-ins"] = stand_ins
    if y_scale == 1.0:
        fit["Blinkloop"] = plain_meta(table.meta)
    return [movie, fit]


def _metadata(file: Any, path: Path) -> Iterator[Mapping[str, Any]]:
    """Records of the YAML file beside it, else those in the file."""
    beside = path.with_suffix(".yaml")
    records: Any = []
    if beside.is_file() and installed("yaml"):
        yaml = require("yaml", _FEATURE, "io")
        try:
            text = beside.read_text(encoding="utf-8")
            records = list(yaml.load_all(text, Loader=_tolerant_loader(yaml)))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(
                f"{beside.name} cannot be read as YAML "
                f"({' '.join(str(error).split())}); remove it or copy it again"
            ) from error
    elif "metadata" in file:
        raw = file["metadata"][()]
        try:
            records = json.loads(raw)
        except ValueError:
            records = []
    for record in records:
        if isinstance(record, dict):
            yield record


def _tolerant_loader(yaml: Any) -> Any:
    """A safe loader that reads Python tags of older files as plain values."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Executes nothing: a tag of a Python object is read as text or a list."""

    def plain(loader: Any, suffix: str, node: Any) -> Any:
        if isinstance(node, yaml.SequenceNode):
            return loader.construct_sequence(node, deep=True)
        if isinstance(node, yaml.MappingNode):
            return loader.construct_mapping(node, deep=True)
        return loader.construct_scalar(node)

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", plain)
    return Loader
