"""Scripted faults of the virtual microscope, as a run of ours meets them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from virtual_samples import SMALL

from blinkloop.errors import DeviceError
from blinkloop.integrations.virtual import (
    FaultSettings,
    VirtualMicroscope,
    load_virtual_microscope,
)

pytest.importorskip("pymmcore_plus", reason="needs the extra `micromanager`")

from blinkloop.integrations.micromanager import MicroManagerSource, MMLaser, new_core

Load = Callable[..., tuple[Any, VirtualMicroscope]]


@pytest.fixture
def load() -> Iterator[Load]:
    """A virtual microscope with these faults in a new core."""
    loaded = []

    def _load(*faults: FaultSettings) -> tuple[Any, VirtualMicroscope]:
        core = new_core()
        settings = SMALL.model_copy(update={"faults": faults})
        loaded.append(load_virtual_microscope(core, settings))
        return core, loaded[-1]

    yield _load
    for scope in loaded:
        scope.unload()


def taken(source: MicroManagerSource) -> tuple[list[Any], DeviceError | None]:
    """Frames, and what ended them."""
    frames = []
    try:
        frames.extend((f.index, f.pixels.copy()) for f in source.frames())
    except DeviceError as error:
        return frames, error
    return frames, None


def test_a_stall_that_ends(load: Load) -> None:
    core, _ = load(FaultSettings(kind="stall", frame=20, seconds=0.3))
    began = time.monotonic()
    frames, error = taken(MicroManagerSource(core, n_frames=40))
    assert error is None
    assert [index for index, _ in frames] == list(range(40))
    assert time.monotonic() - began >= 0.3


def test_a_stall_without_end(load: Load) -> None:
    core, _ = load(FaultSettings(kind="stall", frame=20))
    source = MicroManagerSource(core, n_frames=40, stall_timeout_s=0.5)
    began: list[Any] = []
    error = None
    try:
        for frame in source.frames():
            began.append(frame.index)
    except DeviceError as caught:
        error = caught
    assert "gave no frame for 0.5 s after frame 19" in str(error)
    assert began == list(range(20))


def test_a_camera_that_vanishes(load: Load) -> None:
    core, scope = load(FaultSettings(kind="vanish", frame=12))
    frames, error = taken(MicroManagerSource(core, n_frames=40))
    assert "stopped after frame 11" in str(error)
    assert len(frames) == 12
    assert scope.failure is not None


def test_no_light_and_too_much(load: Load) -> None:
    core, scope = load(
        FaultSettings(kind="empty", frame=5, frames=3),
        FaultSettings(kind="saturated", frame=10, frames=2),
    )
    frames, error = taken(MicroManagerSource(core, n_frames=20))
    assert error is None
    means = np.array([pixels.mean() for _, pixels in frames])
    np.testing.assert_array_equal(np.flatnonzero(means > 4000), [10, 11])
    np.testing.assert_array_equal(np.flatnonzero(means < 110), [5, 6, 7])
    assert max(pixels.max() for _, pixels in frames) == 4095
    # The sample goes on meanwhile: its truth is that of what was there.
    np.testing.assert_array_equal(scope.truth()[1]["frame"], np.arange(20))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (FaultSettings(kind="roi", frame=20, roi=(3, 2, 20, 12)), "image|ROI"),
        (FaultSettings(kind="roi", frame=20, roi=(0, 0, 53, 31)), None),
        (FaultSettings(kind="exposure", frame=20, exposure_ms=9.0), "exposure from 5"),
    ],
    ids=["roi", "same roi", "exposure"],
)
def test_settings_that_somebody_changes(load: Load, fault, said) -> None:
    core, _ = load(fault)
    frames, error = taken(MicroManagerSource(core, n_frames=None if said else 60))
    if said is None:
        assert error is None
        assert len(frames) == 60
        return
    assert error is not None
    assert any(word in str(error) for word in said.split("|"))
    assert [index for index, _ in frames] == list(range(len(frames)))
    assert len(frames) >= 20


def test_lasers(load: Load) -> None:
    core, scope = load(
        FaultSettings(kind="laser-refuses", frame=5),
        FaultSettings(kind="laser-lies", frame=25, power_mw=33.0),
    )
    laser = MMLaser(core, scope.laser, scope.laser_property)
    laser.write(3.0)
    source = MicroManagerSource(core, n_frames=40)
    for frame in source.frames():
        if frame.index == 10:
            with pytest.raises(DeviceError, match="interlock open"):
                laser.write(4.0)
            assert laser.read() == pytest.approx(3.0)
            laser.write(0.0)
    assert laser.read() == 33.0
    assert set(scope.truth()[1]["power_mw"]) == {3.0, 0.0}
    # The next sequence is whole again until its frame comes.
    assert [f.index for f in MicroManagerSource(core, n_frames=3).frames()] == [0, 1, 2]
    laser.write(4.0)


def test_roi_and_exposure_before_the_run(load: Load) -> None:
    core, scope = load()
    core.setROI(8, 4, 20, 11)
    source = MicroManagerSource(core, n_frames=30, exposure_ms=8.0)
    assert (source.roi.x, source.roi.y) == (8, 4)
    assert source.camera_facts()["exposure_ms"] == 8.0
    frames, error = taken(source)
    assert error is None
    assert frames[0][1].shape == (11, 20)
    emitters, table = scope.truth()
    np.testing.assert_allclose(table["exposure_ms"], 8.0)
    # The truth is in coordinates of the chip.
    inside = (np.abs(emitters["x_px"] - 17.5) <= 10) & (
        np.abs(emitters["y_px"] - 9) <= 5.5
    )
    counts = np.bincount(emitters["frame"][inside], minlength=30)
    np.testing.assert_array_equal(table["emitters"], counts)
    core.clearROI()
    assert core.getROI() == [0, 0, 53, 31]
    for roi in ((0, 0, 54, 31), (50, 0, 10, 10), (0, 0, 0, 5)):
        with pytest.raises((ValueError, RuntimeError), match="not on the chip"):
            core.setROI(*roi)
