"""Exposure or ROI changed mid-run, by every way to a camera but the core's own.

Core, camera and laser are real; the bridge to them is a double in the last test. The
core's own way is in `test_run_faults`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_helpers import MODEL, check_books, laser_rows, wait_for

pytest.importorskip("pymmcore_plus", reason="needs the extra `micromanager`")
pytest.importorskip("mm_test_adapters", reason="needs mm-test-adapters")

import useq  # ships with pymmcore-plus

from blinkloop.cli._feedback import make_loop
from blinkloop.cli._live import LiveRun, live_record, run_live, write_report
from blinkloop.cli._options import CameraFlags
from blinkloop.cli._session import open_session
from blinkloop.integrations.micromanager import MdaSource, MMLaser, open_core, watch

CONTROL = ("--mode", "control", "--laser", "DA405.Voltage", "--start-power", 2)
CHANGES = [
    pytest.param(
        ("setExposure", 30.0),
        "changed its exposure from 10 ms to 30 ms",
        id="exposure",
    ),
    pytest.param(
        ("setROI", 4, 2, 20, 16),
        "changed its ROI from 34 x 26 px at (0, 0) to 20 x 16 px at (",
        id="ROI",
    ),
]


@pytest.fixture
def mda_core(cpp_config: Path) -> Iterator[Any]:
    core = open_core(cpp_config)
    core.setExposure(10.0)
    yield core
    core.unloadAllDevices()


def run_beside(source: MdaSource, core: Any, folder: Path) -> LiveRun:
    """What a script does to localize live, and hold the density of, somebody's MDA."""
    folder.mkdir()
    flags = CameraFlags(values={"pixel_size_nm": 100.0})
    session = open_session(
        MODEL,
        flags,
        source.camera_facts(),
        source="Micro-Manager",
        backend="onnxruntime-cpu",
        threads=1,
    )
    loop = make_loop(
        session.model.card,
        mode="control",
        target=0.5,
        on_time=None,
        update_frames=None,
        laser=MMLaser(core, "DA405", "Voltage"),
        start_power=2.0,
        log=folder / "laser.csv",
        frame_s=0.01,
    )
    run = run_live(source, session, loop, folder, quiet=True)
    write_report(folder, run, live_record(run, session))
    return run


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_beside_an_mda(mda_core, tmp_path, monkeypatch, change, said) -> None:
    """Its owner's MDA goes on, as far as the camera does."""
    monkeypatch.setattr(watch, "_EVERY_S", 3600.0)  # else it may be seen earlier
    source = MdaSource(mda_core)
    got: list[int] = []

    def note(image: Any, event: Any, meta: Any) -> None:
        got.append(len(got))
        if len(got) == 40:
            getattr(mda_core, change[0])(*change[1:])

    source.start()
    mda_core.mda.events.frameReady.connect(note)
    plan = useq.MDASequence(time_plan={"interval": 0, "loops": 120})
    owner = threading.Thread(target=mda_core.mda.run, args=(plan,))
    owner.start()
    try:
        run = run_beside(source, mda_core, tmp_path / "run")
    finally:
        owner.join()
    assert said in (run.report.failure or "")
    assert float(mda_core.getProperty("DA405", "Voltage")) == 0
    assert any(float(row["written"]) > 0 for row in laser_rows(tmp_path / "run"))
    report = check_books(tmp_path / "run")
    assert report["frames_localized"] + report["frames_skipped"] >= 40
    # What the plan promised and the camera did not expose is counted as lost.
    assert report["frames_seen"] == (40 if "exposure" in said else 120)


@pytest.fixture
def change_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Has a run's own acquisition change something after 40 frames."""
    pytest.importorskip("pycromanager", reason="needs the extra `pycromanager`")
    from blinkloop.integrations.pycromanager import PycroCamera, stop_python_backend

    take = PycroCamera._take

    def arrange(name: str, *arguments: object) -> None:
        def taken(camera: PycroCamera, image: Any, metadata: Any) -> None:
            take(camera, image, metadata)
            if camera._taken == 40:
                getattr(camera._core, name)(*arguments)

        monkeypatch.setattr(PycroCamera, "_take", taken)

    yield arrange
    stop_python_backend()


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_pycromanager_s_python_backend(
    here, change_at, cpp_config, change, said
) -> None:
    change_at(*change)
    words = ("--pycromanager", "--config", cpp_config, "--exposure-ms", 10)
    done = here(*words, *CONTROL)
    assert done.code == 1
    assert said in done.error
    assert "leave " in done.error
    report = check_books(done.folder)
    assert report["frames_localized"] + report["frames_skipped"] >= 40
    assert any(float(row["written"]) > 0 for row in laser_rows(done.folder))


def ask(port: int, **request: object) -> Any:
    """A request to the double by another client."""
    zmq = pytest.importorskip("zmq", reason="needs the extra `pycromanager`")
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.connect(f"tcp://127.0.0.1:{port}")
        socket.send(json.dumps(request).encode())
        return json.loads(socket.recv())


def test_exposure_over_a_bridge(micro_manager, run) -> None:
    """Somebody else, by another connection to the same Micro-Manager."""
    mm = micro_manager()
    words = ("--pycromanager", "--port", mm.port, "--exposure-ms", 10)
    one = run(*words, *CONTROL)
    frames = one.folder / "localizations.zarr" / "frames" / "index" / "c"
    assert wait_for(frames.is_dir), one.end()
    made = {"command": "constructor", "classpath": "mmcorej.CMMCore", "arguments": []}
    core = ask(mm.port, **made)["hash-code"]
    call = {"command": "run-method", "hash-code": core, "name": "setExposure"}
    assert ask(mm.port, **call, arguments=[30.0])["type"] == "null"
    assert one.end() == 1
    error = one.err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "changed its exposure from 10 ms to 30 ms" in error
    assert mm.was_set()[-1][1] == 0
    assert one.laser_on
    assert check_books(one.folder)["frames_localized"] > 0
