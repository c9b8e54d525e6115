"""The model card: everything a runtime must know of a network, inside its file."""

from __future__ import annotations

import hashlib
from typing import Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from blinkloop.errors import InputError
from blinkloop.schema.camera import CameraSettings
from blinkloop.schema.precision import Precision, PrecisionName
from blinkloop.schema.psf import PsfSettings

__all__ = [
    "CARD_FORMAT_VERSION",
    "CARD_KEY",
    "PIXEL_SIZE_TOLERANCE",
    "Architecture",
    "DetectionSettings",
    "ModelCard",
    "Scaling",
    "Tolerances",
    "TrainingRanges",
]

CARD_FORMAT_VERSION: Final = 1
CARD_KEY = "blinkloop_model_card"
"""Key of the card's JSON in the ONNX file's `metadata_props`."""

PIXEL_SIZE_TOLERANCE: Final = 0.01
"""Relative; the width of the PSF in px scales with the pixel size."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_YOUNG_FIELDS: Final = {
    "kept_features": None,
    "context_features": None,
    "context_depth": None,
    "activation": "elu",
    "convolutions": 2,
}
"""Younger than the first cards: left out of a card where they have these values, so
that such cards stay as they were and older versions read them."""


class Architecture(_Strict):
    """Shape of the two-stage network; the one place its constraints live."""

    name: Literal["two-stage-unet"] = "two-stage-unet"
    features: int = Field(48, ge=1, description="Channels of the first level.")
    depth: int = Field(2, ge=0, le=5, description="Number of 2 x 2 down-samplings.")
    stem_stride: Literal[1, 2, 4] = Field(
        1, description="2, 4: analysis at a half, a quarter of the resolution."
    )
    logit_clamp: float = Field(
        8.0, gt=0, description="p = sigmoid(clamp(logit, -c, c))."
    )
    kept_features: int | None = Field(
        None, ge=1, description="Channels kept of a frame; None: `features`."
    )
    context_features: int | None = Field(
        None, ge=1, description="Channels of the context network; None: `features`."
    )
    context_depth: int | None = Field(
        None, ge=0, le=5, description="Down-samplings of it; None: `depth`."
    )
    activation: Literal["elu", "relu"] = Field(
        "elu", description="Between convolutions; runtimes fuse relu with them."
    )
    convolutions: int = Field(
        2, ge=1, le=8, description="3 x 3 convolutions in a row, at every level."
    )

    @model_serializer(mode="wrap")
    def _without_defaults(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = plain(self)
        return {k: v for k, v in found.items() if v != _YOUNG_FIELDS.get(k, ...)}

    @property
    def kept_channels(self) -> int:
        """Channels that are kept of every frame."""
        return self.kept_features or self.features

    @property
    def context_channels(self) -> int:
        """Channels of the context network's first level."""
        return self.context_features or self.features

    @property
    def context_levels(self) -> int:
        """Down-samplings of the context network."""
        return self.depth if self.context_depth is None else self.context_depth

    @property
    def grid_multiple(self) -> int:
        """Height and width of the kept features are multiples of this."""
        return int(2 ** max(self.depth, self.context_levels))

    @property
    def size_multiple(self) -> int:
        """Height and width are padded to a multiple of this, in px."""
        return self.stem_stride * self.grid_multiple

    def feature_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the kept features for an image of that size."""
        m, s = self.size_multiple, self.stem_stride
        return -(-height // m) * m // s, -(-width // m) * m // s


class Scaling(_Strict):
    """Constants between network units and physical units (REFERENCE section 2)."""

    input_offset_photons: float = Field(description="Subtracted from the frames.")
    input_scale_photons: float = Field(gt=0, description="Then divided by this.")
    photons_max: float = Field(gt=0, description="N = 1 in network units.")
    z_max_nm: float = Field(gt=0, description="z = 1 in network units.")
    background_max: float = Field(gt=0, description="bg = 1 in network units.")


class TrainingRanges(_Strict):
    """What the network has seen; data outside draw a warning."""

    photons: tuple[float, float] = Field(description="Mean photons per frame.")
    background_photons: tuple[float, float] = Field(description="Per pixel and frame.")
    density_per_um2: tuple[float, float] = Field(description="Emitters per frame.")
    on_time_frames: tuple[float, float] = Field(description="Mean on-time.")


class DetectionSettings(_Strict):
    """Pooling-based detection (REFERENCE section 7)."""

    threshold: float = Field(0.3, gt=0, lt=1, description="Kept when score >= this.")
    raw_threshold: float = Field(
        0.1, gt=0, lt=1, description="Pixels below it are never a candidate."
    )
    split: float = Field(0.6, gt=0, le=1, description="Second candidates: p above it.")
    max_detections: int = Field(2048, ge=1, description="Rows K of the table.")


class Tolerances(_Strict):
    """How far two backends, or two chunkings, may differ."""

    prob: float = Field(1e-3, gt=0, description="Probability and score.")
    position_px: float = Field(1e-2, gt=0, description="x, y and their sigmas, px.")
    z_nm: float = Field(2.0, gt=0, description="z and its sigma, nm.")
    photons_relative: float = Field(1e-2, gt=0, description="Photons, background.")


class ModelCard(_Strict):
    """The card of one model file. Serialized as JSON under `CARD_KEY`."""

    format_version: Literal[1] = CARD_FORMAT_VERSION
    name: str
    description: str = ""
    architecture: Architecture
    pixel_size_nm: float = Field(gt=0)
    pixel_size_range_nm: tuple[float, float] | None = Field(
        None,
        description="Pixel sizes an amortized network serves; None: its own alone. "
        "Densities of the card are per um^2 at `pixel_size_nm`.",
    )
    z_range_nm: tuple[float, float]
    psf: PsfSettings
    camera: CameraSettings
    scaling: Scaling
    training_ranges: TrainingRanges
    detection: DetectionSettings = DetectionSettings()
    tolerances: Tolerances = Tolerances()
    precision: Precision | None = Field(
        None, description="How it was converted from fp32; None: it is fp32."
    )
    accuracy: dict[str, Any] = Field(
        default_factory=dict, description="Measured: command, seed, numbers, intervals."
    )
    provenance: dict[str, Any] = Field(
        default_factory=dict, description="Recipe, seed, versions, hardware, time."
    )

    @model_serializer(mode="wrap")
    def _fp32_as_ever(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Cards of fp32 models stay as they were, for older versions and their hashes.
        found: dict[str, Any] = plain(self)
        return {k: v for k, v in found.items() if k != "precision" or v is not None}

    @property
    def precision_name(self) -> PrecisionName:
        """Number type of the network in the file."""
        return "fp32" if self.precision is None else self.precision.name

    def density_per_um2_at(self, pixel_size_nm: float) -> tuple[float, float]:
        """Trained range of the density with pixels of another size.

        A network knows emitters per pixel, so smaller pixels allow a higher density.
        """
        low, high = self.training_ranges.density_per_um2
        scale = (self.pixel_size_nm / pixel_size_nm) ** 2
        return low * scale, high * scale

    def serves_pixel_size(self, pixel_size_nm: float) -> bool:
        """Whether the network can be used with pixels of that size (to 1 %)."""
        low, high = self.pixel_size_range_nm or (self.pixel_size_nm,) * 2
        tolerance = PIXEL_SIZE_TOLERANCE
        return low * (1 - tolerance) <= pixel_size_nm <= high * (1 + tolerance)

    @property
    def three_dimensional(self) -> bool:
        """False when the z range is empty."""
        return self.z_range_nm[1] > self.z_range_nm[0]

    def to_json(self) -> str:
        """The card as JSON text."""
        return self.model_dump_json()

    def sha256(self) -> str:
        """Hash of the card's JSON text."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str, *, source: str = "model file") -> ModelCard:
        """Read a card; `InputError` in one line when it is not a valid one."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "card"
            raise InputError(
                f"{source}: the model card is not valid ({where}: {first['msg']}); "
                f"it was made by another version or is damaged; export it again"
            ) from error
