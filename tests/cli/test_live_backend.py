"""What `run`, `replay` and `demo` take when nobody chooses for them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blinkloop.cli import _bench_race, _live_backend
from blinkloop.cli._bench_race import Contestant
from blinkloop.cli._options import CameraFlags
from blinkloop.cli._session import open_session
from blinkloop.runtime import ModelFile, read_model
from blinkloop.runtime.backends import usable_backends
from blinkloop.runtime.benchmarking import (
    LiveRace,
    backend_notes,
    remember_backends,
    remember_live,
)

CPU = "onnxruntime-cpu"
Race = Callable[..., list[Contestant]]


@pytest.fixture
def own_model(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy in a folder that may be written."""
    monkeypatch.setenv("BLINKLOOP_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copy(model, tmp_path / "own.onnx"))


@pytest.fixture
def raced(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Instead of the race: openvino 5 ms, the other 7 ms; what was asked for."""
    asked: list[dict[str, Any]] = []

    def race(
        names: list[str],
        model: Path,
        case: dict[str, int],
        *,
        threads: int,
        seconds: float,
    ) -> list[Contestant]:
        asked.append({"names": list(names), "case": case, "threads": threads})
        times = {"openvino": 0.005}
        return [
            Contestant(name, "fp32", [[times.get(name, 0.007)] * 3], 100.0)
            for name in names
        ]

    monkeypatch.setattr(_bench_race, "race", race)
    return asked


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two backends, wherever the tests run."""
    names = ["openvino", CPU]
    monkeypatch.setattr(
        "blinkloop.runtime.backends.usable_backends", lambda model: names
    )


def race_of(times: dict[str, float], memory: dict[str, float]) -> LiveRace:
    return LiveRace(height=9, width=7, threads=1, frame_ms=times, memory_mb=memory)


@pytest.mark.parametrize(
    ("times", "memory", "best"),
    [
        ({"a": 5.0, "b": 7.0}, {"a": 900.0, "b": 100.0}, "a"),
        ({"a": 5.0, "b": 5.4}, {"a": 900.0, "b": 100.0}, "b"),
        ({"a": 5.0, "b": 5.4}, {"a": 100.0, "b": 100.0}, "a"),
        ({"a": 5.0, "b": 5.4}, {}, "a"),
        ({"c": 1.0}, {}, None),
        ({}, {}, None),
    ],
    ids=["faster", "as fast", "all equal", "no memory", "not here", "nothing"],
)
def test_of_backends_about_as_fast_the_smaller_one(
    times: dict[str, float], memory: dict[str, float], best: str | None
) -> None:
    assert race_of(times, memory).best(["a", "b"]) == best


@pytest.mark.parametrize(("cpus", "threads"), [(1, 1), (2, 1), (3, 2), (16, 15)])
def test_a_core_is_left_to_the_camera(
    monkeypatch: pytest.MonkeyPatch, cpus: int, threads: int
) -> None:
    monkeypatch.setattr("blinkloop.runtime.backends.usable_cpus", lambda: cpus)
    assert _live_backend.live_threads() == threads


@pytest.mark.usefixtures("two")
def test_auto_races_once_for_each_size_and_number_of_threads(
    own_model: Path, raced: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    file = read_model(own_model)
    for _ in range(2):
        assert _live_backend.live_backend(file, (41, 53), 1) == "openvino"
    case = {"height": 41, "width": 53, "frames_per_call": 1}
    assert raced == [{"names": ["openvino", CPU], "case": case, "threads": 1}]
    said = capsys.readouterr().err
    assert said.count("measuring openvino and onnxruntime-cpu") == 1
    words = "openvino 5.0 ms, 100 MB; onnxruntime-cpu 7.0 ms, 100 MB per frame of 53 x"
    assert said.count(words) == 2
    _live_backend.live_backend(file, (41, 53), 2)
    _live_backend.live_backend(file, (2000, 53), 2)
    assert len(raced) == 3
    assert raced[-1]["case"]["height"] == 512
    # In the cache: a run leaves nothing beside a model.
    assert {path.name for path in own_model.parent.iterdir()} == {"own.onnx", "cache"}
    # What else is known stays known, and the other way round.
    remember_backends(file, passed={CPU: True}, frames_per_second={CPU: 9.0})
    assert len(backend_notes(file).live) == 3
    assert backend_notes(file).frames_per_second == {CPU: 9.0}
    remember_live(file, race_of({CPU: 1.0}, {}))
    assert backend_notes(file).passed == {CPU: True}
    assert backend_notes(file).frames_per_second == {CPU: 9.0}
    assert len(backend_notes(file).live) == 4


@pytest.mark.usefixtures("two")
def test_what_failed_a_comparison_does_not_race(
    own_model: Path, raced: list[dict[str, Any]]
) -> None:
    file = read_model(own_model)
    remember_backends(file, passed={"openvino": False})
    assert _live_backend.live_backend(file, (41, 53), 1) == CPU
    assert raced == []


@pytest.mark.usefixtures("two")
def test_a_race_nobody_ends_is_no_reason_to_fail(
    own_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(names: list[str], *_: object, **__: object) -> list[Contestant]:
        return [Contestant(name, problem="fell over") for name in names]

    monkeypatch.setattr(_bench_race, "race", broken)
    file: ModelFile = read_model(own_model)
    assert _live_backend.live_backend(file, (41, 53), 1) == "auto"
    assert backend_notes(file).live == ()


def test_the_real_race_measures_every_backend_here(own_model: Path) -> None:
    file = read_model(own_model)
    names = usable_backends(file)
    race = _live_backend.race_live(file, (13, 21), 1, names)
    assert set(race.frame_ms) == set(names)
    assert all(0 < time < 5000 for time in race.frame_ms.values())
    assert all(20 < size < 1000 for size in race.memory_mb.values())
    assert backend_notes(file).live_race(13, 21, 1) == race


@pytest.mark.parametrize("given", [None, 2])
def test_a_live_session_is_warm_and_leaves_a_core(
    own_model: Path,
    given: int | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("blinkloop.runtime.backends.usable_cpus", lambda: 4)
    session = open_session(
        own_model,
        CameraFlags(),
        {},
        source="movie",
        backend=CPU,
        threads=given,
        live=(13, 21),
    )
    threads = given or 3
    assert session.meta["threads"] == threads
    assert f"backend {CPU} with {threads} of 4 CPU threads" in capsys.readouterr().err
    # Warm frames are in no segment: the first real one starts its own.
    from blinkloop.runtime import Frame, Roi

    roi = Roi(5, 3, 21, 13)
    pixels = np.full((13, 21), 120, np.uint16)
    frames = [Frame(index, 0.0, pixels, roi) for index in range(3)]
    warm = [*session.localizer.push(frames), *session.localizer.flush()]
    assert [(result.index, result.segment) for result in warm] == [
        (0, 0),
        (1, 0),
        (2, 0),
    ]
    session.localizer.close()
