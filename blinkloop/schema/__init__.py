"""Words all rooms share: model card, camera and PSF descriptions, tables."""

from __future__ import annotations

from blinkloop.schema.camera import CameraSettings
from blinkloop.schema.card import (
    CARD_FORMAT_VERSION,
    CARD_KEY,
    Architecture,
    DetectionSettings,
    ModelCard,
    Scaling,
    Tolerances,
    TrainingRanges,
)
from blinkloop.schema.precision import (
    PRECISIONS,
    LossLimits,
    Precision,
    PrecisionLoss,
    PrecisionName,
)
from blinkloop.schema.psf import (
    GaussianPsfSettings,
    ObjectiveSettings,
    PsfSettings,
    SplinePsfSettings,
    VariedGaussianPsfSettings,
)
from blinkloop.schema.table import (
    DETECTION_COLUMNS,
    EMITTER_DTYPE,
    LOCALIZATION_DTYPE,
    LocalizationTable,
    empty_emitters,
)

__all__ = [
    "CARD_FORMAT_VERSION",
    "CARD_KEY",
    "DETECTION_COLUMNS",
    "EMITTER_DTYPE",
    "LOCALIZATION_DTYPE",
    "PRECISIONS",
    "Architecture",
    "CameraSettings",
    "DetectionSettings",
    "GaussianPsfSettings",
    "LocalizationTable",
    "LossLimits",
    "ModelCard",
    "ObjectiveSettings",
    "Precision",
    "PrecisionLoss",
    "PrecisionName",
    "PsfSettings",
    "Scaling",
    "SplinePsfSettings",
    "Tolerances",
    "TrainingRanges",
    "VariedGaussianPsfSettings",
    "empty_emitters",
]
