"""`run --raw` and `--policy`: raw frames on the disk, and none without a result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blinkloop.cli._bundled import bundled_models
from blinkloop.cli._output import command_line, note, plain
from blinkloop.cli._roi import ROI_KEY
from blinkloop.errors import InputError

if TYPE_CHECKING:
    from blinkloop.cli._live import LiveRun
    from blinkloop.cli._session import Session
    from blinkloop.runtime import FrameSource
    from blinkloop.runtime.protocols import Recorder

__all__ = ["RAW_NAME", "Recording", "recording_options"]

RAW_NAME = "raw.ome.zarr"
"""Raw data in the folder of a run, unless --raw says otherwise."""

_PACKAGES = (
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "pymmcore",
    "pymmcore-plus",
    "yaozarrs",
    "zarr",
)


@dataclass(frozen=True, slots=True)
class Recording:
    """What a person said of raw data and of frames that cannot be analysed in time.

    Parameters
    ----------
    raw
        Where raw data go; None = nowhere, or into the run's folder with `every`.
    policy
        "latest": skipped frames are counted. "every": they are fitted after the run.
    """

    raw: Path | None
    policy: str

    @property
    def given(self) -> dict[str, Any]:
        """The options that were given, for `Following.refuse`."""
        return {"raw": self.raw, "policy": None if self.policy == "latest" else "every"}

    @property
    def wanted(self) -> bool:
        """Whether raw data are kept."""
        return self.raw is not None or self.policy == "every"

    def check(self) -> None:
        """Say what is wrong now, before anything is switched on.

        Raises
        ------
        InputError
            Something is there already, or a package is missing.
        """
        from blinkloop.extras import require

        if not self.wanted:
            return
        require("yaozarrs", "Keeping raw data", "raw")
        if self.raw is not None and self.raw.exists():
            raise InputError(
                f"--raw {self.raw} exists already and raw data are never overwritten; "
                f"choose another name"
            )

    def recorder(
        self, source: FrameSource, folder: Path, make_safe: Callable[[str], object]
    ) -> Recorder | None:
        """Who keeps the frames of a source; None when nobody asked for it.

        Of a source whose frames are analysed in part it keeps the whole ones.
        """
        from blinkloop.runtime import RegionSource, WholeRecorder
        from blinkloop.runtime.raw import RawRecorder, RawStore

        if not self.wanted:
            return None
        part = source if isinstance(source, RegionSource) else None
        roi = source.roi if part is None else part.image
        store = RawStore(self.raw or folder / RAW_NAME, roi, source.dtype)
        log = folder / "laser.csv"
        recorder = RawRecorder(store, on_failure=make_safe, laser_log=log)
        return recorder if part is None else WholeRecorder(recorder, part)

    def meta(self, recorder: Recorder | None, source: FrameSource) -> dict[str, Any]:
        """More facts for the stores of a run with raw data."""
        if recorder is None:
            return {}
        context = click.get_current_context(silent=True)
        return {
            "policy": self.policy,
            "raw": recorder.summary()["path"],
            "camera_facts": dict(source.camera_facts()),
            "settings": _said({} if context is None else context.params),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "versions": _versions(),
        }

    def finish(
        self, run: LiveRun, session: Session, folder: Path, threads: int | None
    ) -> LiveRun:
        """Fit what was skipped, when that was asked for; the run as it is then."""
        raw = run.report.extra.get("raw")
        if raw is None:
            return run
        run.files["raw"] = raw["path"]
        if raw["frames_unwritten"]:
            run.warnings.append(
                f"{raw['frames_unwritten']} frames are not in the raw data: the disk "
                f"was too slow or refused"
            )
        if ROI_KEY in raw and raw["frames"]:
            _say_rest(raw["path"], session, folder)
        if self.policy != "every" or not raw["frames"]:
            return run
        from blinkloop.cli._complete import catch_up

        return catch_up(run, session, folder, threads)


def recording_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--raw` and `--policy`; the command gets them as `recording`."""
    from functools import wraps

    @click.option(
        "--raw",
        type=click.Path(path_type=Path),
        metavar="PATH.ome.zarr",
        help="Keep the raw frames too, as OME-Zarr 0.5.",
    )
    @click.option(
        "--policy",
        type=click.Choice(["latest", "every"]),
        default="latest",
        show_default=True,
        help="every fits frames skipped live after the run, from the raw data.",
    )
    @wraps(command)
    def wrapped(*args: Any, raw: Path | None, policy: str, **more: Any) -> Any:
        return command(*args, recording=Recording(raw, policy), **more)

    return wrapped


def _said(params: Mapping[str, Any]) -> dict[str, Any]:
    """The options as they can be kept."""
    kept = {}
    for name, value in params.items():
        try:
            kept[name] = plain(value)
        except TypeError:
            kept[name] = str(value)
    return kept


def _versions() -> dict[str, str]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import blinkloop

    found = {"blinkloop": blinkloop.__version__, "python": platform.python_version()}
    found["system"] = platform.platform()
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _say_rest(raw: str, session: Session, folder: Path) -> None:
    """Say how the frames of which a part was analysed are localized whole."""
    path, name = session.model.path, session.model.card.name
    model = name if bundled_models().get(name) == path else path
    out = folder / "whole.hdf5"
    words = ("blinkloop", "fit", raw, "-m", model, "-o", out)
    note(f"whole frames are in the raw data; localize them: {command_line(*words)}")


def say_left(frames: int, folder: Path) -> None:
    """Say that frames wait for a fit, and how to come to it."""
    note(
        f"{frames} frames of the raw data are not fitted yet; go on with: "
        f"blinkloop fit --resume {folder}"
    )
