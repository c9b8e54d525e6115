"""From a trained network to a model file, checked against PyTorch."""

from __future__ import annotations

from blinkloop.export.comparison import VerifyRow
from blinkloop.export.engine import build_engine
from blinkloop.export.engine_spec import EngineSpec
from blinkloop.export.from_official import (
    export_official,
    looks_official,
    read_official,
)
from blinkloop.export.from_run import export_run
from blinkloop.export.onnx_file import export_onnx
from blinkloop.export.precision import convert
from blinkloop.export.recard import update_card
from blinkloop.export.renew import renew
from blinkloop.export.streaming import StreamingNetwork
from blinkloop.export.verify import raise_if_failed, verify

__all__ = [
    "EngineSpec",
    "StreamingNetwork",
    "VerifyRow",
    "build_engine",
    "convert",
    "export_official",
    "export_onnx",
    "export_run",
    "looks_official",
    "raise_if_failed",
    "read_official",
    "renew",
    "update_card",
    "verify",
]
