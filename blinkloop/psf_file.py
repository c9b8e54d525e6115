"""A measured PSF: the record in memory, and the one HDF5 file that keeps it.

The file is described in docs/psf-file.md. Coordinates are those of
`blinkloop.optics.SplinePsf`: x along columns, y along rows, reference counted from 0.

Design notes: knows our own file only; calibrations of other programs are read by
`blinkloop.training.calibration`. h5py is imported when a file is read or written.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop import __version__, extras
from blinkloop.errors import InputError
from blinkloop.optics import GaussianPsf, SplinePsf
from blinkloop.schema import GaussianPsfSettings, PsfSettings, SplinePsfSettings

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "PsfCalibration",
    "file_sha256",
    "load_psf",
    "read_psf",
    "write_psf",
]

FORMAT = "blinkloop-psf"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, eq=False)
class PsfCalibration:
    """A cubic-spline PSF with all that must be known to use it.

    Parameters
    ----------
    coefficients
        (X, Y, Z, 64) float32, X along columns, index 16 kz + 4 ky + kx (see
        `blinkloop.optics.spline`). In focus the values of all pixels sum to about 1.
    reference
        (ref_x, ref_y, ref_z): spline coordinates of the emitter, from 0.
    dz_nm
        Height of a voxel.
    pixel_size_nm
        Pixel of the calibration; None when the file it came from does not say.
    z_range_nm
        Usable range of emitter heights.
    em_mirrored
        The coefficients describe images mirrored left to right (columns reversed) with
        respect to the frames that the camera gives; `mirrored` undoes it.
    source
        Where it came from: `program`, `file`, `sha256` and whatever else is known.
    quality
        Numbers that say how good it is.

    Raises
    ------
    InputError
        When the numbers do not describe a PSF.
    """

    coefficients: npt.NDArray[np.float32]
    reference: tuple[float, float, float]
    dz_nm: float
    pixel_size_nm: float | None
    z_range_nm: tuple[float, float]
    em_mirrored: bool = False
    source: Mapping[str, str] = field(default_factory=dict)
    quality: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.psf()  # checks the shape and dz
        if not bool(np.isfinite(self.coefficients).all()):
            raise InputError(
                "PSF calibration: some coefficients are not finite numbers; calibrate "
                "again from bead stacks without such pixels"
            )
        if not all(map(math.isfinite, self.reference)):
            raise InputError(
                f"PSF calibration: the reference must be three finite voxel "
                f"coordinates (x, y, z), got {tuple(self.reference)}"
            )
        if self.pixel_size_nm is not None and not (
            math.isfinite(self.pixel_size_nm) and self.pixel_size_nm > 0
        ):
            raise InputError(
                f"PSF calibration: the pixel size must be positive, got "
                f"{self.pixel_size_nm} nm"
            )
        low, high = self.z_range_nm
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise InputError(
                f"PSF calibration: the z range must be (low, high) in nm, got "
                f"({low}, {high})"
            )

    def psf(self) -> SplinePsf:
        """The image former of these coefficients, as they are."""
        return SplinePsf(self.coefficients, self.reference, self.dz_nm)

    def settings(self, path: Path | str) -> SplinePsfSettings:
        """What a recipe or card says of this calibration, written at `path`.

        Raises
        ------
        InputError
            When the pixel size is not known, or the file cannot be read.
        """
        if self.pixel_size_nm is None:
            raise InputError(
                f"{path}: the calibration does not say its pixel size; give it "
                "(pixel_size_nm), because positions are counted in pixels"
            )
        return SplinePsfSettings(
            file=str(path),
            sha256=file_sha256(Path(path)),
            pixel_size_nm=self.pixel_size_nm,
            z_range_nm=self.z_range_nm,
        )

    def mirrored(self) -> PsfCalibration:
        """The same PSF in frames mirrored left to right; `em_mirrored` changes too."""
        columns = int(self.coefficients.shape[0])
        return replace(
            self,
            coefficients=_mirror_columns(self.coefficients),
            reference=(columns - 1 - self.reference[0], *self.reference[1:]),
            em_mirrored=not self.em_mirrored,
        )


def _mirror_columns(a: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Coefficients of g(u) = f(X - 1 - u) for those of f.

    The support 0 <= u <= X - 1 is mapped onto itself. Voxel i of g is voxel
    X - 2 - i of f with 1 - du in place of du; the last one, of which only the edge
    du = 0 is used, continues the first polynomial of f.
    """
    cube = a.astype(np.float64).reshape(*a.shape[:3], 16, 4)
    # Row k: (1 - t)^k, and (-t)^k, in powers of t.
    inside = np.array([[1, 0, 0, 0], [1, -1, 0, 0], [1, -2, 1, 0], [1, -3, 3, -1]])
    beyond = np.diag([1, -1, 1, -1])
    turned = np.concatenate([cube[:-1][::-1] @ inside, cube[:1] @ beyond])
    return turned.reshape(a.shape).astype(np.float32)


