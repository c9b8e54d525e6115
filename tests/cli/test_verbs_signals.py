"""Ctrl-C and SIGTERM: the laser is dark, all is saved, and the last line says so."""

from __future__ import annotations

import csv
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from verb_helpers import Said, Verb

from blinkloop.integrations.formats import read_table

Signalled = Callable[..., Said]
NAMED = ("--backend", "onnxruntime-cpu")
"""So that no process begins by measuring which one is the fastest."""

BOTH = pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        pytest.param(signal.SIGINT, 130, "interrupted: ", id="Ctrl-C"),
        pytest.param(signal.SIGTERM, 143, "SIGTERM: ", id="SIGTERM"),
    ],
)


def writes_to(store: Path) -> Callable[[], bool]:
    """True once localizations of a frame are on the disk."""
    folder = store / "frames" / "index" / "c"
    return lambda: folder.is_dir() and any(folder.iterdir())


def rows_of(log: Path) -> list[dict[str, str]]:
    with log.open(newline="") as file:
        return list(csv.DictReader(file))


def check_saved(said: Said, code: int, word: str, table: Path) -> None:
    assert said.code == code, said.err
    assert "Traceback" not in said.err
    record = said.json
    assert record["localizations"] == len(read_table(table)) > 0
    last = said.err.splitlines()[-1]
    assert last.startswith(f"{word}{record['localizations']} localizations of ")
    assert last.endswith(f"are saved in {table}")


@BOTH
def test_fit(
    number: signal.Signals,
    code: int,
    word: str,
    signalled: Signalled,
    model: Path,
    long_movie: Path,
) -> None:
    out = long_movie.with_name("o.hdf5")
    ready = writes_to(long_movie.with_name("o.hdf5.live.zarr"))
    said = signalled(number, ready, "fit", long_movie, "-m", model, "-o", out, "--json")
    check_saved(said, code, word, out)
    assert said.json["frames"] < 60_000
    assert not list(out.parent.glob("*.live.zarr"))


def test_replay(signalled: Signalled, model: Path, long_movie: Path) -> None:
    out = long_movie.with_name("out")
    ready = writes_to(out / "localizations.zarr")
    words = (*NAMED, "-m", model, "--fps", 100, "-o", out, "--json")
    said = signalled(signal.SIGINT, ready, "replay", long_movie, *words)
    check_saved(said, 130, "interrupted: ", out / "localizations.hdf5")
    assert said.json["ended_by"] == "interrupted"


@BOTH
def test_demo(
    number: signal.Signals,
    code: int,
    word: str,
    signalled: Signalled,
    model: Path,
    tmp_path: Path,
) -> None:
    pytest.importorskip("pymmcore_plus", reason="needs the extra `micromanager`")
    pytest.importorskip("matplotlib", reason="needs the extra `demo`")
    out = tmp_path / "out"
    ready = writes_to(out / "localizations.zarr")
    words = (*NAMED, "-m", model, "--exposure-ms", 40, "-o", out, "--json")
    said = signalled(number, ready, "demo", *words)
    check_saved(said, code, word, out / "localizations.hdf5")
    rows = rows_of(out / "laser.csv")
    assert float(rows[0]["written"]) > 0
    assert float(rows[-1]["written"]) == float(rows[-1]["read_back"]) == 0
    assert rows[-1]["reason"] == f"safe: signal {number.name}"
    assert (out / "reconstruction.png").is_file()


@pytest.mark.parametrize(
    ("limit", "code"), [((), 0), (("--seconds", 60), 143)], ids=["no limit", "limit"]
)
def test_run(
    limit: tuple[object, ...],
    code: int,
    signalled: Signalled,
    model: Path,
    tmp_path: Path,
) -> None:
    """Without a limit a signal is how a run ends; the laser is dark either way."""
    pytest.importorskip("pymmcore_plus", reason="needs the extra `micromanager`")
    pytest.importorskip("mm_test_adapters", reason="needs mm-test-adapters")
    config = tmp_path / "scope.cfg"
    config.write_text(
        "#py pyDevice,Cam,verb_devices,SteadyCamera\n"
        "#py pyDevice,L405,verb_devices,Laser\n"
        "#py Property,Core,Initialize,1\n"
        "#py Property,Core,Camera,Cam\n"
    )
    out = tmp_path / "out"
    ready = writes_to(out / "localizations.zarr")
    words = ("--config", config, "--mode", "control", "--laser", "L405.Power")
    words = (*words, *NAMED, "-m", model, "-o", out, "--json", *limit)
    said = signalled(signal.SIGTERM, ready, "run", *words)
    assert said.code == code, said.err
    record = said.json
    assert record["localizations"] == len(read_table(out / "localizations.hdf5")) > 0
    rows = rows_of(out / "laser.csv")
    assert rows[0]["reason"].startswith("no dead man")
    assert float(rows[1]["written"]) > 0
    assert float(rows[-1]["read_back"]) == 0
    assert rows[-1]["reason"] == "safe: signal SIGTERM"
    last = said.err.splitlines()[-1]
    assert last.startswith("next: blinkloop render" if code == 0 else "SIGTERM: ")


def test_a_store_is_readable_when_the_process_is_killed(
    signalled: Signalled, good: Verb, model: Path, long_movie: Path
) -> None:
    """Nothing can be done about SIGKILL or a power cut but to lose little."""
    store = long_movie.with_name("o.zarr")
    words = ("-m", model, "-o", store)
    said = signalled(signal.SIGKILL, writes_to(store), "fit", long_movie, *words)
    assert said.code == -signal.SIGKILL
    csv_file = long_movie.with_name("o.csv")
    record = good("convert", store, csv_file, "--json").json
    assert record["localizations"] == len(read_table(csv_file)) > 0
