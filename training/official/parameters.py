"""Parameter files of official DECODE: which keys count, and what a missing one means.

DECODE fills what a file lacks from its own reference file, and some scaling constants
from the simulation (REFERENCE section 2). The same is done here; `assumed` tells what
was filled. Keys that only steer a training are not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from blinkloop.errors import InputError

__all__ = ["OfficialParameters", "read_parameters"]

_SUFFIXES = (".yaml", ".yml", ".json")


def _none_if_empty(value: Any) -> Any:
    """MATLAB and YAML write an absent value as [], '' or nothing."""
    return None if value in ([], "", {}) else value


def _list(value: Any) -> Any:
    """A single number stands for a list of one."""
    value = _none_if_empty(value)
    return [value] if isinstance(value, int | float | str) else value


_Number = Annotated[float | None, BeforeValidator(_none_if_empty)]
_Text = Annotated[str | None, BeforeValidator(_none_if_empty)]
_Numbers = Annotated[list[float] | None, BeforeValidator(_list)]
_Integers = Annotated[list[int] | None, BeforeValidator(_list)]


class _Section(BaseModel):
    # Foreign files: most of their keys are about the training and not ours to judge.
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class OfficialCamera(_Section):
    """Section `Camera`; `read_sigma` in electrons after EM gain, `px_size` in nm."""

    baseline: _Number = None
    e_per_adu: _Number = None
    em_gain: _Number = None
    px_size: _Numbers = None
    qe: _Number = None
    read_sigma: _Number = None
    spur_noise: _Number = None
    convert2photons: bool | None = None
    mirror_dim: _Integers = None


class OfficialArchitecture(_Section):
    """Section `HyperParameter.arch_param`."""

    activation: _Text = None
    depth_shared: _Number = None
    depth_union: _Number = None
    initial_features: _Number = None
    inter_features: _Number = None
    norm: _Text = None
    norm_head: _Text = None
    pool_mode: _Text = None
    upsample_mode: _Text = None


class OfficialHyperParameter(_Section):
    """Section `HyperParameter`."""

    architecture: _Text = None
    arch_param: OfficialArchitecture = OfficialArchitecture()
    channels_in: _Number = None
    disabled_attributes: _Integers = None
    emitter_label_photon_min: _Number = None

    @field_validator("arch_param", mode="before")
    @classmethod
    def _filled(cls, value: Any) -> Any:
        return {} if value in (None, []) else value


class OfficialInOut(_Section):
    """Section `InOut`."""

    calibration_file: _Text = None


class OfficialPostProcessing(_Section):
    """Section `PostProcessingParam`."""

    raw_th: _Number = None


class OfficialScaling(_Section):
    """Section `Scaling`; all in photons, z in nm."""

    input_scale: _Number = None
    input_offset: _Number = None
    bg_max: _Number = None
    phot_max: _Number = None
    z_max: _Number = None


class OfficialSimulation(_Section):
    """Section `Simulation`; extents in px, z in nm, density per square px."""

    bg_uniform: _Numbers = None
    density: _Number = None
    emitter_av: _Number = None
    emitter_extent: list[_Numbers] | None = None
    img_size: _Numbers = None
    intensity_mu_sig: _Numbers = None
    lifetime_avg: _Number = None
    psf_extent: list[_Numbers] | None = None
    xy_unit: _Text = None


class OfficialMeta(_Section):
    """Section `Meta`."""

    version: _Text = None


class OfficialParameters(_Section):
    """What an import needs of a parameter file; None where the file is silent."""

    CameraPreset: _Text = None
    Camera: OfficialCamera = OfficialCamera()
    HyperParameter: OfficialHyperParameter = OfficialHyperParameter()
    InOut: OfficialInOut = OfficialInOut()
    Meta: OfficialMeta = OfficialMeta()
    PostProcessing: _Text = None
    PostProcessingParam: OfficialPostProcessing = OfficialPostProcessing()
    Scaling: OfficialScaling = OfficialScaling()
    Simulation: OfficialSimulation = OfficialSimulation()
    source: str = Field("parameter file", exclude=True)

    @field_validator(
        "Camera",
        "HyperParameter",
        "InOut",
        "Meta",
        "PostProcessingParam",
        "Scaling",
        "Simulation",
        mode="before",
    )
    @classmethod
    def _filled(cls, value: Any) -> Any:
        # A section that is named but empty.
        return {} if value in (None, []) else value

    def need(self, key: str, what: str) -> float:
        """The number under `Section.name`; `InputError` where the file has none."""
        section, name = key.split(".")
        value = getattr(getattr(self, section), name)
        if value is None:
            raise InputError(
                f"{self.source}: {key} is missing ({what}); add it to the file, or "
                f"give the param_run file that DECODE wrote beside the model"
            )
        return float(value)


def read_parameters(path: Path) -> OfficialParameters:
    """Read a parameter file, YAML or JSON by its ending.

    Raises
    ------
    InputError
        Missing, unreadable, not a DECODE parameter file; names the first bad key.
    """
    data = _parse(path)
    known = set(OfficialParameters.model_fields) - {"source"}
    if not isinstance(data, Mapping) or len(known & set(data)) < 2:
        raise InputError(
            f"{path}: not a parameter file of DECODE (no sections Camera, Simulation, "
            f"...); give the param_run file that DECODE wrote beside the model"
        )
    if isinstance(data.get("Model"), Mapping) and "backbone" in data["Model"]:
        raise InputError(
            f"{path}: a parameter file of DECODE 0.11 or later (it has "
            f"Model.backbone), whose networks are not read; those of 0.9 and 0.10 are"
        )
    try:
        return OfficialParameters.model_validate(
            {key: value for key, value in data.items() if key in known}
            | {"source": str(path)}
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        got = " ".join(f"{first['input']!r:.60}".split())
        raise InputError(f"{path}: {where}: {first['msg']} (got {got})") from error


def _parse(path: Path) -> Any:
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(
            f"{path}: a parameter file of DECODE ends in {', '.join(_SUFFIXES)}; give "
            f"such a one to --param"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InputError(
            f"{path}: the parameter file cannot be read ({reason}); give the "
            f"param_run file that DECODE wrote beside the model"
        ) from error
    try:
        if path.suffix.lower() == ".json":
            return json.loads(text)
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        line = " ".join(str(error).split())
        raise InputError(
            f"{path}: not valid {path.suffix[1:].upper()} ({line:.120}); copy it again "
            f"from where DECODE wrote it"
        ) from error
