"""The virtual microscope as devices of the real core."""

from __future__ import annotations

import time

import numpy as np
import pytest
from virtual_samples import SMALL

from blinkloop.errors import DeviceError, InputError
from blinkloop.integrations.micromanager import MicroManagerSource, MMLaser, new_core
from blinkloop.integrations.virtual import (
    load_virtual_microscope,
)
from blinkloop.runtime.records import Roi
from blinkloop.schema import CameraSettings

pytest.importorskip("pymmcore_plus", reason="needs the extra `micromanager`")

SETTINGS = SMALL.model_copy(
    update={
        "pixel_size_nm": 110.0,
        "camera": CameraSettings(
            kind="emccd", em_gain=50.0, e_per_adu=10.0, bit_depth=14
        ),
        "realtime": False,
    }
)


@pytest.fixture
def load():
    """Load a virtual microscope into a new core; removed after the test."""
    loaded = []

    def _load(**changes):
        core = new_core()
        scope = load_virtual_microscope(core, SETTINGS.model_copy(update=changes))
        loaded.append(scope)
        return core, scope

    yield _load
    for scope in loaded:
        scope.unload()


def _frames(core, n: int, **arguments):
    source = MicroManagerSource(core, n_frames=n, **arguments)
    return [(f.index, f.pixels.copy()) for f in source.frames()]


def test_frames_agree_with_the_truth(load) -> None:
    core, scope = load()
    source = MicroManagerSource(core, n_frames=120)
    assert source.roi == Roi(0, 0, 53, 31)
    frames = list(source.frames())
    np.testing.assert_array_equal([f.index for f in frames], np.arange(120))
    emitters, table = scope.truth()
    np.testing.assert_array_equal(table["frame"], np.arange(120))
    # Each frame with the truth of its own number: bright where its emitters are.
    inside = (
        (emitters["x_px"] > 2)
        & (emitters["x_px"] < 50)
        & (emitters["y_px"] > 2)
        & (emitters["y_px"] < 28)
        & (emitters["photons"] > 2000)
        & (np.abs(emitters["z_nm"]) < 250)
    )
    assert inside.sum() > 100
    chosen = emitters[inside]
    row, column = (
        np.rint(chosen["y_px"]).astype(int),
        np.rint(chosen["x_px"]).astype(int),
    )
    stack = np.stack([f.pixels for f in frames]).astype(float)
    here = stack[chosen["frame"], row, column].mean()
    ten_later = stack[(chosen["frame"] + 60) % 120, row, column].mean()
    swapped = stack[chosen["frame"], column % 31, row].mean()
    assert here > 1.5 * ten_later
    assert here > 1.5 * swapped


def test_the_camera_tells_its_facts(load) -> None:
    core, scope = load()
    source = MicroManagerSource(core)
    facts = CameraSettings(**source.camera_facts())
    assert facts == scope.camera_settings
    assert facts.pixel_size_nm == 110.0
    assert facts.exposure_ms == 5.0
    assert source.dtype == np.uint16


def test_ring_wraps_without_loss(load) -> None:
    """pymmcore-plus 0.18.1 loses a frame per wrap unless the ring fits whole frames."""
    core, _ = load(width_px=33, height_px=31)
    indices = [i for i, _ in _frames(core, 300, ring_frames=64)]
    np.testing.assert_array_equal(indices, np.arange(300))


def test_same_seed_same_frames(load) -> None:
    first = _frames(load()[0], 60)
    again = _frames(load()[0], 60)
    other = _frames(load(seed=3)[0], 60)
    np.testing.assert_array_equal([p for _, p in first], [p for _, p in again])
    assert np.any(first[0][1] != other[0][1])


def test_laser_raises_the_density_at_once(load) -> None:
    core, scope = load(realtime=True)
    laser = MMLaser(core, scope.laser, scope.laser_property)
    assert laser.limits == (0.0, 50.0)
    assert laser.read() == 1.0
    source = MicroManagerSource(core)
    before = after = 0
    for frame in source.frames():
        if frame.index == 59:
            # Exposures that are over: a slow test machine may deliver late.
            before = len(scope.truth()[1])
            laser.write(10.0)
            after = len(scope.truth()[1])
        elif after and frame.index >= after + 60:
            source.stop()
    table = scope.truth()[1]
    power, seen = table["power_mw"], table["emitters"]
    assert set(power) == {1.0, 10.0}
    # A frame being exposed at that moment keeps its power.
    assert before <= np.flatnonzero(power == 10.0)[0] <= after + 1
    assert seen[after + 30 :].mean() > 3 * seen[20:before].mean()


