"""The kinds of engines there are.

Design notes: apart from the file format, because the command line names the kinds in
its help, which must not wait for pydantic.
"""

from __future__ import annotations

from dataclasses import dataclass

from blinkloop.errors import InputError

__all__ = ["ENGINE_KINDS", "EngineKind", "engine_kind"]


@dataclass(frozen=True, slots=True)
class EngineKind:
    """One builder of engines.

    Parameters
    ----------
    name
        Of the kind, the backend and the option.
    module
        Python module with the builder and the runtime.
    extra
        Extra of blinkloop that brings it.
    suffix
        How its engine files end.
    portable
        Whether an engine serves any operating system and every GPU of the compute
        capabilities it was built for; else it serves the system and the GPU model that
        built it.
    """

    name: str
    module: str
    extra: str
    suffix: str
    portable: bool


ENGINE_KINDS = {
    kind.name: kind
    for kind in (
        EngineKind("tensorrt-rtx", "tensorrt_rtx", "rtx", ".rtx", portable=True),
        EngineKind("tensorrt", "tensorrt", "tensorrt", ".trt", portable=False),
    )
}
"""By name."""


def engine_kind(name: str) -> EngineKind:
    """The kind of that name; `InputError` when there is none."""
    if name not in ENGINE_KINDS:
        raise InputError(
            f"there is no engine {name!r}; known: {', '.join(ENGINE_KINDS)}"
        )
    return ENGINE_KINDS[name]
