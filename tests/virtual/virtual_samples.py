"""Virtual samples that several tests of this folder look at."""

from __future__ import annotations

from blinkloop.integrations.virtual import KineticsSettings, VirtualSettings
from blinkloop.schema import CameraSettings

__all__ = ["QUIET", "SMALL"]

QUIET = VirtualSettings(
    width_px=71,
    height_px=37,
    n_emitters=3000,
    kinetics=KineticsSettings(activation_per_mw_s=0.05),
    camera=CameraSettings(kind="ideal", baseline_adu=50.0, e_per_adu=1.0),
    seed=5,
)
"""Shot noise alone, slow blinking."""

SMALL = VirtualSettings(
    width_px=53,
    height_px=31,
    exposure_ms=5.0,
    n_emitters=3000,
    kinetics=KineticsSettings(activation_per_mw_s=0.2, on_time_ms=15.0),
    camera=CameraSettings(bit_depth=12),
    start_power_mw=1.0,
    seed=2,
)
"""For the core: 200 frames/s, at most 4095 ADU."""
