"""`train` with a source of weights, a time budget, a later end, signals, torchrun."""

from __future__ import annotations

import csv
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from verb_helpers import Said, Verb

pytest.importorskip("torch", reason="needs the extra `train`")

GOLDEN = Path(__file__).parent.parent / "golden"
RECIPE = """\
format_version: 1
name: tiny
architecture: {features: 4, depth: 1, stem_stride: 2}
camera: {kind: scmos, baseline_adu: 100.0, e_per_adu: 0.5, pixel_size_nm: 100.0}
schedule: {iterations: 4, batch: 2, targets_per_movie: 1, patch_px: 16,
  warmup_iterations: 2, checkpoint_every: 2, validate_every: 100, precision: fp32}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def train(verb: Verb, recipe: Path) -> Verb:
    words = ("--device", "cpu", "--threads", 1)
    return lambda run, *more: verb("train", recipe, "-o", run, *words, *more)


def log_of(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_from_a_run_begins_at_its_loss_and_from_a_model_too(
    train: Verb, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    assert train(source, "--iterations", 30).code == 0
    last = float(log_of(source)[-1]["nll"])
    for name, origin in (("run", source), ("file", source / "checkpoint.pt")):
        new = tmp_path / name
        said = train(new, "--from", origin, "--iterations", 1)
        assert said.code == 0, said.err
        # After one iteration of the warm-up it is still close to the source.
        np.testing.assert_allclose(float(log_of(new)[-1]["nll"]), last, rtol=0.05)
        assert json.loads((new / "run.json").read_text())["source"] == str(origin)
    scratch = tmp_path / "scratch"
    assert train(scratch, "--iterations", 1).code == 0
    assert float(log_of(scratch)[-1]["nll"]) > 1.1 * last


def test_from_a_model_file_takes_its_weights(
    verb: Verb, recipe: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnx", reason="needs the extra `export`")
    import torch

    from blinkloop.export.weights import read_model_weights

    weights, card = read_model_weights(GOLDEN / "tiny_half.onnx")
    fits = f"{{features: {card.architecture.features}, depth: "
    fits += f"{card.architecture.depth}, stem_stride: 2}}"
    text = RECIPE.replace("{features: 4, depth: 1, stem_stride: 2}", fits)
    recipe.write_text(text)
    run = tmp_path / "run"
    words = ("--from", GOLDEN / "tiny_half.onnx", "--device", "cpu", "--iterations", 1)
    said = verb("train", recipe, "-o", run, *words)
    assert said.code == 0, said.err
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    changed = 0.0
    for name, value in weights.items():
        difference = (state["model"][name] - torch.tensor(value)).abs().max()
        changed = max(changed, float(difference))
    # One step of Adam moves a weight by at most about the learning rate; what grew a
    # unit was said.
    if "grows" not in said.err:
        assert 0 < changed < 2e-3


def test_from_refuses_what_does_not_fit(train: Verb, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs the extra `export`")
    (tmp_path / "empty").mkdir()
    for origin, match in (
        ("astigmatic-small", "features is 32, the recipe asks for 4"),
        (tmp_path / "empty", "no checkpoint there"),
        ("nonsense", "no bundled model 'nonsense'"),
    ):
        said = train(tmp_path / "run", "--from", origin)
        assert said.code == 2
        assert match in said.error
        assert not (tmp_path / "run").exists()


def test_minutes_are_a_budget(
    train: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each look at the clock takes 40 ms, however slow the machine is.
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(ticks) * 0.04)
    monkeypatch.setattr("blinkloop.training.trainer.time", clock)
    run = tmp_path / "run"
    said = train(run, "--minutes", 0.02)
    assert said.code == 0, said.err
    assert "0.02 minutes" in said.err
    record = json.loads((run / "run.json").read_text())
    assert record["finished"]
    assert record["minutes"] > 0.8 * 0.02
    rows = log_of(run)
    assert int(rows[-1]["iteration"]) == record["iterations"] > 0
    assert rows[-1]["jaccard"] != ""
    again = train(run, "--minutes", 0.02)
    assert f"trained already: {record['iterations']} of" in again.err
    both = train(tmp_path / "x", "--minutes", 1, "--iterations", 3)
    assert both.code == 2
    assert "give one of them" in both.error


def test_finish_in_brings_a_run_down(train: Verb, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    refused = train(run, "--finish-in", 3)
    assert refused.code == 2
    assert "--finish-in is for schedule: wsd" in refused.error
    recipe.write_text(
        RECIPE.replace("iterations: 4,", "iterations: 90, schedule: wsd,")
    )
    assert train(run, "--until", 3).code == 0
    down = train(run, "--finish-in", 3, "--until", 5)
    assert "decay from iteration 3 to 6" in down.err
    assert down.err.splitlines()[-1].endswith("--finish-in 3")
    done = train(run, "--finish-in", 3)
    assert "the decay has begun already" in done.err
    assert done.err.splitlines()[-1].startswith("next: blinkloop export")
    more = train(run, "--until", 4)
    assert "goes back to iteration 3, before the decay" in more.err


def test_tensorboard_that_is_absent_is_one_line(
    train: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blinkloop.training import log

    monkeypatch.setattr(log, "installed", lambda name: False)
    said = train(tmp_path / "run", "--tensorboard")
    assert said.code == 2
    assert "pip install tensorboard" in said.error


def test_signal_ends_between_iterations_and_the_run_goes_on(
    signalled: Callable[..., Said],
    recipe: Path,
    tmp_path: Path,
    train: Verb,
) -> None:
    run = tmp_path / "run"
    recipe.write_text(RECIPE.replace("iterations: 4,", "iterations: 1000000,"))
    log = run / "log.csv"
    words = ("train", recipe, "-o", run, "--device", "cpu", "--threads", 1)
    ready = lambda: log.exists() and log.read_text().count("\n") > 1  # noqa: E731
    said = signalled(signal.SIGINT, ready, *words)
    assert said.code == 128 + signal.SIGINT, said.err
    assert "Traceback" not in said.err
    stopped = json.loads((run / "run.json").read_text())["iterations"]
    assert f"checkpoint of iteration {stopped} is in {run}" in said.err
    assert f"resuming {run} at iteration {stopped}" in train(run, "--until", 1).err


def test_torchrun_trains_with_two_processes(recipe: Path, tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("torchrun on Windows needs a build of torch with libuv")
    run = tmp_path / "run"
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    verb = ["-m", "blinkloop.cli", "train", recipe, "-o", run, "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, *launcher, "--standalone", *verb],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("next: blinkloop export") == 1
    record = json.loads((run / "run.json").read_text())
    assert record["sessions"][0]["hardware"]["processes"] == 2
    assert record["iterations"] == 4


def test_teacher_is_kept_in_the_run_and_named_in_the_card(
    verb: Verb, train: Verb, recipe: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnx", reason="needs the extra `export`")
    from blinkloop.export.from_run import read_run

    run, model = tmp_path / "run", GOLDEN / "tiny_half.onnx"
    said = train(run, "--teacher", model, "--until", 2)
    assert said.code == 0, said.err
    assert f"--teacher {model}" in said.err.splitlines()[-1]
    assert train(run).code == 0
    trained = read_run(run)
    # By name: a card travels, the folders of this machine stay here.
    assert trained.provenance["teacher"]["source"] == model.name
    assert trained.recipe.distillation is not None
    assert trained.recipe.distillation.teacher == model.name
    assert float(log_of(run)[-1]["distillation"]) > 0
    # A run is a teacher as well.
    again = train(tmp_path / "again", "--teacher", run, "--iterations", 1)
    assert again.code == 0, again.err
    for name, words in (
        ("no-such-model", ("no bundled model 'no-such-model'",)),
        (tmp_path / "none", ("no bundled model", "no such model file")),
    ):
        lost = train(tmp_path / "lost", "--teacher", name)
        assert lost.code == 2
        assert any(word in lost.error for word in words)
        assert not (tmp_path / "lost").exists()
    flat = recipe.read_text() + "psf: {kind: gaussian, z_range_nm: [0.0, 0.0]}\n"
    recipe.write_text(flat)
    wrong = train(tmp_path / "flat", "--teacher", model)
    assert wrong.code == 2
    assert "3D network, the recipe trains a 2D one" in wrong.error
