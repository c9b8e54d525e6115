"""What a person should hear of a run that did not fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blinkloop.runtime import RunReport

__all__ = ["run_warnings"]

_PLANNED = ("end of the run", "signal ")


def run_warnings(report: RunReport) -> list[str]:
    """One line each: frames skipped live, estimates without a number, a dark laser."""
    warnings = []
    skipped = report.frames_skipped
    if skipped:
        warnings.append(
            f"{skipped} of {report.frames_seen} frames were skipped live: the analysis "
            f"is slower than the camera; use a smaller ROI, a longer exposure, a "
            f"smaller network or a GPU"
        )
    broken = int(report.extra.get("density_not_finite", 0))
    if broken:
        warnings.append(
            f"{broken} frames gave no finite density and did not move the laser; "
            f"check the model with 'blinkloop verify', and the camera's facts"
        )
    gone = int(report.extra.get("emitters_gone", 0))
    if gone:
        in_vain = int(report.extra.get("emitters_gone_given_up", 0))
        then = (
            f"; {in_vain} times in vain, then it was raised slowly" if in_vain else ""
        )
        warnings.append(
            f"the emitters were gone at once {gone} times (focus, shutter, stage?); "
            f"the laser waited at the power before{then}; see laser.csv"
        )
    reason = str(report.extra.get("laser_stopped", ""))
    if reason and not reason.startswith(_PLANNED):
        warnings.append(
            f"the laser went to its safe value during the run: {reason}; see laser.csv"
        )
    return warnings
