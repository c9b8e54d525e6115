"""What the tests of engines share: two tiny models, a range of sizes, an engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blinkloop.engine_file import EngineHeader, SizeRange
from blinkloop.export.engine_spec import EngineSpec

GOLDEN = Path(__file__).parent.parent / "golden"
FULL, HALF = GOLDEN / "tiny_full.onnx", GOLDEN / "tiny_half.onnx"
SPEC = EngineSpec(
    SizeRange(frames=(1, 2, 4), height_px=(9, 16, 64), width_px=(7, 32, 96)),
    compute_capabilities=("8.6", "8.9"),
)


@dataclass(frozen=True)
class Built:
    """An engine of `FULL` that TensorRT for RTX built, and the cache it is in."""

    file: Path
    header: EngineHeader
    cache: Path
