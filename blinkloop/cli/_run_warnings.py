"""What a person should hear of a run that did not fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blinkloop.cli._roi import smaller_part

if TYPE_CHECKING:
    from blinkloop.runtime import Roi, RunReport

__all__ = ["run_warnings"]

_PLANNED = ("end of the run", "signal ")


def run_warnings(report: RunReport, roi: Roi | None = None) -> list[str]:
    """One line each: frames skipped live, estimates without a number, a dark laser.

    Parameters
    ----------
    report
        Of the run.
    roi
        What was analysed; None = not known.
    """
    warnings = []
    skipped = report.frames_skipped
    if skipped:
        warnings.append(
            f"{skipped} of {report.frames_seen} frames were skipped live: the analysis "
            f"is slower than the camera; {_advice(report, roi)}"
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


def _advice(report: RunReport, roi: Roi | None) -> str:
    """What helps, with a part of the image that would have been followed."""
    others = "a longer exposure, a smaller network or a GPU"
    share = 1 - report.frames_skipped / max(report.frames_seen, 1)
    part = None if roi is None else smaller_part(roi.width, roi.height, share)
    if part is None:
        return f"use {others}"
    return (
        f"analyse a part of the image (--roi {part} should do, and --raw keeps the "
        f"rest for 'blinkloop fit'), or use {others}"
    )
