"""From an official parameter file to the model card of the imported network."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from pydantic import ValidationError

from blinkloop.errors import InputError
from blinkloop.schema import (
    Architecture,
    CameraSettings,
    DetectionSettings,
    ModelCard,
    Scaling,
    SplinePsfSettings,
    TrainingRanges,
)
from blinkloop.training.official.parameters import OfficialParameters

__all__ = ["card_from_official", "check_variant", "mirrored_axes"]

_PERFECT = "Perfect"
_TORCH_CALL = re.compile(r"(?:nn\.)?(\w+)(?:\(\))?")
_DEFAULT_EMITTERS = 20.0
_DEFAULT_RAW_THRESHOLD = 0.5
_INFERENCE_THRESHOLD = 0.1
_INTEGRATING = ("SpatialIntegration", "NMS")
_Z = 3
_SQUARE_TOLERANCE = 0.01
_AXIS_NAMES = {-2: "rows", -1: "columns"}


def check_variant(parameters: OfficialParameters) -> tuple[str, ...]:
    """Keys that decide over the network and that the file lacks, with their default.

    Raises
    ------
    InputError
        A variant of the network that weights alone do not show and ours is not.
    """
    network = parameters.HyperParameter
    inner = network.arch_param
    # Version 0.9 wrote the activation as a call of torch.nn.
    activation = inner.activation and _TORCH_CALL.sub(r"\1", inner.activation)
    perfect = parameters.CameraPreset == _PERFECT
    expected: tuple[tuple[str, Any, Any], ...] = (
        ("HyperParameter.architecture", network.architecture, "SigmaMUNet"),
        ("HyperParameter.channels_in", network.channels_in, 3),
        ("HyperParameter.arch_param.activation", activation, "ELU"),
        ("HyperParameter.arch_param.norm", inner.norm, None),
        ("HyperParameter.arch_param.norm_head", inner.norm_head, None),
        ("HyperParameter.arch_param.pool_mode", inner.pool_mode, "StrideConv"),
        ("HyperParameter.arch_param.upsample_mode", inner.upsample_mode, "nearest"),
        ("Camera.convert2photons", parameters.Camera.convert2photons, True),
        ("CameraPreset", parameters.CameraPreset, _PERFECT if perfect else None),
        ("Simulation.xy_unit", parameters.Simulation.xy_unit, "px"),
    )
    assumed = []
    for key, value, wanted in expected:
        if value is None and wanted is not None:
            assumed.append(f"{key} = {wanted}")
        elif value != wanted:
            shown = "nothing" if wanted is None else wanted
            raise InputError(
                f"{parameters.source}: {key} is {value}; only networks with {shown} "
                f"there can be imported, so train one with 'blinkloop train'"
            )
    _check_sizes(parameters)
    return tuple(assumed)


def _check_sizes(parameters: OfficialParameters) -> None:
    """Offsets count in px only where the simulated area is as wide as the image."""
    simulation = parameters.Simulation
    if simulation.psf_extent is None or simulation.img_size is None:
        return
    for extent, size in zip(simulation.psf_extent, simulation.img_size, strict=False):
        if extent is None or len(extent) != 2 or extent[1] - extent[0] != size:
            raise InputError(
                f"{parameters.source}: Simulation.psf_extent {extent} is not as wide "
                f"as img_size {size:g} px; such a network's x and y are in units that "
                f"cannot be imported"
            )


def mirrored_axes(parameters: OfficialParameters) -> tuple[str, ...]:
    """Axes named by `Camera.mirror_dim`: "rows", "columns"."""
    dimensions = parameters.Camera.mirror_dim or []
    unknown = [d for d in dimensions if d not in _AXIS_NAMES]
    if unknown:
        raise InputError(
            f"{parameters.source}: Camera.mirror_dim holds {unknown[0]}; -2 (rows) and "
            f"-1 (columns) can be imported"
        )
    return tuple(_AXIS_NAMES[d] for d in sorted(set(dimensions)))


def card_from_official(
    parameters: OfficialParameters,
    architecture: Architecture,
    *,
    name: str,
    pixel_size_nm: float | None = None,
    calibration: Path | None = None,
    detection: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> ModelCard:
    """The model card of an imported network.

    Parameters
    ----------
    parameters
        Of the network.
    architecture
        From its weights.
    name
        What the card calls it.
    pixel_size_nm
        Overrules `Camera.px_size`; needed where that is missing or not square.
    calibration
        The PSF's file; its hash goes into the card. By default the name in
        `InOut.calibration_file`, with the hash where that file is found.
    detection
        Fields of `DetectionSettings` that overrule the file.
    provenance
        More facts for the card: files and hashes.

    Raises
    ------
    InputError
        A value is missing or out of range, or the variant cannot be imported; names
        the key.
    """
    assumed = list(check_variant(parameters))
    if parameters.Simulation.density is parameters.Simulation.emitter_av is None:
        assumed.append(f"Simulation.emitter_av = {_DEFAULT_EMITTERS:g}")
    pixel_nm = _pixel_size_nm(parameters, pixel_size_nm)
    z_nm = _z_range_nm(parameters)
    disabled = parameters.HyperParameter.disabled_attributes or []
    facts = {
        "origin": "DECODE (official), imported",
        "decode_version": parameters.Meta.version,
        "decode_parameters": parameters.model_dump(exclude={"InOut"}),
        "assumed": assumed,
        **(provenance or {}),
    }
    try:
        return ModelCard(
            name=name,
            description="Network of official DECODE, imported.",
            architecture=architecture,
            pixel_size_nm=pixel_nm,
            z_range_nm=(0.0, 0.0) if _Z in disabled else z_nm,
            psf=_psf(parameters, calibration, pixel_nm, z_nm),
            camera=_camera(parameters, pixel_nm),
            scaling=_scaling(parameters, z_nm),
            training_ranges=_ranges(parameters, pixel_nm),
            detection=_detection(parameters, detection or {}),
            provenance=facts,
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or first["type"]
        raise InputError(
            f"{parameters.source}: gives {error.title} a {where} that cannot be used: "
            f"{first['msg']} (got {first['input']!r:.60})"
        ) from error


def _pixel_size_nm(parameters: OfficialParameters, given: float | None) -> float:
    if given is not None:
        return given
    sizes = parameters.Camera.px_size
    if not sizes or len(sizes) > 2:
        raise InputError(
            f"{parameters.source}: Camera.px_size is missing; give the pixel size in "
            f"the sample with --pixel-size-nm"
        )
    low, high = min(sizes), max(sizes)
    if high > low * (1 + _SQUARE_TOLERANCE):
        raise InputError(
            f"{parameters.source}: Camera.px_size is {low:g} and {high:g} nm, and "
            f"blinkloop knows square pixels only; say which one to write into the card "
            f"with --pixel-size-nm (the network works in px and does not change)"
        )
    return math.sqrt(low * high)


def _z_range_nm(parameters: OfficialParameters) -> tuple[float, float]:
    extent = parameters.Simulation.emitter_extent
    z = extent[2] if extent is not None and len(extent) == 3 else None
    if z is None or len(z) != 2 or not z[0] <= z[1]:
        raise InputError(
            f"{parameters.source}: Simulation.emitter_extent must end in the range of "
            f"z in nm, low before high (got {z}); add it to the file"
        )
    return z[0], z[1]


def _pair(parameters: OfficialParameters, key: str, what: str) -> tuple[float, float]:
    values = getattr(parameters.Simulation, key)
    if not values or len(values) != 2:
        raise InputError(
            f"{parameters.source}: Simulation.{key} must be {what} (got {values}); add "
            f"it to the file, or give the param_run file that DECODE wrote"
        )
    return values[0], values[1]


def _background(parameters: OfficialParameters) -> tuple[float, float]:
    values = parameters.Simulation.bg_uniform
    if values and len(values) == 1:
        return values[0], values[0]
    return _pair(parameters, "bg_uniform", "a number or two, photons per pixel")


def _scaling(parameters: OfficialParameters, z_nm: tuple[float, float]) -> Scaling:
    """As the file says, or as DECODE sets what the file leaves empty."""
    given = parameters.Scaling

    def filled(value: float | None, rule: Any) -> float:
        return float(rule()) if value is None else value

    def flux() -> tuple[float, float]:
        return _pair(parameters, "intensity_mu_sig", "mean and SD of the photons")

    return Scaling(
        input_offset_photons=filled(
            given.input_offset, lambda: sum(_background(parameters)) / 2
        ),
        input_scale_photons=filled(given.input_scale, lambda: flux()[0] / 50),
        photons_max=filled(given.phot_max, lambda: flux()[0] + 8 * flux()[1]),
        z_max_nm=filled(given.z_max, lambda: 1.2 * z_nm[1]),
        background_max=filled(given.bg_max, lambda: 1.2 * _background(parameters)[1]),
    )


def _camera(parameters: OfficialParameters, pixel_nm: float) -> CameraSettings:
    if parameters.CameraPreset == _PERFECT:
        return CameraSettings(
            kind="ideal",
            baseline_adu=0.0,
            e_per_adu=1.0,
            read_noise_e=0.0,
            pixel_size_nm=pixel_nm,
        )
    camera = parameters.Camera
    return CameraSettings(
        # Official code multiplies electrons wherever there is a gain, be it 1.
        kind="scmos" if camera.em_gain is None else "emccd",
        baseline_adu=parameters.need("Camera.baseline", "ADU of a dark pixel"),
        e_per_adu=parameters.need("Camera.e_per_adu", "electrons per ADU"),
        em_gain=1.0 if camera.em_gain is None else camera.em_gain,
        quantum_efficiency=1.0 if camera.qe is None else camera.qe,
        read_noise_e=parameters.need("Camera.read_sigma", "read noise in electrons"),
        spurious_e=parameters.need("Camera.spur_noise", "spurious charge in electrons"),
        pixel_size_nm=pixel_nm,
    )


def _psf(
    parameters: OfficialParameters,
    calibration: Path | None,
    pixel_nm: float,
    z_nm: tuple[float, float],
) -> SplinePsfSettings:
    named = parameters.InOut.calibration_file
    if calibration is None and not named:
        raise InputError(
            f"{parameters.source}: InOut.calibration_file is empty; say which PSF the "
            f"network was trained with: --calibration FILE"
        )
    if calibration is not None and not calibration.is_file():
        raise InputError(
            f"{calibration}: there is no such file; give the *_3dcal.mat the network "
            f"was trained with to --calibration"
        )
    # Folders of the training machine, Windows or not, do not belong into the card.
    name = calibration.name if calibration else PureWindowsPath(str(named)).name
    beside = Path(parameters.source).parent / name
    found = calibration or next(
        (p for p in (beside, Path(str(named))) if p.is_file()), None
    )
    digest = hashlib.sha256(found.read_bytes()).hexdigest() if found else ""
    return SplinePsfSettings(
        file=name, sha256=digest, pixel_size_nm=pixel_nm, z_range_nm=z_nm
    )


def _ranges(parameters: OfficialParameters, pixel_nm: float) -> TrainingRanges:
    mean, sd = _pair(parameters, "intensity_mu_sig", "mean and SD of the photons")
    on_time = parameters.need("Simulation.lifetime_avg", "mean on-time in frames")
    floor = parameters.HyperParameter.emitter_label_photon_min or 0.0
    return TrainingRanges(
        photons=(max(floor, mean - 2 * sd), mean + 2 * sd),
        background_photons=_background(parameters),
        density_per_um2=(0.0, _density_per_um2(parameters, pixel_nm)),
        on_time_frames=(on_time, on_time),
    )


def _density_per_um2(parameters: OfficialParameters, pixel_nm: float) -> float:
    """Mean number of emitters in a frame, over the area they are drawn from."""
    simulation = parameters.Simulation
    per_px2 = simulation.density
    if per_px2 is None:
        extent = simulation.emitter_extent or []
        sides = [e[1] - e[0] for e in extent[:2] if e is not None and len(e) == 2]
        if len(sides) != 2 or min(sides) <= 0:
            raise InputError(
                f"{parameters.source}: Simulation.emitter_extent must begin with the "
                f"ranges of x and y in px; add them to the file"
            )
        mean = simulation.emitter_av
        per_px2 = (_DEFAULT_EMITTERS if mean is None else mean) / (sides[0] * sides[1])
    return per_px2 / (pixel_nm / 1000.0) ** 2


def _detection(
    parameters: OfficialParameters, given: Mapping[str, Any]
) -> DetectionSettings:
    """Official inference pools above 0.1; what its score must reach is the user's."""
    values: dict[str, Any] = {}
    if parameters.PostProcessing in (None, *_INTEGRATING):
        raw = parameters.PostProcessingParam.raw_th
        threshold = _DEFAULT_RAW_THRESHOLD if raw is None else raw
        values = {
            "threshold": threshold,
            "raw_threshold": min(_INFERENCE_THRESHOLD, threshold),
        }
    return DetectionSettings(**{**values, **given})
