"""Options and making of the feedback loop, for `run`, `replay` and `demo`."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from blinkloop.cli._output import note
from blinkloop.errors import InputError

if TYPE_CHECKING:
    from blinkloop.runtime import Roi
    from blinkloop.runtime.deadman import DeadManPlan
    from blinkloop.runtime.feedback import CommandLog, FeedbackLoop
    from blinkloop.runtime.feedback.port import Switch
    from blinkloop.runtime.protocols import Laser
    from blinkloop.schema import ModelCard

    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # not generic before click 8.4

__all__ = ["check_max_power", "check_region", "feedback_options", "make_loop"]

_STALE_S, _DARK_AFTER_S = 2.0, 5.0
"""Without estimates for so long, the laser is held, then dark; longer for cameras of
less than 4 frames/s."""

_GONE_S = 60.0
"""Emitters that are gone at once are waited for so long."""

_MOST_UPDATE_FRAMES = 1000
"""With fewer emitters than that can tell, it takes its chances."""

_NOW = "now"


class _Target(_ParamType):
    """A number, or the word now."""

    name = "float|now"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        if value == _NOW:
            return value
        return click.FLOAT.convert(value, param, ctx)


class _Region(_ParamType):
    """X,Y,WIDTH,HEIGHT in pixels of the chip."""

    name = "x,y,width,height"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        try:
            x, y, width, height = (int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r}: give four whole numbers, X,Y,WIDTH,HEIGHT")
        if min(x, y) < 0 or min(width, height) < 1:
            self.fail(f"{value!r}: X and Y from 0, WIDTH and HEIGHT from 1")
        return x, y, width, height


_F = TypeVar("_F", bound=Callable[..., Any])


def feedback_options(function: _F) -> _F:
    """Add --target, --on-time, --update-frames, --region, --estimator."""
    for option in (
        click.option(
            "--estimator",
            type=click.Choice(["mean", "crowding"]),
            default="mean",
            show_default=True,
            help="Hold the mean density, or that of the densest 8 x 8 px block.",
        ),
        click.option(
            "--region",
            type=_Region(),
            help="Part of the chip whose density is held; default: all of it.",
        ),
        click.option(
            "--update-frames",
            type=click.IntRange(5),
            help="Frames between two laser commands; default: 10, at least 0.1 s, more "
            "where few emitters are wanted.",
        ),
        click.option(
            "--on-time",
            type=float,
            help="Mean on-time in frames; default: learned from the detections.",
        ),
        click.option(
            "--target",
            type=_Target(),
            default=0.5,
            show_default=True,
            help="Density to hold, active emitters per um^2, or now: as it is.",
        ),
    ):
        function = option(function)
    return function


def make_loop(
    card: ModelCard,
    *,
    mode: str,
    target: float | str,
    on_time: float | None,
    update_frames: int | None,
    laser: Laser | None = None,
    start_power: float | None = None,
    max_power: float | None = None,
    safe_power: float = 0.0,
    max_dose: float | None = None,
    log: Path | None = None,
    frame_s: float = 0.0,
    deadman: DeadManPlan | str | None = None,
    estimator: str = "mean",
    region: tuple[int, int, int, int] | None = None,
    actuator: str = "power",
    stop_at_max_s: float | None = None,
    tune: bool = False,
    field_px: int | None = None,
    laser_step: float | None = None,
    laser_settle_s: float | None = None,
) -> FeedbackLoop:
    """Estimator, controller and guard for a model.

    Parameters
    ----------
    card
        Of the model: pixel size, on-times, smallest probability.
    mode
        "off", "advise" or "control".
    target
        Active emitters per um^2; "now" = as it is at the start.
    on_time, update_frames
        Mean on-time, None = learned from the middle of the model's range on; frames
        per command, None = by camera and estimator.
    laser
        None in mode off, or to advise without one.
    start_power, max_power, safe_power, max_dose
        In the laser property's unit; defaults from the laser's own limits.
    log
        CSV of every command.
    frame_s
        Time between frames; estimates of a slow camera are not stale at once.
    deadman
        Of the laser; or why none is possible, which goes into the log.
    estimator, region
        "mean" or "crowding"; part of the chip (x, y, width, height).
    actuator
        A name of `ACTUATORS`.
    stop_at_max_s
        At the largest power for so long with too few emitters, it stops for good.
    tune
        Begin with a step test that sets the gains.
    field_px
        Pixels of an image; few emitters take longer updates.
    laser_step, laser_settle_s
        Of the laser's values, and how late it reports them; None = found out.

    Raises
    ------
    InputError
        Values that do not fit together.
    """
    from pydantic import ValidationError

    from blinkloop.runtime import DensityEstimator, Roi, probability_floor
    from blinkloop.runtime.feedback import (
        ACTUATORS,
        CommandLog,
        ControllerSettings,
        FeedbackController,
        FeedbackLoop,
        LaserGuard,
        LaserLimits,
    )

    low, high = card.training_ranges.on_time_frames
    tau = on_time if on_time is not None else math.sqrt(low * high)
    top = max_power
    if top is None:
        top = laser.limits[1] if laser is not None else 1.0
    check_max_power(top)
    lowest = 0.0 if laser is None else max(float(laser.limits[0]), 0.0)
    start = start_power if start_power is not None else max(top / 100.0, lowest)
    kind = ACTUATORS[actuator]
    resolution = laser_step or kind.resolution or getattr(laser, "resolution", None)
    if update_frames is None:
        update_frames = _update_frames(estimator, frame_s)
        looked_at = field_px if region is None else region[2] * region[3]
        if looked_at is not None and not isinstance(target, str):
            wanted = target * looked_at * (1e-3 * card.pixel_size_nm) ** 2
            if wanted > 0:
                update_frames = max(update_frames, _frames_to_count(wanted, tau))
    at_max = None
    if stop_at_max_s is not None:
        at_max = math.ceil(stop_at_max_s / (update_frames * (frame_s or 0.01)))
    try:
        settings = ControllerSettings(
            # "now" is copied from the first full average; until then nothing is done.
            target_per_um2=0.0 if isinstance(target, str) else target,
            estimator=estimator,
            resolution=resolution,
            power_floor=kind.floor,
            stop_at_max_updates=at_max,
            gone_updates=math.ceil(_GONE_S / (update_frames * (frame_s or 0.01))),
            tune=tune,
            start_power=start,
            min_power=lowest,
            max_power=top,
            on_time_frames=tau,
            learn_on_time=on_time is None,
            update_frames=update_frames,
        )
        limits = LaserLimits(
            max_value=top,
            min_value=lowest,
            safe_value=safe_power,
            max_dose=max_dose,
            resolution=resolution,
            settle_s=laser_settle_s or 0.0,
            stale_s=max(_STALE_S, 8 * frame_s),
            dark_after_s=max(_DARK_AFTER_S, 20 * frame_s),
        )
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # values that do not go together
            text = first["msg"].removeprefix("Value error, ")
            raise InputError(f"feedback: {text}") from error
        name = first["loc"][0]
        raise InputError(
            f"feedback: {name} cannot be {first['input']!r:.60}: {first['msg']}"
        ) from error
    density = DensityEstimator(
        card.pixel_size_nm,
        average_frames=update_frames,
        on_time_frames=tau,
        learn_on_time=on_time is None,
        region=None if region is None else Roi(*region),
        p_floor=probability_floor(card.architecture.logit_clamp),
        crowding_late=estimator != "crowding",
    )
    commands = CommandLog(log)
    try:
        guard = LaserGuard(
            laser,
            limits,
            mode=mode,  # type: ignore[arg-type]
            log=commands,
            deadman=_start(deadman, commands) if mode == "control" else None,
            learn=True,
        )
    except InputError:
        commands.close()
        raise
    loop = FeedbackLoop(density, FeedbackController(settings), guard)
    if isinstance(target, str):
        loop.copy_target()
    return loop


def check_max_power(power: float) -> float:
    """The same when a laser can have it as its largest; `InputError` otherwise."""
    if not (math.isfinite(power) and power > 0):
        raise InputError(f"--max-power {power:g}: give a number above 0")
    return power


def check_region(region: tuple[int, int, int, int] | None, image: Roi) -> None:
    """`InputError` when no pixel of the region is in the image."""
    if region is None:
        return
    from blinkloop.runtime import Roi

    x, y, width, height = region
    if image.common(Roi(x, y, width, height)) is None:
        raise InputError(
            f"--region {x},{y},{width},{height} lies outside the image, which is "
            f"{image.width} x {image.height} px at ({image.x}, {image.y}) of the chip; "
            f"give a part of it"
        )


def _update_frames(estimator: str, frame_s: float) -> int:
    """Ten frames; more for the noisy maximum of blocks, and for fast cameras.

    A laser on a serial line takes some 10 commands/s, and delays are times: they are
    sought up to 8.5 updates.
    """
    frames = 25 if estimator == "crowding" else 10
    return max(frames, math.ceil(0.1 / frame_s)) if frame_s > 0 else frames


def _frames_to_count(emitters: float, on_time_frames: float) -> int:
    """Frames whose mean tells that many emitters from none or twice as many.

    The controller holds while an average's relative SD is above a half; here it is to
    be half of that variance at the target: 1 / (n N) for n independent frames, and
    frames are worth one in 2 on-times. Of 5 emitters 10 frames are enough; of 0.1, 500.
    """
    needed = 2.0 * on_time_frames * 8.0 / emitters
    return math.ceil(min(needed, _MOST_UPDATE_FRAMES))


def _start(deadman: DeadManPlan | str | None, log: CommandLog) -> Switch | None:
    """Start it; a laser without one can be used, but that is said plainly."""
    from blinkloop.errors import DeviceError
    from blinkloop.runtime.deadman import DeadMan
    from blinkloop.runtime.feedback.log import make_row

    why = deadman
    if deadman is not None and not isinstance(deadman, str):
        try:
            return DeadMan(deadman)
        except DeviceError as error:
            why = str(error)
    if isinstance(why, str):
        note(f"no dead man for the laser: {why}; keep the hardware interlock")
        nan = math.nan
        reason = f"no dead man: {why}"
        log.append(make_row(0.0, "control", nan, nan, nan, None, nan, 0.0, reason))
    return None
