"""Notes of what was measured, agreement with the reference, memory, timing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from blinkloop.cli._bundled import bundled_models
from blinkloop.errors import InputError
from blinkloop.runtime.backends import (
    create_backend,
    table,
    usable_backends,
    variants_of,
)
from blinkloop.runtime.benchmarking import (
    BackendNotes,
    Case,
    StepTimer,
    agreement_problem,
    backend_notes,
    make_frames,
    notes,
    peak_rss_mb,
    remember_backends,
)
from blinkloop.runtime.camera_maps import CameraMaps, make_camera_maps
from blinkloop.runtime.model import ModelFile, read_model
from blinkloop.runtime.protocols import BackendOutput
from blinkloop.runtime.records import Frame

CPU = "onnxruntime-cpu"


@pytest.fixture
def own_model(
    tiny_models: dict[str, ModelFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ModelFile:
    monkeypatch.setenv("BLINKLOOP_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "models"
    folder.mkdir()
    return read_model(shutil.copy(tiny_models["half"].path, folder / "own.onnx"))


def test_nothing_is_known_at_first(own_model: ModelFile) -> None:
    assert backend_notes(own_model) == BackendNotes()
    assert BackendNotes().fastest(["a"]) is None
    assert BackendNotes().trusted("a")


def test_notes_add_up(own_model: ModelFile) -> None:
    speeds = {"a": 3.0, "b": 9.0, "c": 1.0}
    file = remember_backends(
        own_model, passed={"a": True}, frames_per_second=speeds, size=(4, 6)
    )
    assert file == own_model.path.with_name("own.onnx.backends.json")
    assert backend_notes(own_model).fastest("abc") == "b"
    assert (backend_notes(own_model).height, backend_notes(own_model).width) == (4, 6)
    remember_backends(own_model, passed={"b": False})
    known = backend_notes(own_model)
    assert known.passed == {"a": True, "b": False}
    assert known.fastest("abc") == "a"
    assert known.fastest("c") == "c"


def test_notes_of_a_bundled_model_lie_in_the_cache(
    own_model: ModelFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = own_model.path.parent / "__init__.py"
    monkeypatch.setattr(notes.blinkloop, "__file__", str(package))
    file = remember_backends(own_model, passed={"a": False})
    assert file is not None
    assert file.is_relative_to(tmp_path / "cache")
    assert [path.name for path in own_model.path.parent.iterdir()] == ["own.onnx"]
    assert not backend_notes(own_model).trusted("a")


def test_where_the_folder_cannot_be_written_the_cache_can(
    own_model: ModelFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    replace_file = notes.replace_file

    def refuse_beside(file: Path, content: bytes) -> bool:
        return file.parent != own_model.path.parent and replace_file(file, content)

    monkeypatch.setattr(notes, "replace_file", refuse_beside)
    file = remember_backends(own_model, passed={"a": False})
    assert file is not None
    assert file.is_relative_to(tmp_path / "cache")
    assert not backend_notes(own_model).trusted("a")
    monkeypatch.setattr(notes, "replace_file", lambda file, content: False)
    assert remember_backends(own_model, passed={"a": True}) is None


@pytest.mark.parametrize("what", ["node", "cpu_count", "gpus", "version", "model"])
def test_whatever_changes_the_notes_no_longer_count(
    own_model: ModelFile, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    remember_backends(own_model, passed={"a": False})
    asked = own_model
    if what == "node":
        monkeypatch.setattr(notes.platform, "node", lambda: "another")
    elif what == "cpu_count":
        monkeypatch.setattr(notes.os, "cpu_count", lambda: 77)
    elif what == "gpus":
        gpu = notes.find_gpus.__globals__["Gpu"]("new", "9.0", 13000)
        monkeypatch.setattr(notes, "find_gpus", lambda: (gpu,))
    elif what == "version":
        monkeypatch.setattr(notes, "_version", lambda name: "0")
    else:
        asked = replace(own_model, sha256="0" * 64)
    assert backend_notes(asked) == BackendNotes()
    # One file serves several machines.
    remember_backends(asked, passed={"b": False})
    assert backend_notes(asked).passed == {"b": False}
    monkeypatch.undo()
    assert backend_notes(own_model).passed == {"a": False}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        json.dumps({"format_version": 2, "entries": {}}).encode(),
        json.dumps({"format_version": 1, "entries": {"k": {"speed": 1}}}).encode(),
    ],
    ids=["empty", "list", "bytes", "newer", "unknown key"],
)
def test_damaged_notes_are_no_notes(own_model: ModelFile, content: bytes) -> None:
    file = own_model.path.with_name("own.onnx.backends.json")
    file.write_bytes(content)
    assert backend_notes(own_model) == BackendNotes()
    assert remember_backends(own_model, passed={"a": False}) == file
    assert not backend_notes(own_model).trusted("a")


def auto(model: ModelFile) -> str:
    backend = create_backend("auto", model, make_camera_maps(model.card.camera))
    backend.close()
    return backend.name


def two_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of two rows that both run on any machine."""
    (cpu,) = (entry for entry in table._ENTRIES if entry.name == CPU)

    def create(*given: object) -> object:
        backend = cpu.factory(*given)  # type: ignore[arg-type]
        backend.name = "first"  # type: ignore[misc]
        return backend

    first = replace(cpu, name="first", factory=create)  # type: ignore[arg-type]
    monkeypatch.setattr(table, "_ENTRIES", (first, cpu))


