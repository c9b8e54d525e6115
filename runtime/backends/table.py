"""The table of backends: names, availability, order of preference.

Availability is found without importing anything; the import happens in
`create_backend`. The order of the rows is the preference of `auto`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from blinkloop.cuda_driver import gpu_missing
from blinkloop.engine_file import is_engine_file, read_engine_header
from blinkloop.errors import InputError, MissingExtraError
from blinkloop.extras import installed
from blinkloop.runtime.backends.tensorrt_engine import engine_misfit
from blinkloop.runtime.camera_maps import CameraMaps
from blinkloop.runtime.model import ModelFile
from blinkloop.runtime.protocols import Backend

__all__ = ["BackendRow", "backend_table", "create_backend"]

_Factory = Callable[[ModelFile, CameraMaps, float | None, int | None], Backend]


@dataclass(frozen=True, slots=True)
class BackendRow:
    """One backend and whether it works here.

    Parameters
    ----------
    name
        What `create_backend` and the command line call it.
    extra
        Extra of blinkloop that brings its packages.
    available
        Whether it can be created here.
    reason
        Why not; empty when available.
    """

    name: str
    extra: str
    available: bool
    reason: str


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    extra: str
    package: str
    factory: _Factory | None
    # Kind of engine it runs; None: it runs ONNX files.
    engine: str | None = None
    # Why this machine cannot run it, beside a missing package; empty when it can.
    missing: Callable[[], str] = str

    def row(self) -> BackendRow:
        if self.factory is None:
            reason = "not implemented yet in this version"
        elif not installed(self.package):
            reason = (
                f"the package {self.package!r} is not installed: "
                f'pip install "blinkloop[{self.extra}]"'
            )
        else:
            reason = self.missing()
        return BackendRow(self.name, self.extra, not reason, reason)


def _onnxruntime_cpu(
    model: ModelFile, maps: CameraMaps, threshold: float | None, threads: int | None
) -> Backend:
    from blinkloop.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpuBackend

    return OnnxRuntimeCpuBackend(model, maps, threshold=threshold, threads=threads)


def _tensorrt(kind: str) -> _Factory:
    def create(
        model: ModelFile, maps: CameraMaps, threshold: float | None, threads: int | None
    ) -> Backend:
        from blinkloop.runtime.backends.tensorrt import TensorRtBackend

        return TensorRtBackend(model, maps, threshold=threshold, kind=kind)

    return create


def _engines(name: str, extra: str, package: str) -> _Entry:
    return _Entry(
        name, extra, package, _tensorrt(name), engine=name, missing=gpu_missing
    )


_ENTRIES = (
    _engines("tensorrt", "tensorrt", "tensorrt"),
    _engines("tensorrt-rtx", "rtx", "tensorrt_rtx"),
    _Entry("onnxruntime-cuda", "gpu", "onnxruntime", None),
    _Entry("onnxruntime-directml", "gpu", "onnxruntime", None),
    _Entry("openvino", "openvino", "openvino", None),
    _Entry("onnxruntime-cpu", "cpu", "onnxruntime", _onnxruntime_cpu),
)


def backend_table() -> list[BackendRow]:
    """All backends in order of preference; imports none of them."""
    return [entry.row() for entry in _ENTRIES]


def create_backend(
    name: str,
    model: ModelFile,
    maps: CameraMaps,
    *,
    threshold: float | None = None,
    threads: int | None = None,
) -> Backend:
    """Load a model into a backend.

    Parameters
    ----------
    name
        A name of the table, or "auto": the first one available here.
    model
        The model file.
    maps
        Camera maps of the frames to come.
    threshold
        Detection threshold in (0, 1); default: the card's.
    threads
        Threads of one call; default: all CPUs this process may use.

    Raises
    ------
    InputError
        Unknown or unavailable backend, or a value or model it cannot use.
    """
    chosen = _choose(name, model)
    if threshold is not None and not 0 < threshold < 1:
        raise InputError(
            f"the detection threshold must lie between 0 and 1, got {threshold}; the "
            f"model card's is {model.card.detection.threshold}"
        )
    if threads is not None and threads < 1:
        raise InputError(f"the number of threads must be at least 1, got {threads}")
    if chosen.factory is None:
        raise InputError(f"the backend {chosen.name!r} is not implemented")
    return chosen.factory(model, maps, threshold, threads)


def _choose(name: str, model: ModelFile) -> _Entry:
    if name == "auto":
        return _first_that_fits(model)
    for entry in _ENTRIES:
        if entry.name == name:
            row = entry.row()
            if not row.available:
                raise InputError(
                    f"the backend {name!r} cannot be used here: {row.reason}; "
                    f"available: {_names(available_only=True)}"
                )
            if misfit := engine_misfit(model, entry.engine):
                raise InputError(misfit)
            return entry
    raise InputError(
        f"there is no backend {name!r}; known: auto, {_names(available_only=False)}"
    )


def _first_that_fits(model: ModelFile) -> _Entry:
    """The first available row that can run this file."""
    for entry in _ENTRIES:
        if entry.row().available and not engine_misfit(model, entry.engine):
            return entry
    if is_engine_file(model.path):  # its own backend tells what is missing or wrong
        return _choose(read_engine_header(model.path).kind, model)
    raise MissingExtraError("Running a model", "onnxruntime", "cpu")


def _names(*, available_only: bool) -> str:
    rows = backend_table()
    names = [row.name for row in rows if row.available or not available_only]
    return ", ".join(names) or "none"
