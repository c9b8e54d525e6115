"""Localizations and density from frames, while the camera runs. Never imports torch."""

from __future__ import annotations

from blinkloop.runtime.backends import backend_table, create_backend
from blinkloop.runtime.camera_maps import CameraMaps, make_camera_maps
from blinkloop.runtime.density import DensityEstimator, probability_floor
from blinkloop.runtime.localizer import StreamLocalizer, localize_movie
from blinkloop.runtime.model import ModelFile, read_card, read_model
from blinkloop.runtime.pipeline import Pipeline, PipelineSettings, PipelineStatus
from blinkloop.runtime.protocols import (
    Backend,
    BackendOutput,
    FrameSource,
    Laser,
    Localizer,
    Observer,
    Sink,
)
from blinkloop.runtime.records import Frame, FrameResult, Gap, Roi
from blinkloop.runtime.region_source import RegionSource, WholeRecorder, snapped
from blinkloop.runtime.report import EndedBy, RunReport
from blinkloop.runtime.sinks import LiveStore, MemorySink, read_live_store

__all__ = [
    "Backend",
    "BackendOutput",
    "CameraMaps",
    "DensityEstimator",
    "EndedBy",
    "Frame",
    "FrameResult",
    "FrameSource",
    "Gap",
    "Laser",
    "LiveStore",
    "Localizer",
    "MemorySink",
    "ModelFile",
    "Observer",
    "Pipeline",
    "PipelineSettings",
    "PipelineStatus",
    "RegionSource",
    "Roi",
    "RunReport",
    "Sink",
    "StreamLocalizer",
    "WholeRecorder",
    "backend_table",
    "create_backend",
    "localize_movie",
    "make_camera_maps",
    "probability_floor",
    "read_card",
    "read_live_store",
    "read_model",
    "snapped",
]
