"""Build an engine file from a model file.

The engine carries the model's card and the SHA-256 of the ONNX file, so that a stale
one is found out (docs/engines.md). An engine built before from the same bytes, with
the same builder and the same choices, comes from the cache. Of an int8 file the engine
has the rounded weights and computes in float; its card says so.

Design notes: an engine cannot be run where it is built, so what is checked here is its
graph: rewritten, compared bit by bit in ONNX Runtime, and only then built.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import blinkloop
from blinkloop.cache import (
    cache_folder,
    cache_key,
    read_cached,
    replace_file,
    write_cached,
)
from blinkloop.cuda_driver import Gpu
from blinkloop.engine_file import (
    EngineHeader,
    engine_file_bytes,
    platform_name,
    read_engine,
)
from blinkloop.engine_kinds import EngineKind, engine_kind
from blinkloop.errors import BlinkloopError, CheckFailedError, InputError
from blinkloop.export.engine_builder import builder_gpu, serialize_engine
from blinkloop.export.engine_graph import (
    FLAVOUR,
    check_same_answers,
    engine_graph,
    number_types,
)
from blinkloop.export.engine_spec import EngineSpec, profile
from blinkloop.export.model_file import load_model, replacing
from blinkloop.export.precision_float import float_card, to_float
from blinkloop.export.verify_converted import distance_in_conversions
from blinkloop.schema import ModelCard
from blinkloop.tensorrt_module import load_tensorrt

__all__ = ["build_engine"]

_MOST_TIMES = 2.0
"""An int8 graph in float against itself, in what the conversion changed: 1 when it is
the fp32 network again (measured 0.9 to 1.0)."""


def build_engine(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    kind: str = "tensorrt-rtx",
    spec: EngineSpec | None = None,
    use_cache: bool = True,
) -> EngineHeader:
    """Build an engine from a model file and write it as one file.

    Parameters
    ----------
    model
        ONNX file that `export_onnx` or `convert` wrote.
    out
        Engine file to write; an existing one is replaced when all went well.
    kind
        Name in `blinkloop.engine_file.ENGINE_KINDS`.
    spec
        Frame sizes, numbers and GPUs; default: `EngineSpec()`.
    use_cache
        Take an engine built before, and keep this one.

    Returns
    -------
    The header of the file.

    Raises
    ------
    CheckFailedError
        The builder refuses the graph, or a rewritten one is not the same network.
    InputError
        A file, kind or choice that cannot be used, or no GPU where one is needed.
    MissingExtraError
        The builder, onnx or onnxruntime is not installed.
    """
    chosen = spec or EngineSpec()
    file, target, wanted = Path(model), Path(out), engine_kind(kind)
    if target.suffix.lower() != wanted.suffix:
        raise InputError(
            f"{target}: a {kind} engine file ends in {wanted.suffix}; give such a name"
        )
    message, card = load_model(file)
    trt = load_tensorrt(wanted, f"Building a {kind} engine")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    order = _Order(trt, wanted, builder_gpu(wanted), chosen, digest)
    shapes = profile(card, chosen.sizes)
    # Half of either hash in the name keeps paths within Windows' limit; the whole key
    # is in the header and is compared.
    name = f"{order.key()[:32]}{wanted.suffix}"
    cached = cache_folder() / "engines" / digest[:32] / name
    content = _from_cache(cached, order.key()) if use_cache else None
    if content is None:
        content = _build(order, message, card, shapes)
        if use_cache:
            replace_file(cached, content)
    with replacing(target) as temporary:
        temporary.write_bytes(content)
        header, _ = read_engine(temporary)
    return header


@dataclass(frozen=True, slots=True)
class _Order:
    """Everything beside the graph that decides an engine."""

    trt: Any
    kind: EngineKind
    gpu: Gpu | None
    spec: EngineSpec
    onnx_sha256: str

    @property
    def capabilities(self) -> tuple[str, ...]:
        """GPUs the engine runs on."""
        if self.gpu is not None:
            return (self.gpu.compute_capability,)
        return self.spec.compute_capabilities

    @property
    def builder(self) -> dict[str, Any]:
        """What the times of single layers depend on."""
        return {
            "kind": self.kind.name,
            "builder_version": str(self.trt.__version__),
            "platform": platform_name(),
            "gpu": None if self.gpu is None else asdict(self.gpu),
        }

    def key(self) -> str:
        """Hash of everything that decides the bytes and the header."""
        return cache_key(
            content="engine",
            onnx_sha256=self.onnx_sha256,
            graph_flavour=FLAVOUR,
            blinkloop_version=blinkloop.__version__,
            sizes=self.spec.sizes.model_dump(),
            tf32=self.spec.tf32,
            compute_capabilities=self.capabilities,
            **self.builder,
        )

    def timing_file(self) -> Path | None:
        """Times of layers on this GPU, of all models; None where none are measured."""
        if self.gpu is None:
            return None
        key = cache_key(content="timing", **self.builder)
        return cache_folder() / "timing" / f"{key}.bin"


def _from_cache(file: Path, key: str) -> bytes | None:
    """Bytes of a cached engine file when it is whole and of exactly this key."""
    try:
        header, _ = read_engine(file)
        return file.read_bytes() if header.key == key else None
    except (BlinkloopError, OSError):
        return None


def _in_float(message: Any, card: ModelCard, sha256: str) -> tuple[Any, ModelCard]:
    """Graph and card of an int8 file as an engine can have them."""
    graph = to_float(message)
    times = distance_in_conversions(message, graph, card)
    if not times <= _MOST_TIMES:
        raise CheckFailedError(
            f"{card.name}: without its 8 bits between layers the graph gives answers "
            f"{times:.1f} times as far off as int8 is from fp32 (allowed: "
            f"{_MOST_TIMES:g}); build the engine from the fp32 model"
        )
    return graph, float_card(card, sha256)


def _build(
    order: _Order,
    message: Any,
    card: ModelCard,
    shapes: dict[str, tuple[tuple[int, ...], ...]],
) -> bytes:
    """The engine file's bytes."""
    if card.precision_name == "int8":
        message, card = _in_float(message, card, order.onnx_sha256)
    graph = engine_graph(message)
    check_same_answers(message, graph, card)
    spec, times = order.spec, order.timing_file()
    engine, timing = serialize_engine(
        order.trt,
        graph.SerializeToString(),
        shapes,
        tf32=spec.tf32,
        compute_capabilities=spec.compute_capabilities if order.gpu is None else (),
        timing_cache=None if times is None else read_cached(times) or b"",
    )
    if times is not None and timing is not None:
        write_cached(times, timing)
    header = EngineHeader(
        kind=order.kind.name,
        builder_version=str(order.trt.__version__),
        blinkloop_version=blinkloop.__version__,
        platform=platform_name(),
        gpu="" if order.gpu is None else order.gpu.name,
        compute_capabilities=order.capabilities,
        onnx_sha256=order.onnx_sha256,
        graph_flavour=FLAVOUR,
        precision=number_types(graph),
        tf32=spec.tf32,
        sizes=spec.sizes,
        key=order.key(),
        engine_bytes=len(engine),
        engine_sha256=hashlib.sha256(engine).hexdigest(),
        card=card,
    )
    return engine_file_bytes(header, engine)
