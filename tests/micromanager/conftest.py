"""A real core with the C++ demo devices, and a check that no thread stays behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from busy import wait_for

pytest.importorskip("pymmcore_plus", reason="needs the extra `micromanager`")
pytest.importorskip("mm_test_adapters", reason="needs the package mm-test-adapters")


@pytest.fixture(scope="session")
def _loaded_core():
    from blinkloop.integrations.micromanager import open_core

    core = open_core()
    core.loadDevice("DA405", "DemoCamera", "D-DA")
    core.initializeDevice("DA405")
    yield core
    core.unloadAllDevices()


@pytest.fixture
def demo_core(_loaded_core):
    """The demo configuration with a 16 bit 512 x 512 camera, and a D-DA "DA405"."""
    core = _loaded_core
    core.setCameraDevice("")
    core.setCameraDevice("Camera")
    core.clearROI()
    core.setProperty("Camera", "PixelType", "16bit")
    core.setExposure(10.0)
    return core


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Every thread that a test starts has ended when the test has."""
    before = set(threading.enumerate())
    yield
    assert wait_for(lambda: not set(threading.enumerate()) - before)
