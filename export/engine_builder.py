"""TensorRT's builder, in either of its two modules, behind two functions.

`tensorrt_rtx` (TensorRT for RTX) builds without a GPU, for a list of GPU architectures;
`tensorrt` builds where the GPU is, for that GPU. Both have the same Python API
(https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/).

Design notes: knows neither cards nor files; what it is given decides all it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blinkloop.cuda_driver import Gpu, find_gpus, gpu_missing
from blinkloop.engine_kinds import EngineKind
from blinkloop.errors import CheckFailedError, InputError
from blinkloop.tensorrt_module import error_logger, one_line

__all__ = ["builder_gpu", "serialize_engine"]

Profile = Mapping[str, tuple[tuple[int, ...], ...]]


def builder_gpu(kind: EngineKind) -> Gpu | None:
    """GPU an engine of this kind is built for; None when it is portable.

    Raises
    ------
    InputError
        One is needed and there is none.
    """
    if kind.portable:
        return None
    if gpu_missing():
        raise InputError(
            f"a {kind.name} engine is built on the GPU it will run on, and "
            f"{gpu_missing()}; build it there, or use --engine tensorrt-rtx, which "
            f"needs no GPU to build"
        )
    return find_gpus()[0]


def serialize_engine(
    trt: Any,
    graph: bytes,
    shapes: Profile,
    *,
    tf32: bool,
    compute_capabilities: tuple[str, ...],
    timing_cache: bytes | None = None,
) -> tuple[bytes, bytes | None]:
    """Build an engine.

    Parameters
    ----------
    trt
        What `load_tensorrt` returned.
    graph
        The ONNX message.
    shapes
        Input name -> (least, best, most) shape.
    tf32
        Allow TF32.
    compute_capabilities
        GPUs to build for; empty for the GPU of this machine.
    timing_cache
        What an earlier build of the same key returned; b"" for none yet; None where
        the builder keeps no times (TensorRT for RTX compiles at the first call).

    Returns
    -------
    The serialized engine, and the timing cache to keep.

    Raises
    ------
    CheckFailedError
        The builder refuses the graph or the shapes; says why in its words.
    InputError
        A compute capability the builder does not know.
    """
    logger = error_logger(trt)
    builder = trt.Builder(logger)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        errors = [parser.get_error(n).desc() for n in range(parser.num_errors)]
        raise _refused(trt, errors or logger.errors)
    config = builder.create_builder_config()
    _set_flags(trt, config, tf32=tf32)
    _set_capabilities(trt, config, compute_capabilities)
    plan = builder.create_optimization_profile()
    for name, (least, best, most) in shapes.items():
        plan.set_shape(name, least, best, most)
    if config.add_optimization_profile(plan) < 0:
        raise _refused(trt, logger.errors)
    cache = None
    if timing_cache is not None:
        # A cache of another machine or a damaged one is refused: start an empty one.
        cache = config.create_timing_cache(timing_cache)
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, ignore_mismatch=False)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise _refused(trt, logger.errors)
    kept = None if cache is None else bytes(config.get_timing_cache().serialize())
    return bytes(engine), kept


def _set_flags(trt: Any, config: Any, *, tf32: bool) -> None:
    if tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    # The runtime hands in all memory, so that a call can be recorded as a CUDA graph.
    needs = getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)
    if needs is not None:
        config.set_flag(needs)


def _set_capabilities(trt: Any, config: Any, wanted: tuple[str, ...]) -> None:
    if not wanted:
        return
    known = {
        f"{name[2:-1]}.{name[-1]}": value
        for name, value in trt.ComputeCapability.__members__.items()
        if name.startswith("SM")
    }
    config.num_compute_capabilities = len(wanted)
    for index, text in enumerate(wanted):
        if text not in known or not config.set_compute_capability(known[text], index):
            raise InputError(
                f"{trt.__name__} {trt.__version__} builds no engine for GPUs of "
                f"compute capability {text}; it knows {', '.join(known)}"
            )


def _refused(trt: Any, errors: list[str]) -> CheckFailedError:
    reason = one_line(errors[0]) if errors else "it gave no reason"
    return CheckFailedError(
        f"{trt.__name__} {trt.__version__} cannot build an engine from this graph: "
        f"{reason}; run the model with another backend"
    )
