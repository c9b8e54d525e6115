"""`demo`: the whole way, short; with the bundled model also that it means something."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from verb_helpers import Said, Verb

from blinkloop.runtime import PipelineSettings

pytest.importorskip("pymmcore_plus", reason="needs the extra `micromanager`")
pytest.importorskip("matplotlib", reason="needs the extra `demo`")

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
    "jaccard",
    "rmse_lateral_nm",
    "rmse_axial_nm",
}
PICTURES = ("reconstruction", "density_plot")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take its time for the frames that wait at the end."""
    patient = partial(PipelineSettings, drain_s=240.0)
    monkeypatch.setattr("blinkloop.runtime.pipeline.PipelineSettings", patient)


def check_demo(said: Said, folder: Path) -> None:
    record = said.json
    assert record.keys() >= KEYS
    assert record["frames_lost"] == record["frames_skipped"] == 0
    assert record["frames_seen"] == record["frames_localized"] > 0
    assert record["failure"] is None
    for kind in PICTURES:
        content = Path(record["files"][kind]).read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert content.endswith(b"IEND\xaeB`\x82")
        assert len(content) > 10_000
    with (folder / "laser.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= record["laser_commands"] >= 2
    assert float(rows[0]["written"]) > 0
    assert float(rows[-1]["read_back"]) == 0
    assert record["laser_final"] == 0


def test_demo(good: Verb, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("--seconds", 2.5, "--exposure-ms", 40, "-o", out, "--json")
    said = good("demo", "-m", model, "--seed", 3, *words)
    check_demo(said, out)
    assert said.json["seed"] == 3
    assert said.json["density_target_per_um2"] == 0.5
    assert said.err.splitlines()[-1].startswith(f"next: blinkloop run -m {model} ")


def test_demo_with_the_bundled_model_finds_the_emitters(
    good: Verb, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("--seconds", 3, "--start", "right", "-o", out, "--json")
    said = good("demo", *words)
    check_demo(said, out)
    record = said.json
    assert record["model"] == "astigmatic"
    assert record["jaccard"] > 0.6
    assert record["rmse_lateral_nm"] < 40
    assert record["density_achieved_per_um2"] == pytest.approx(
        record["density_true_per_um2"], rel=0.25
    )
    # A machine that stands still for seconds is told; it is no fault of the demo.
    assert [w for w in record["warnings"] if "no fresh estimate" not in w] == []


def test_demo_table(good: Verb, model: Path, tmp_path: Path) -> None:
    words = ("--seconds", 1, "--exposure-ms", 40, "-o", tmp_path / "out")
    said = good("demo", "-m", model, *words)
    for text in ("density target, per um^2", "Jaccard index", "reconstruction: "):
        assert text in said.out
    backend, microscope = said.err.splitlines()[:2]
    assert backend.startswith("backend ")
    assert microscope.startswith("virtual microscope: 128 x 96 px, 25 frames/s")


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("--seconds", 0.5), id="too short"),
        pytest.param(("--seconds", "nan"), id="seconds no number"),
        pytest.param(("--target", 0), id="no density"),
        pytest.param(("--target", 1e5), id="density that fills the memory"),
        pytest.param(("--exposure-ms", -3), id="exposure"),
        pytest.param(("--seed", -1), id="seed"),
        pytest.param(("--start", "up"), id="start"),
    ],
)
def test_demo_refuses(
    words: tuple[object, ...], verb: Verb, model: Path, tmp_path: Path
) -> None:
    said = verb("demo", "-m", model, "-o", tmp_path / "out", *words)
    assert said.code == 2
    assert str(words[0]) in said.error
    assert not (tmp_path / "out").exists()


def test_demo_does_not_write_into_the_folder_of_another_run(
    verb: Verb, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "localizations.zarr").mkdir()
    said = verb("demo", "-m", model, "--seconds", 1, "-o", tmp_path)
    assert said.code == 2
    assert "holds a run already" in said.error


def test_demo_without_any_model_says_how_to_make_one(
    verb: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    none: Callable[[], dict[str, Path]] = dict
    monkeypatch.setattr("blinkloop.cli.demo.bundled_models", none)
    said = verb("demo")
    assert said.code == 2
    assert "blinkloop train astigmatic" in said.error
