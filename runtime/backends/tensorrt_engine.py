"""Which engine file belongs to a model, and whether it can be used here.

Checked before anything is loaded, from the header alone: kind, origin (the hash of the
ONNX file), version of the builder, system and GPU. Every refusal is one line with the
command that helps.

Design notes: imports neither TensorRT nor CUDA; the versions of installed packages come
from their metadata.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from blinkloop.cache import cache_folder
from blinkloop.cuda_driver import Gpu
from blinkloop.engine_file import (
    EngineHeader,
    is_engine_file,
    platform_name,
    read_engine_header,
)
from blinkloop.engine_kinds import EngineKind, engine_kind
from blinkloop.errors import BlinkloopError, InputError
from blinkloop.runtime.model import ModelFile

__all__ = ["check_header", "check_here", "engine_misfit", "find_engine"]


def find_engine(model: ModelFile, kind: EngineKind) -> Path:
    """Engine file of a model: itself, the one beside it, or the newest in the cache.

    Raises
    ------
    InputError
        There is none, or the one beside the model cannot serve it.
    """
    if is_engine_file(model.path):
        check_header(model.path, read_engine_header(model.path), kind)
        return model.path
    beside = model.path.with_suffix(kind.suffix)
    if beside.exists():
        check_header(beside, read_engine_header(beside), kind, model)
        return beside
    # The cache holds engines of many versions and sizes; one that fits is enough.
    folder = cache_folder() / "engines" / model.sha256[:32]
    for file in sorted(folder.glob(f"*{kind.suffix}"), key=_age):
        try:
            check_header(file, read_engine_header(file), kind, model)
        except BlinkloopError:
            continue
        return file
    raise InputError(
        f"{model.path} has no {kind.name} engine beside it ({beside.name}); build it "
        f"with: blinkloop export {model.path} --engine {kind.name} -o {beside}"
    )


def _age(file: Path) -> float:
    try:
        return -file.stat().st_mtime
    except OSError:  # thrown away since it was listed
        return 0.0


def check_header(
    file: Path, header: EngineHeader, kind: EngineKind, model: ModelFile | None = None
) -> None:
    """Refuse an engine of another kind, model, builder version or system.

    Parameters
    ----------
    file
        The engine file, for the message.
    header
        Its header.
    kind
        Kind that is to run it.
    model
        ONNX model it is to stand for; None when the engine stands for itself.

    Raises
    ------
    InputError
        The first thing that does not fit.
    """
    again = f"build it again: blinkloop export MODEL.onnx --engine {kind.name}"
    if header.kind != kind.name:
        raise InputError(
            f"{file}: is a {header.kind} engine, the backend {kind.name!r} cannot run "
            f"it; use the backend {header.kind!r}, or {again}"
        )
    if model is not None and header.onnx_sha256 != model.sha256:
        raise InputError(
            f"{file}: is stale, it was built from another file than {model.path} "
            f"(sha256 {header.onnx_sha256[:12]}..., the model's is "
            f"{model.sha256[:12]}...); build it again: blinkloop export {model.path} "
            f"--engine {kind.name} -o {file}"
        )
    version = _installed_version(kind)
    if version is not None and header.builder_version != version:
        raise InputError(
            f"{file}: was built by {kind.module} {header.builder_version}, here is "
            f"{version}, and engines run only in the version that built them; {again}"
        )
    if not kind.portable and header.platform != platform_name():
        raise InputError(
            f"{file}: was built on {header.platform}, this is {platform_name()}, and "
            f"{kind.name} engines serve one system; {again}"
        )


def check_here(file: Path, header: EngineHeader, kind: EngineKind, gpu: Gpu) -> None:
    """Refuse an engine built for other GPUs than the one here.

    Raises
    ------
    InputError
        What the engine was built for, and the command to build one for this GPU.
    """
    again = f"blinkloop export MODEL.onnx --engine {kind.name}"
    if gpu.compute_capability not in header.compute_capabilities:
        build = f"{again} --engine-gpus {gpu.compute_capability}"
        raise InputError(
            f"{file}: was built for GPUs of compute capability "
            f"{', '.join(header.compute_capabilities)}, the {gpu.name} here has "
            f"{gpu.compute_capability}; build one for it: "
            f"{build if kind.portable else again}"
        )
    if not kind.portable and header.gpu != gpu.name:
        raise InputError(
            f"{file}: was built on a {header.gpu}, here is a {gpu.name}, and such "
            f"engines serve the GPU model that built them; build it here: {again}"
        )


def _installed_version(kind: EngineKind) -> str | None:
    """Version of the kind's package; None when its metadata does not say."""
    try:
        return metadata.version(kind.module)
    except metadata.PackageNotFoundError:
        return None


def engine_misfit(model: ModelFile, kind: str | None) -> str:
    """Why a backend cannot run a model; empty when it can.

    Parameters
    ----------
    model
        Model or engine file.
    kind
        Kind of engine the backend runs; None for a backend that runs ONNX files.
    """
    if kind is None:
        if is_engine_file(model.path):
            backend = read_engine_header(model.path).kind
            return f"{model.path} is an engine of the backend {backend!r}"
        return ""
    try:
        find_engine(model, engine_kind(kind))
    except InputError as error:
        return str(error)
    return ""