def test_auto_follows_the_table_then_what_was_measured_then_the_verdict(
    own_model: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    two_backends(monkeypatch)
    assert usable_backends(own_model) == ["first", CPU]
    assert auto(own_model) == "first"
    speeds = {"first": 1.0, CPU: 2.0}
    remember_backends(own_model, passed={}, frames_per_second=speeds)
    assert auto(own_model) == CPU
    remember_backends(own_model, passed={CPU: False})
    assert auto(own_model) == "first"
    remember_backends(own_model, passed={"first": False})
    with pytest.raises(InputError, match=r"no backend here .*first, onnx.* failed"):
        auto(own_model)
    with pytest.raises(InputError, match="no backend 'second'"):
        usable_backends(own_model, "second")


def test_variants_are_asked_for_by_name() -> None:
    assert variants_of("openvino") == ("bf16",)
    assert variants_of("onnxruntime-cuda") == ("graph",)
    assert variants_of(CPU) == ()


class Shifted:
    """The reference with one thing wrong."""

    def __init__(self, inner: object, change: Callable[[BackendOutput], None]) -> None:
        self.inner, self.change = inner, change

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def step(self, frames: np.ndarray, *, segment_start: bool) -> BackendOutput:
        output: BackendOutput = self.inner.step(  # type: ignore[attr-defined]
            frames, segment_start=segment_start
        )
        self.change(output)
        return output


def move(output: BackendOutput) -> None:
    output.detections[:, 0, 1] += 0.05


def lose(output: BackendOutput) -> None:
    output.counts[:] = 0


def invent(output: BackendOutput) -> None:
    output.counts[:] += 1
    rows = np.arange(len(output.counts))
    output.detections[rows, output.counts - 1] = 1.0


def miscount(output: BackendOutput) -> None:
    output.count_mean[:] *= 1.1


def not_a_number(output: BackendOutput) -> None:
    output.count_variance[:] = np.nan


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda output: None, "^$"),
        (move, "is lost in row 1 of call 1"),
        (lose, "is lost in row 1 of call 1"),
        (invent, "is added in row 1 of call 1"),
        (miscount, "count_mean is .* in row 1 of call 1"),
        (not_a_number, "count_variance is nan"),
    ],
)
def test_agreement(
    tiny_model: ModelFile,
    make_movie: Callable[..., list[Frame]],
    change: Callable[[BackendOutput], None],
    problem: str,
) -> None:
    pytest.importorskip("onnxruntime")
    card = tiny_model.card
    maps = make_camera_maps(card.camera)
    reference, inner = (
        create_backend(CPU, tiny_model, maps, threads=1) for _ in range(2)
    )
    frames = np.stack([frame.pixels for frame in make_movie([0, 1, 2, 3])])
    found = agreement_problem(
        Shifted(inner, change),  # type: ignore[arg-type]
        reference,
        card,
        frames.astype(np.float32),
    )
    assert pytest.importorskip("re").search(problem, found), found


def test_frames_are_camera_counts(tiny_model: ModelFile) -> None:
    card = tiny_model.card
    frames = make_frames(card, Case(13, 21, 4))
    assert frames.shape == (4, 13, 21)
    assert frames.dtype == np.float32
    maps: CameraMaps = make_camera_maps(card.camera)
    photons = (frames - maps.offset_adu) * maps.photons_per_adu
    expected = max(1.0, card.training_ranges.background_photons[1] / 2)
    np.testing.assert_allclose(np.median(photons), expected, rtol=0.1)


def test_frames_hold_emitters() -> None:
    """A part of the network is computed at detections only: there must be some."""
    model = read_model(bundled_models()["astigmatic"])
    case = Case(64, 96, 3)
    backend = create_backend(CPU, model, make_camera_maps(model.card.camera), threads=1)
    frames = make_frames(model.card, case)
    backend.step(frames, segment_start=True)
    found = backend.step(frames, segment_start=False).counts
    per_um2 = found.mean() / (64 * 96 * 1e-2)
    assert 0.3 < per_um2 < 0.6


def test_frames_smaller_than_a_spot(tiny_model: ModelFile) -> None:
    assert make_frames(tiny_model.card, Case(1, 1, 2000)).shape == (2000, 1, 1)


def test_timer_counts_calls_after_the_warm_up() -> None:
    calls: list[int] = []
    timer = StepTimer(lambda: calls.append(1), warm_up=2)
    assert len(calls) == 2
    durations = timer.run(0)
    assert len(durations) == 1
    assert min(durations) >= 0
    assert len(timer.run(0.01)) > 1


def test_peak_memory_is_of_this_process_alone() -> None:
    """A child says its own peak, not that of a parent that holds 200 MB."""
    held = np.ones(25_000_000)
    before = peak_rss_mb()
    assert before > 200
    program = (
        "import numpy; from blinkloop.runtime.benchmarking.memory import peak_rss_mb\n"
        "a = peak_rss_mb(); held = numpy.ones(12_500_000); print(a, peak_rss_mb())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    small, large = map(float, done.stdout.split())
    assert small < 150
    np.testing.assert_allclose(large - small, 100, atol=15)
    assert held.sum() > 0
