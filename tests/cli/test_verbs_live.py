"""`replay` and `run`: every frame is accounted for, and the report says so."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from verb_helpers import Verb, assert_same_table

from blinkloop.integrations.formats import read_table
from blinkloop.schema import EMITTER_DTYPE

KEYS = {
    "frames_seen",
    "frames_localized",
    "frames_skipped",
    "frames_lost",
    "localizations",
    "density_target_per_um2",
    "density_achieved_per_um2",
    "laser_commands",
    "latency_ms",
    "files",
}


def check_record(record: dict[str, Any]) -> None:
    """The keys are there, the books balance, and every file exists."""
    assert record.keys() >= KEYS
    parts = ("frames_localized", "frames_skipped", "frames_lost")
    assert record["frames_seen"] == sum(record[part] for part in parts) > 0
    assert record["latency_ms"].keys() >= {"p50", "p95", "p99", "max"}
    assert all(Path(path).exists() for path in record["files"].values())
    report = json.loads(Path(record["files"]["report"]).read_text())
    assert report["frames_seen"] == record["frames_seen"]
    missing = record["frames_missing"]
    assert missing["core"] == record["frames_lost"]
    assert missing["handover"] + missing["analysis"] == record["frames_skipped"]
    assert missing["writer"] == 0
    events = Path(record["files"]["events"]).read_text().splitlines()
    assert f"seen {record['frames_seen']}," in events[-1]
    table = read_table(record["files"]["store"])
    assert len(table) == record["localizations"]
    for kind in ("picasso", "thunderstorm"):
        assert len(read_table(record["files"][kind])) == len(table)


def test_replay(good: Verb, model: Path, movie: Path, tmp_path: Path) -> None:
    words = ("--fps", 100, "--repeat", 3, "-o", tmp_path / "out", "--json")
    record = good("replay", movie, "-m", model, *words).json
    check_record(record)
    assert record["frames_seen"] == 36
    assert record["frames_lost"] == 0
    assert record["laser_commands"] == 0
    assert record["density_target_per_um2"] == 0.5
    assert record["latency_ms"]["p50"] > 0
    assert "jaccard" not in record


def test_replay_gives_what_fit_gives(
    good: Verb, model: Path, movie: Path, tmp_path: Path
) -> None:
    good("fit", movie, "-m", model, "-o", tmp_path / "fit.zarr")
    good("replay", movie, "-m", model, "--fps", 60, "-o", tmp_path / "out")
    live = read_table(tmp_path / "out" / "localizations.zarr").data
    assert_same_table(live, read_table(tmp_path / "fit.zarr").data)


def test_replay_with_truth_adds_the_accuracy(
    good: Verb, model: Path, movie: Path, tmp_path: Path
) -> None:
    """Its own localizations as truth: all of them are found, nothing else is."""
    truth = tmp_path / "truth.csv"
    good("fit", movie, "-m", model, "-o", truth)
    words = ("--fps", 60, "-o", tmp_path / "out", "--truth", truth, "--json")
    record = good("replay", movie, "-m", model, *words).json
    assert record["jaccard"] > 0.9
    assert record["rmse_lateral_nm"] < 1
    emitters = np.zeros(3, EMITTER_DTYPE)
    emitters["frame"] = (0, 1, 2)
    emitters["photons"] = 1000
    np.savez(tmp_path / "truth.npz", emitters=emitters)
    words = ("--fps", 60, "-o", tmp_path / "out2", "--json")
    words = (*words, "--truth", tmp_path / "truth.npz")
    assert good("replay", movie, "-m", model, *words).json["n_truth"] == 3


def test_replay_table_and_next_command(
    good: Verb, model: Path, movie: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    said = good("replay", movie, "-m", model, "--fps", 100, "-o", out)
    assert "frames seen" in said.out
    assert f"picasso: {out / 'localizations.hdf5'}" in said.out
    assert said.err.splitlines()[-1] == (
        f"next: blinkloop render {out}/localizations.hdf5 -o {out}/localizations.png"
    )


@pytest.fixture(scope="module")
def _core() -> None:
    pytest.importorskip("pymmcore_plus", reason="needs the extra `micromanager`")
    pytest.importorskip("mm_test_adapters", reason="needs mm-test-adapters")


DEMO_512 = (
    *("--pixel-size-nm", 100, "--exposure-ms", 20),
    *("--set", "Camera.PixelType=16bit"),
    *("--set", "Camera.OnCameraCCDXSize=512", "--set", "Camera.OnCameraCCDYSize=512"),
)


@pytest.mark.usefixtures("_core")
def test_run_accounts_for_every_frame_of_the_demo_camera(
    good: Verb, model: Path, tmp_path: Path
) -> None:
    """512 x 512 px, 16 bit, 50 frames/s, from the C++ DemoCamera."""
    words = ("-o", tmp_path / "out", "--seconds", 2, "--threshold", 0.9, "--json")
    record = good("run", "-m", model, *DEMO_512, *words).json
    check_record(record)
    assert record["camera"]["bit_depth"] == 16
    assert record["camera_origin"]["exposure_ms"] == "Micro-Manager"
    assert record["feedback_mode"] == "advise"
    assert record["laser_commands"] == 0
    assert record["ended_by"] == "duration"


@pytest.fixture
def scope(tmp_path: Path) -> Any:
    """Writer of a configuration with a Python camera and laser, doubles of devices."""
    pytest.importorskip("pymmcore_plus", reason="needs the extra `micromanager`")
    pytest.importorskip("mm_test_adapters", reason="needs mm-test-adapters")

    def write(camera: str = "SteadyCamera", laser: str = "Laser") -> Path:
        path = tmp_path / f"{camera}-{laser}.cfg"
        path.write_text(
            f"#py pyDevice,Cam,verb_devices,{camera}\n"
            f"#py pyDevice,Laser.405,verb_devices,{laser}\n"
            "#py Property,Core,Initialize,1\n"
            "#py Property,Core,Camera,Cam\n"
        )
        return path

    return write


def laser_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "laser.csv").open(newline="") as file:
        return list(csv.DictReader(file))


CONTROL = ("--mode", "control", "--laser", "Laser.405.Power", "--update-frames", 20)


def test_run_controls_a_laser_and_leaves_it_safe(
    good: Verb, model: Path, scope: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("--start-power", 2, "--frames", 90, "-o", out, "--json")
    said = good("run", "-m", model, "--config", scope(), *CONTROL, *words)
    record = said.json
    check_record(record)
    assert record["frames_seen"] == 90
    assert record["frames_lost"] == 0
    told, *rows = laser_rows(out)
    assert told["reason"].startswith("no dead man: Laser.405 is a Python device")
    assert "no dead man for the laser" in said.err
    commands = [row for row in rows if row["written"] != "nan"]
    assert record["laser_commands"] == len(commands) >= 3
    assert float(rows[0]["written"]) == 2
    assert float(rows[-1]["read_back"]) == 0
    assert "end of the run" in rows[-1]["reason"]


def test_run_saves_all_when_the_camera_vanishes(
    verb: Verb, model: Path, scope: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("--config", scope("VanishingCamera"), *CONTROL, "-o", out, "--json")
    said = verb("run", "-m", model, *words)
    assert said.code == 1
    assert "'Cam' stopped after frame 39" in said.error
    assert "warning: in a thread: RuntimeError: Error in device 'Cam'" in said.err
    assert "of 40 frames are saved in" in said.error
    record = said.json
    check_record(record)
    assert (record["frames_localized"], record["frames_lost"]) == (40, 0)
    assert float(laser_rows(out)[-1]["written"]) == 0


def test_run_with_a_laser_that_refuses_from_the_start(
    verb: Verb, model: Path, scope: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    config = scope(laser="InterlockedLaser")
    words = ("--config", config, *CONTROL, "--frames", 50, "-o", out)
    said = verb("run", "-m", model, *words)
    assert said.code == 1
    assert "interlock open" in said.error
    assert said.out == ""


def test_run_goes_on_without_a_laser_that_refuses_later(
    verb: Verb, model: Path, scope: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    config = scope(laser="TrippingLaser")
    words = ("--config", config, *CONTROL, "--frames", 80, "-o", out, "--json")
    said = verb("run", "-m", model, *words)
    assert said.code == 1
    assert "interlock open" in said.error
    record = said.json
    check_record(record)
    assert record["frames_localized"] == 80
    assert record["laser_final"] == 0
    assert float(laser_rows(out)[-1]["read_back"]) == 0


@pytest.mark.usefixtures("_core")
@pytest.mark.parametrize(
    ("words", "match"),
    [
        pytest.param((), "pixel size is 1000 nm.*--pixel-size-nm 100", id="pixel size"),
        pytest.param(
            ("--pixel-size-nm", 100, "--mode", "control"),
            "control needs a laser.*--laser DEVICE.PROPERTY",
            id="no laser",
        ),
        pytest.param(
            ("--pixel-size-nm", 100, "--laser", "Nope.Power"),
            "no device 'Nope'; devices loaded: .*Camera",
            id="unknown laser",
        ),
        pytest.param(
            ("--pixel-size-nm", 100, "--laser", "LED.Nope"),
            "'LED' has no property 'Nope'; it has: ",
            id="unknown property",
        ),
        pytest.param(
            ("--pixel-size-nm", 100, "--laser", "LED"),
            "write DEVICE.PROPERTY",
            id="laser without property",
        ),
        pytest.param(
            ("--set", "Camera"), "write DEVICE.PROPERTY=VALUE", id="set without value"
        ),
        pytest.param(
            ("--set", "Camera.Nope=3"), "refused by the core.*Nope", id="set refused"
        ),
        pytest.param(
            ("--device", "Nope"),
            "no camera 'Nope'; cameras loaded: Camera",
            id="camera",
        ),
        pytest.param(
            ("--config", "nope.cfg"), "no Micro-Manager configuration", id="config"
        ),
        pytest.param(("--seconds", -2), "'--seconds': -2", id="seconds"),
        pytest.param(("--seconds", "nan"), "not a finite number", id="not a number"),
        pytest.param(("--exposure-ms", 0), "'--exposure-ms': 0", id="exposure"),
    ],
)
def test_run_refuses(
    words: tuple[object, ...], match: str, verb: Verb, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    said = verb("run", "-m", model, "-o", out, *words)
    assert said.code == 2
    assert re.search(match, said.error), said.error
    assert said.out == ""
    assert not out.exists()
