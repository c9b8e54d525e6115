"""Any calibration file, told apart by what is in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from blinkloop import extras
from blinkloop.errors import InputError
from blinkloop.psf_file import FORMAT, PsfCalibration, read_psf
from blinkloop.training.calibration._import import Choice, pick, pixel_size
from blinkloop.training.calibration._matlab import is_matlab
from blinkloop.training.calibration.import_picasso import is_picasso, read_picasso
from blinkloop.training.calibration.import_rapidstorm import (
    is_rapidstorm,
    read_rapidstorm,
)
from blinkloop.training.calibration.import_smap import read_smap
from blinkloop.training.calibration.import_smappy import is_smappy, read_smappy
from blinkloop.training.calibration.import_storm_analysis import (
    is_storm_analysis,
    read_storm_analysis,
)
from blinkloop.training.calibration.import_thunderstorm import (
    is_thunderstorm,
    read_thunderstorm,
)
from blinkloop.training.calibration.import_uipsf import is_uipsf, read_uipsf

__all__ = ["READABLE", "is_calibration", "read_calibration"]

READABLE = (
    "blinkloop PSF (.h5), SMAP (*_3dcal.mat), uiPSF (.h5), SMAPpy (.h5), Picasso 3D "
    "calibration (.yaml), ThunderSTORM 3D calibration (.yaml), storm-analysis z curves "
    "(.xml), rapidSTORM z calibration (.txt)"
)
"""What can be read, in words."""

_LARGEST_TEXT = 1 << 20


def read_calibration(
    path: Path | str,
    *,
    pixel_size_nm: float | None = None,
    region: int = 0,
    channel: int = 0,
    em_mirrored: bool | None = None,
    keep_mirrored: bool = False,
) -> PsfCalibration:
    """Read a PSF calibration of any of the programs in `READABLE`.

    Parameters
    ----------
    path
        The file; what it is is told by its content.
    pixel_size_nm
        Pixel of the calibration; needed where the file does not say it.
    region, channel
        Which of several regions of the field of view and channels, from 0.
    em_mirrored
        Whether the beads had been mirrored left to right for EM gain; None: what the
        file says.
    keep_mirrored
        By default mirrored coefficients are turned back, so that the PSF fits frames as
        the camera gives them. True leaves them, for frames that are mirrored too.

    Raises
    ------
    InputError
        When the file is missing or unknown, holds no usable PSF, not the region or
        channel asked for, or was made for another pixel size.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such calibration file; check the path")
    choice = Choice(pixel_size_nm, region, channel, em_mirrored, keep_mirrored)
    if is_matlab(path):
        return read_smap(path, choice)
    h5py = extras.require("h5py", "Reading calibrations", "train")
    if h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            name = file.attrs.get("format", "")
            ours = (name.decode() if isinstance(name, bytes) else str(name)) == FORMAT
            reader = read_smappy if is_smappy(file) else read_uipsf
            known = ours or is_smappy(file) or is_uipsf(file)
            picasso = _is_picasso_spline(file)
        if ours:
            return _own(path, choice)
        if known:
            return reader(path, choice)
        if picasso:
            raise InputError(
                f"{path}: a spline calibration of Picasso, which is not read; give the "
                f"bead stack that it was made from"
            )
        raise _unknown(path)
    # In this order: what says its name first.
    if is_thunderstorm(path):
        return read_thunderstorm(path, choice)
    if is_storm_analysis(path):
        return read_storm_analysis(path, choice)
    if is_rapidstorm(path):
        return read_rapidstorm(path, choice)
    if is_picasso(_yaml(path)):
        return read_picasso(path, choice)
    foreign = _not_read(path)
    if foreign:
        raise InputError(
            f"{path}: {foreign}, which is not read; give the bead stack that it was "
            f"made from"
        )
    raise _unknown(path)


def _not_read(path: Path) -> str | None:
    """What a known file of another program is that no PSF is made of, or None."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if head[:1] == b"\x80" and b"psf" in head:
        return "a Python pickle (storm-analysis' .psf and .spline files are such)"
    if head.lstrip()[:1] == b"{" and all(word in head for word in _ZOLA):
        return "a pupil of ZOLA-3D"
    return None


_ZOLA = (b"sizeFFT", b"zernikedPSF")


def is_calibration(path: Path) -> bool:
    """Whether a file is to be imported; False for an HDF5 file of bead stacks.

    A file that is not there, or of no known kind, counts as one: `read_calibration`
    says what is wrong with it.
    """
    ending = path.suffix.lower()
    if ending in (".yaml", ".yml", ".xml", ".json", ".psf", ".spline"):
        return True
    if ending in (".txt", ".dat"):
        return path.is_file() and is_rapidstorm(path)
    if ending not in (".mat", ".h5", ".hdf5"):
        return False
    h5py = extras.require("h5py", "Reading calibrations", "train")
    if not path.is_file() or not h5py.is_hdf5(path):
        return True
    with h5py.File(path, "r") as file:
        if "format" in file.attrs or is_smappy(file) or is_uipsf(file):
            return True
        if _is_picasso_spline(file):
            return True
        if ending == ".mat" and any(name in file for name in _SMAP_PARTS):
            return True
        return not _has_stack(file)


_SMAP_PARTS = ("SXY", "cspline", "cspline_psf_model", "parameters")


def _is_picasso_spline(file: Any) -> bool:
    """Whether an open HDF5 file is a spline calibration of Picasso 0.11."""
    return "coefficients" in file and "metadata" in file.attrs


def _has_stack(file: Any) -> bool:
    """Whether some dataset of an HDF5 file has slices of rows and columns."""
    found = file.visititems(
        lambda _, node: True if len(getattr(node, "shape", ()) or ()) >= 3 else None
    )
    return found is not None


def _own(path: Path, choice: Choice) -> PsfCalibration:
    calibration = read_psf(path)
    for what in ("region", "channel"):
        pick(path, [0], getattr(choice, what), what, [])
    known = calibration.pixel_size_nm
    sizes = [] if known is None else [known]
    size = pixel_size(path, choice.pixel_size_nm, *sizes)
    return replace(calibration, pixel_size_nm=size)


def _yaml(path: Path) -> object:
    """The YAML document, or None when it is none."""
    yaml = extras.require("yaml", "Reading calibrations", "train")
    if path.stat().st_size > _LARGEST_TEXT:
        return None
    try:
        document: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError):
        return None
    return document


def _unknown(path: Path) -> InputError:
    return InputError(
        f"{path}: not a calibration that can be read; known are {READABLE}; bead "
        "stacks (.tif) are calibrated, not imported"
    )