def file_sha256(path: Path) -> str:
    """Hash of a file's content.

    Raises
    ------
    InputError
        When there is no such file.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"{path}: PSF file cannot be read ({error.strerror}); check the path"
        ) from None


def write_psf(path: Path | str, calibration: PsfCalibration) -> None:
    """Write a calibration as HDF5; an existing file is replaced.

    Raises
    ------
    InputError
        When the file cannot be written.
    """
    h5py = extras.require("h5py", "Writing PSF files", "io")
    c = calibration
    try:
        file = h5py.File(path, "w")
    except OSError as error:
        raise InputError(
            f"{path}: PSF file cannot be written ({error}); choose another place"
        ) from None
    with file:
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["program"] = f"blinkloop {__version__}"
        file.attrs["reference_voxels"] = np.asarray(c.reference, np.float64)
        file.attrs["dz_nm"] = float(c.dz_nm)
        if c.pixel_size_nm is not None:
            file.attrs["pixel_size_nm"] = float(c.pixel_size_nm)
        file.attrs["z_range_nm"] = np.asarray(c.z_range_nm, np.float64)
        file.attrs["em_mirrored"] = bool(c.em_mirrored)
        data = file.create_dataset(
            "coefficients",
            data=np.asarray(c.coefficients, np.float32),
            compression="gzip",
            shuffle=True,
        )
        data.attrs["axes"] = "x (column), y (row), z, 16 kz + 4 ky + kx"
        for name, numbers in (("source", c.source), ("quality", c.quality)):
            group = file.create_group(name)
            for key, value in numbers.items():
                group.attrs[key] = value


def read_psf(path: Path | str) -> PsfCalibration:
    """Read a file of `write_psf`.

    Raises
    ------
    InputError
        When the file is missing, is not such a file, or is damaged.
    """
    h5py = extras.require("h5py", "Reading PSF files", "io")
    if not Path(path).is_file():
        raise InputError(f"{path}: no such PSF file; check the path")
    try:
        file = h5py.File(path, "r")
    except OSError:
        raise InputError(
            f"{path}: not a PSF file of blinkloop (not HDF5); `blinkloop calibrate` "
            "makes one from bead stacks or another program's calibration"
        ) from None
    with file:
        found = _text(file.attrs.get("format", ""))
        if found != FORMAT:
            raise InputError(
                f"{path}: not a PSF file of blinkloop (format {found!r}); `blinkloop "
                "calibrate` makes one from bead stacks or another program's calibration"
            )
        version = int(file.attrs.get("format_version", 0))
        if version != FORMAT_VERSION:
            raise InputError(
                f"{path}: PSF file of format version {version}, this program reads "
                f"{FORMAT_VERSION}; update blinkloop or calibrate again"
            )
        try:
            return _from_file(file)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}: PSF file is incomplete ({error}); calibrate again"
            ) from None


def _from_file(file: Any) -> PsfCalibration:
    attrs = file.attrs
    x, y, z = (float(value) for value in attrs["reference_voxels"])
    low, high = (float(value) for value in attrs["z_range_nm"])
    pixel = attrs.get("pixel_size_nm")
    source = file["source"].attrs if "source" in file else {}
    quality = file["quality"].attrs if "quality" in file else {}
    return PsfCalibration(
        coefficients=np.asarray(file["coefficients"][()], np.float32),
        reference=(x, y, z),
        dz_nm=float(attrs["dz_nm"]),
        pixel_size_nm=None if pixel is None else float(pixel),
        z_range_nm=(low, high),
        em_mirrored=bool(attrs["em_mirrored"]),
        source={key: _text(value) for key, value in source.items()},
        quality={key: float(value) for key, value in quality.items()},
    )


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def load_psf(
    settings: PsfSettings, *, folder: Path | None = None
) -> GaussianPsf | SplinePsf:
    """The image former that a recipe or card describes.

    Parameters
    ----------
    settings
        Of any kind that describes one PSF.
    folder
        Where a relative file name is looked for first, usually the folder of the
        recipe; then in the working directory.

    Raises
    ------
    InputError
        When the file is missing, is not the one that was described, or was made for
        another pixel size; for a range of PSFs, of which no one can be loaded.
    """
    if isinstance(settings, GaussianPsfSettings):
        return GaussianPsf(settings)
    if not isinstance(settings, SplinePsfSettings):
        raise InputError(
            f"PSF kind {settings.kind!r} is a range of PSFs, not one that can be "
            "drawn; choose kind: gaussian or kind: spline"
        )
    path = _find(settings.file, folder)
    if settings.sha256 and file_sha256(path) != settings.sha256.lower():
        raise InputError(
            f"{path}: the PSF file is not the one that was described (its sha256 "
            f"differs from {settings.sha256[:12]}...); bring that file back, or "
            "describe the new one and train again"
        )
    calibration = read_psf(path)
    size = calibration.pixel_size_nm
    if size is not None and not math.isclose(
        size, settings.pixel_size_nm, rel_tol=0.01
    ):
        raise InputError(
            f"{path}: the PSF was calibrated with pixels of {size:g} nm, but "
            f"{settings.pixel_size_nm:g} nm are asked for; calibrate with beads "
            "recorded at that pixel size"
        )
    return calibration.psf()


def _find(file: str, folder: Path | None) -> Path:
    places = [Path(file)] if folder is None else [folder / file, Path(file)]
    for place in places:
        if place.is_file():
            return place
    looked = " and ".join(str(place.parent.resolve()) for place in places)
    raise InputError(
        f"{file}: no such PSF file (looked in {looked}); correct `psf.file`, or make "
        "it with `blinkloop calibrate`"
    )
