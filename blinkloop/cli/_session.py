"""What `fit`, `replay`, `run` and `demo` share: model, camera, localizer, outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import blinkloop
from blinkloop.cli._call_size import call_frames
from blinkloop.cli._live_backend import live_backend, live_threads, warm_up
from blinkloop.cli._options import CameraFlags
from blinkloop.cli._output import note, warn
from blinkloop.errors import BlinkloopError, InputError

if TYPE_CHECKING:
    from blinkloop.camera_facts import ResolvedCamera
    from blinkloop.runtime import (
        Backend,
        CameraMaps,
        Localizer,
        ModelFile,
        RunReport,
    )

__all__ = [
    "Output",
    "Session",
    "full_tables",
    "open_session",
    "raise_failure",
    "say",
]


@dataclass(frozen=True, slots=True)
class Session:
    """A model loaded for one camera.

    Parameters
    ----------
    model
        The model file.
    camera
        Camera facts used, and where each came from.
    localizer
        Ready for frames.
    meta
        Facts for the results: model, camera, thresholds, version.
    """

    model: ModelFile
    camera: ResolvedCamera
    localizer: Localizer
    meta: dict[str, Any]


def open_session(
    model_path: Path,
    flags: CameraFlags,
    source_facts: Mapping[str, Any],
    *,
    source: str,
    backend: str = "auto",
    threshold: float | None = None,
    threads: int | None = None,
    localize: Callable[[ModelFile, Backend, CameraMaps], Localizer] | None = None,
    live: tuple[int, int] | None = None,
) -> Session:
    """Load a model with the camera facts that hold for a source.

    Parameters
    ----------
    model_path
        The model file.
    flags
        What a person said of the camera.
    source_facts
        What the source says of it.
    source
        Name of the source for messages: "movie" or "Micro-Manager".
    backend, threshold, threads
        See `StreamLocalizer`.
    localize
        Makes the localizer; default, and live: a `StreamLocalizer` of whole frames.
    live
        Height and width, px, of the frames of a camera that does not wait. Then
        "auto" goes by single frames of that size, a core is left free unless
        `threads` says otherwise, and the first call is made here.
    """
    from blinkloop.camera_facts import model_meta, resolve_camera
    from blinkloop.runtime import (
        StreamLocalizer,
        create_backend,
        make_camera_maps,
        read_model,
    )
    from blinkloop.runtime.heaps import share_heaps

    model = read_model(model_path)
    camera = resolve_camera(
        flags.values, flags.file, source_facts, model.card, source=source
    )
    maps = make_camera_maps(camera.settings)
    if live is not None:
        share_heaps()
        threads = threads or live_threads()
        if backend == "auto":
            backend = live_backend(model, live, threads)
    loaded = create_backend(backend, model, maps, threshold=threshold, threads=threads)
    if live is not None:
        warm_up(loaded, model, live)
        # Frames that wait together are many when the computer is too slow.
        most = call_frames(loaded, live[0] * live[1])
        localizer: Localizer = StreamLocalizer(
            model, loaded, maps, max_frames_per_call=most
        )
    else:
        localizer = (localize or StreamLocalizer)(model, loaded, maps)
    meta = {
        **model_meta(model.card),
        **camera.meta(),
        "model_sha256": model.sha256,
        "model_file": str(model.path),
        "threshold": threshold or model.card.detection.threshold,
        "backend": loaded.name,
        # A GPU's backend has none.
        "threads": getattr(loaded, "threads", None),
        "blinkloop": blinkloop.__version__,
    }
    return Session(model, camera, localizer, meta)


@dataclass(frozen=True, slots=True)
class Output:
    """Where the localizations go: a live store, and a table made from it at the end.

    Parameters
    ----------
    path
        What the person asked for; the ending chooses the format.
    store
        The live store; the same as `path` when that ends in .zarr.
    """

    path: Path
    store: Path

    @classmethod
    def choose(cls, path: Path, *, overwrite: bool) -> Output:
        """Check, before the work, that the results can be written there.

        Raises
        ------
        InputError
            Unknown ending, or something is there already.
        """
        from blinkloop.integrations.formats import (
            check_table_path,
            has_table_ending,
            table_endings,
        )

        suffix = path.suffix.lower()
        if suffix == ".zarr":
            if path.exists() and not overwrite:
                raise InputError(
                    f"{path} exists already; choose another name or give --overwrite"
                )
            if not path.parent.is_dir():
                raise InputError(
                    f"{path}: the folder {path.parent} does not exist; make it first"
                )
            return cls(path, path)
        if not has_table_ending(path):
            raise InputError(
                f"{path}: the ending chooses the format, {suffix or 'none'!r} is not "
                f"known; use {table_endings()} or .zarr (live store)"
            )
        check_table_path(path, overwrite=overwrite)
        return cls(path, path.with_name(path.name + ".live.zarr"))

    def finish(self, failure: str | None = None) -> list[str]:
        """Make the table from the live store; keeps the store if that fails.

        Parameters
        ----------
        failure
            What ended the run early, to be said first when there is no table either.

        Returns
        -------
        list of str
            Files written.
        """
        import shutil

        from blinkloop.integrations.formats import read_table, write_table

        if self.store == self.path:
            return [str(self.path)]
        try:
            files = write_table(read_table(self.store), self.path, True)
        except BlinkloopError as error:
            first = f"{failure}; " if failure else ""
            raise type(error)(
                f"{first}{error}; the localizations are safe in {self.store}, try "
                f"'blinkloop convert {self.store} {self.path}'"
            ) from error
        shutil.rmtree(self.store, ignore_errors=True)
        return [str(file) for file in files]


def raise_failure(report: RunReport, saved: str, rows: int | None = None) -> None:
    """Turn a failed run into one error line that says what was saved.

    Parameters
    ----------
    report
        Of the run.
    saved
        Where the localizations are.
    rows
        Localizations there, when somebody counted; a disk may not have taken all.

    Raises
    ------
    BlinkloopError
        When the report names a failure.
    """
    if report.failure is not None:
        # The text of a camera, or a movie, names itself.
        what = report.failure.removeprefix("camera: ")
        made = report.localizations
        count = f"{made}" if rows in (None, made) else f"{rows} of {made}"
        raise BlinkloopError(
            f"{what}; {count} localizations of "
            f"{report.frames_localized} frames are saved in {saved}"
        )


def full_tables(report: RunReport, session: Session) -> list[str]:
    """A warning when frames had more detections than the model's table holds."""
    if not report.tables_full:
        return []
    return [
        f"{report.tables_full} frames have more detections than the model's table of "
        f"{session.model.card.detection.max_detections} rows: the least certain ones "
        f"of these frames are missing; lower the density, or fit in smaller tiles "
        f"(fit --tile 256x256)"
    ]


def say(session: Session, warnings: list[str]) -> None:
    """Tell what was used and from where, and what to beware of (stderr)."""
    note(session.camera.text)
    for line in warnings:
        warn(line)
