"""The table of backends: names, availability, order of preference.

Availability is found without importing anything; the import happens in
`create_backend`. The order of the rows is the preference of `auto`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Literal

from blinkloop.cuda_driver import gpu_missing
from blinkloop.engine_file import is_engine_file, read_engine_header
from blinkloop.errors import InputError, MissingExtraError
from blinkloop.extras import installed
from blinkloop.runtime.backends.tensorrt_engine import engine_misfit
from blinkloop.runtime.benchmarking.notes import backend_notes
from blinkloop.runtime.camera_maps import CameraMaps
from blinkloop.runtime.model import ModelFile
from blinkloop.runtime.protocols import Backend

__all__ = [
    "BackendRow",
    "backend_table",
    "create_backend",
    "usable_backends",
    "variants_of",
]

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
    factory: _Factory
    # Kind of engine it runs; None: it runs ONNX files.
    engine: str | None = None
    # Why this machine cannot run it, beside a missing package; empty when it can.
    missing: Callable[[], str] = str
    # Other ways to run it, named "backend:variant"; `auto` takes none of them.
    variants: Mapping[str, _Factory] = field(default_factory=dict)

    def row(self) -> BackendRow:
        if self.package and not installed(self.package):
            reason = (
                f"the package {self.package!r} is not installed: "
                f'pip install "blinkloop[{self.extra}]"'
            )
        else:
            reason = self.missing()
        return BackendRow(self.name, self.extra, not reason, reason)


def _onnxruntime(module: str, kind: str) -> _Factory:
    """A class of one of the modules beside this one, imported when it is needed."""

    def create(
        model: ModelFile, maps: CameraMaps, threshold: float | None, threads: int | None
    ) -> Backend:
        found: Callable[..., Backend] = getattr(_beside(module), kind)
        return found(model, maps, threshold=threshold, threads=threads)

    return create


def _says(module: str, reason: str) -> Callable[[], str]:
    """What a function of one of the modules beside this one says is missing."""

    def missing() -> str:
        said: str = getattr(_beside(module), reason)()
        return said

    return missing


def _beside(module: str) -> ModuleType:
    return importlib.import_module(f"blinkloop.runtime.backends.{module}")


def _openvino(precision: Literal["fp32", "bf16"]) -> _Factory:
    def create(
        model: ModelFile, maps: CameraMaps, threshold: float | None, threads: int | None
    ) -> Backend:
        from blinkloop.runtime.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(
            model, maps, threshold=threshold, threads=threads, precision=precision
        )

    return create


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
    _Entry(
        "onnxruntime-cuda",
        "gpu",
        "onnxruntime",
        _onnxruntime("onnxruntime_cuda", "OnnxRuntimeCudaBackend"),
        missing=_says("onnxruntime_cuda", "cuda_missing"),
        variants={
            "graph": _onnxruntime("onnxruntime_cuda", "OnnxRuntimeCudaGraphBackend")
        },
    ),
    _Entry(
        "onnxruntime-rtx",
        "cpu",
        "onnxruntime",
        _onnxruntime("onnxruntime_rtx", "OnnxRuntimeRtxBackend"),
        missing=_says("onnxruntime_rtx", "rtx_missing"),
    ),
    _Entry(
        "onnxruntime-directml",
        "gpu",
        "",  # not of an extra: `directml_missing` names the package
        _onnxruntime("onnxruntime_directml", "OnnxRuntimeDirectMlBackend"),
        missing=_says("onnxruntime_directml", "directml_missing"),
    ),
    _Entry(
        "openvino",
        "openvino",
        "openvino",
        _openvino("fp32"),
        variants={"bf16": _openvino("bf16")},
    ),
    _Entry(
        "onnxruntime-cpu",
        "cpu",
        "onnxruntime",
        _onnxruntime("onnxruntime_cpu", "OnnxRuntimeCpuBackend"),
    ),
)


def backend_table() -> list[BackendRow]:
    """All backends in order of preference; imports none of them."""
    return [entry.row() for entry in _ENTRIES]


def usable_backends(model: ModelFile, name: str = "") -> list[str]:
    """Names of the rows that can run this file here, in order of preference.

    Parameters
    ----------
    model
        A model or engine file.
    name
        Only this one.

    Raises
    ------
    InputError
        The one that was named, or the only one that runs such an engine, cannot be
        used; the text says why.
    """
    if name:
        return [_choose(name, model).name]
    fitting = _fitting(model)
    if not fitting and is_engine_file(model.path):
        fitting = [_choose(read_engine_header(model.path).kind, model)]
    return [entry.name for entry in fitting]


def variants_of(name: str) -> tuple[str, ...]:
    """Other ways to run a backend; each is named "backend:variant"."""
    return tuple(v for entry in _ENTRIES if entry.name == name for v in entry.variants)


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
        A name of the table, or of a variant ("openvino:bf16"), or "auto": of those
        available here the fastest that `bench --choose` measured, else the first; none
        that failed a comparison with the reference here (`backend_notes`).
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
    return chosen.factory(model, maps, threshold, threads)


def _choose(name: str, model: ModelFile) -> _Entry:
    if name == "auto":
        return _best_that_fits(model)
    plain, _, variant = name.partition(":")
    for entry in _ENTRIES:
        if entry.name == plain:
            row = entry.row()
            if not row.available:
                raise InputError(
                    f"the backend {name!r} cannot be used here: {row.reason}; "
                    f"available: {_names(available_only=True)}"
                )
            if misfit := engine_misfit(model, entry.engine):
                raise InputError(misfit)
            return _variant(entry, variant) if ":" in name else entry
    raise InputError(
        f"there is no backend {name!r}; known: auto, {_names(available_only=False)}"
    )


def _variant(entry: _Entry, variant: str) -> _Entry:
    if variant not in entry.variants:
        known = ", ".join(entry.variants) or "none"
        raise InputError(
            f"the backend {entry.name!r} has no variant {variant!r}; known: {known}"
        )
    name = f"{entry.name}:{variant}"
    return replace(entry, name=name, factory=entry.variants[variant])


def _fitting(model: ModelFile) -> list[_Entry]:
    return [
        entry
        for entry in _ENTRIES
        if entry.row().available and not engine_misfit(model, entry.engine)
    ]


def _best_that_fits(model: ModelFile) -> _Entry:
    """Of the available rows that can run this file the fastest, else the first."""
    fitting = _fitting(model)
    notes = backend_notes(model)
    fastest = notes.fastest(entry.name for entry in fitting)
    trusted = [entry for entry in fitting if notes.trusted(entry.name)]
    for entry in trusted:
        if fastest in (None, entry.name):
            return entry
    if fitting:
        raise InputError(
            f"{model.path}: no backend here computes this model right "
            f"({', '.join(entry.name for entry in fitting)} failed); see: blinkloop "
            f"verify {model.path}"
        )
    if is_engine_file(model.path):  # its own backend tells what is missing or wrong
        return _choose(read_engine_header(model.path).kind, model)
    raise MissingExtraError("Running a model", "onnxruntime", "cpu")


def _names(*, available_only: bool) -> str:
    rows = backend_table()
    names = [row.name for row in rows if row.available or not available_only]
    return ", ".join(names) or "none"
