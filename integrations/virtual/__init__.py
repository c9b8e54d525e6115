"""A virtual microscope inside the real Micro-Manager core, with its ground truth."""

from __future__ import annotations

from blinkloop.integrations.virtual.demo import START_FACTORS, demo_settings
from blinkloop.integrations.virtual.microscope import (
    VirtualMicroscope,
    load_virtual_microscope,
)
from blinkloop.integrations.virtual.settings import (
    BackgroundSettings,
    DriftSettings,
    FaultSettings,
    KineticsSettings,
    SensorSettings,
    Structure,
    VirtualSettings,
)
from blinkloop.integrations.virtual.simulator import DETECTABLE_PHOTONS, Simulator
from blinkloop.integrations.virtual.truth import TRUTH_FRAME_DTYPE, TruthLog

__all__ = [
    "DETECTABLE_PHOTONS",
    "START_FACTORS",
    "TRUTH_FRAME_DTYPE",
    "BackgroundSettings",
    "DriftSettings",
    "FaultSettings",
    "KineticsSettings",
    "SensorSettings",
    "Simulator",
    "Structure",
    "TruthLog",
    "VirtualMicroscope",
    "VirtualSettings",
    "demo_settings",
    "load_virtual_microscope",
]