def test_real_time(load) -> None:
    core, scope = load(realtime=True, exposure_ms=10.0)
    started = time.perf_counter()
    assert len(_frames(core, 50)) == 50
    # Never sooner; a busy machine takes longer, and a part of that is known.
    took_s = time.perf_counter() - started
    assert took_s >= 0.5 + scope.late_s - 0.02
    assert scope.late_s >= 0


def test_sequences_start_their_own_truth_and_snaps_none(load) -> None:
    core, scope = load()
    _frames(core, 20)
    bleached = scope.truth()[1]["bleached"][-1]
    core.snapImage()
    assert core.getImage().shape == (31, 53)
    assert len(scope.truth()[1]) == 20
    _frames(core, 5)
    table = scope.truth()[1]
    np.testing.assert_array_equal(table["frame"], np.arange(5))
    # The sample does not recover meanwhile.
    assert table["bleached"][0] >= bleached
    assert table["time_s"][0] == pytest.approx(21 * 0.005)


def test_stop_in_the_middle(load) -> None:
    core, scope = load(realtime=True)
    source = MicroManagerSource(core)
    indices = []
    for frame in source.frames():
        indices.append(frame.index)
        if frame.index == 10:
            source.stop()
    np.testing.assert_array_equal(indices, np.arange(len(indices)))
    assert not core.isSequenceRunning()
    assert len(scope.truth()[1]) >= len(indices)


def test_overflow(load) -> None:
    core, _ = load()
    source = MicroManagerSource(core, ring_frames=8)
    frames = source.frames()
    next(frames)
    deadline = time.monotonic() + 60
    while not core.isBufferOverflowed() and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(DeviceError, match="ring of 8 frames was full"):
        list(frames)
    assert source.lost == 1


def test_a_simulation_that_fails_ends_like_a_camera(load, monkeypatch) -> None:
    core, scope = load()
    right = scope._simulator.frame

    def frame(out, power_mw, number, **how):
        if number == 12:
            raise MemoryError("no memory")
        return right(out, power_mw, number, **how)

    monkeypatch.setattr(scope._simulator, "frame", frame)
    source = MicroManagerSource(core, n_frames=50)
    taken = iter(source.frames())
    assert [next(taken).index for _ in range(12)] == list(range(12))
    with pytest.raises(DeviceError, match="after frame 11") as caught:
        next(taken)
    assert "\n" not in str(caught.value)
    assert isinstance(scope.failure, MemoryError)


def test_a_laser_that_refuses(load, monkeypatch) -> None:
    core, scope = load(max_power_mw=20.0)
    laser = MMLaser(core, scope.laser, scope.laser_property)
    with pytest.raises(DeviceError, match="outside the limits 0 to 20"):
        laser.write(21.0)

    def refuse(*_: object) -> None:
        raise RuntimeError("interlock\nopen")

    monkeypatch.setattr(core, "setProperty", refuse)
    with pytest.raises(
        DeviceError, match=r"refused 3\.000000 \(interlock open\)"
    ) as caught:
        laser.write(3.0)
    assert "\n" not in str(caught.value)


def test_two_lasers_have_their_own_limits(load) -> None:
    core, scope = load(max_power_mw=20.0)
    other_core, other = load(max_power_mw=5.0)
    assert MMLaser(core, scope.laser, "Power").limits == (0.0, 20.0)
    assert MMLaser(other_core, other.laser, "Power").limits == (0.0, 5.0)


def test_an_exposure_that_cannot_be(load) -> None:
    core, _ = load()
    MicroManagerSource(core, exposure_ms=6.0)
    assert core.getExposure() == 6.0
    with pytest.raises(DeviceError, match="not in 0 to 1000 ms"):
        MicroManagerSource(core, exposure_ms=2000.0)


def test_unloaded_and_loaded_again(load) -> None:
    core, scope = load()
    with pytest.raises(InputError, match="already"):
        load_virtual_microscope(core, SETTINGS)
    scope.unload()
    scope.unload()
    assert core.getLoadedDevices() == ("Core",)
    load_virtual_microscope(core, SETTINGS).unload()


def test_a_plain_core_is_refused() -> None:
    with pytest.raises(InputError, match="needs a UniMMCore"):
        load_virtual_microscope(new_core(python_devices=False), SETTINGS)
