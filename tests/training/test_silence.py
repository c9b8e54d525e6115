"""Coarse levels that hand up a constant are seen, and said; healthy ones are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_recipes import tiny

from blinkloop.schema import Architecture, ModelCard
from blinkloop.training.card import card_from_recipe
from blinkloop.training.checkpoint import load_checkpoint, write_checkpoint
from blinkloop.training.network import TwoStageNetwork
from blinkloop.training.recipe import Recipe
from blinkloop.training.silence import SILENT, coarse_shares, silence_of_run
from blinkloop.training.start import start_from_run
from blinkloop.training.trainer import Trainer

SHAPES: list[dict[str, Any]] = [
    {"features": 4, "depth": 1, "stem_stride": 2},
    {"features": 3, "depth": 2, "convolutions": 3},
    {"features": 3, "depth": 2, "context_depth": 1, "kept_features": 5},
    {"features": 4, "depth": 1, "activation": "relu"},
]


def silence(network: TwoStageNetwork, *names: str) -> None:
    """Saturate the last activation below the finest level."""
    a = network.architecture
    levels = {"analysis": a.depth, "context": a.context_levels}
    with torch.no_grad():
        for name in names:
            net = getattr(network, name)
            last = net.base if levels[name] == 1 else net.up[-2]
            last[-2].bias.uniform_(-1.1e4, -1e4)
            net.halve[-1].bias.normal_()


def made(shape: dict[str, Any], *silent: str) -> TwoStageNetwork:
    torch.manual_seed(3)
    network = TwoStageNetwork(Architecture(**shape)).eval()
    silence(network, *silent)
    return network


def movies() -> torch.Tensor:
    return torch.randn(2, 4, 16, 24, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "silent", [(), ("analysis",), ("context",), ("analysis", "context")]
)
def test_only_what_was_silenced_is_silent(
    shape: dict[str, Any], silent: tuple[str, ...]
) -> None:
    shares = coarse_shares(made(shape, *silent), movies())
    assert set(shares) == {"analysis", "context"}
    for name, share in shares.items():
        if name in silent:
            assert share < SILENT
        else:
            assert 0.1 < share < 3.0
    # Nothing of it stays: the network is as it was.
    network = made(shape, *silent)
    before = network(movies()[:, :3])
    coarse_shares(network, movies())
    torch.testing.assert_close(network(movies()[:, :3]), before, rtol=0, atol=0)
    assert not any(module._forward_hooks for module in network.modules())


def test_the_share_is_what_the_output_owes_to_the_levels() -> None:
    """Scaling what comes from below scales the share, while it is small."""
    network = made(SHAPES[0])
    with torch.no_grad():
        for name in ("analysis", "context"):
            net = getattr(network, name)
            net.halve[-1].weight.mul_(1e-2)
    small = coarse_shares(network, movies())
    with torch.no_grad():
        network.analysis.halve[-1].weight.mul_(0.5)
    half = coarse_shares(network, movies())
    assert half["analysis"] == pytest.approx(0.5 * small["analysis"], rel=0.02)
    assert small["analysis"] > SILENT


def test_without_levels_there_is_nothing_to_say(tmp_path: Path) -> None:
    network = made({"features": 4, "depth": 0})
    assert coarse_shares(network, movies()) == {}
    recipe = tiny().model_copy(update={"architecture": network.architecture})
    assert silence_of_run(network, recipe, tmp_path) is None


@pytest.mark.parametrize(
    ("silent", "says"),
    [
        ((), None),
        (("analysis", "context"), "architecture: {depth: 0, convolutions: 4} from"),
        (("analysis",), "architecture: {depth: 0, context_depth: 1}"),
        (("context",), "architecture: {context_depth: 0}"),
    ],
)
def test_the_line_says_what_to_do(
    silent: tuple[str, ...], says: str | None, tmp_path: Path
) -> None:
    said = silence_of_run(made(SHAPES[0], *silent), tiny(), tmp_path)
    if says is None:
        assert said is None
    else:
        assert said is not None
        assert "\n" not in said
        assert says in said


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A trained run whose levels are made silent afterwards."""
    folder = tmp_path / "run"
    Trainer(tiny(iterations=2), folder).train(lambda p: None)
    state = load_checkpoint(folder / "checkpoint.pt")
    network = TwoStageNetwork(tiny().architecture)
    network.load_state_dict(state["averaged"])
    silence(network, "analysis", "context")
    state["averaged"] = network.state_dict()
    write_checkpoint(state, folder / "checkpoint.pt")
    return folder


def test_what_the_line_advises_can_be_done(run: Path, tmp_path: Path) -> None:
    shape = {"features": 4, "depth": 0, "convolutions": 4, "stem_stride": 2}
    recipe = Recipe.model_validate(
        {**tiny(iterations=2).model_dump(), "architecture": shape}
    )
    flat = Trainer(recipe, tmp_path / "flat", start=start_from_run(run))
    flat.train(lambda p: None)
    assert flat.finished
    assert silence_of_run(flat.averaged, flat.recipe, flat.folder) is None


def test_export_and_train_say_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx", reason="needs the extra `export`")
    pytest.importorskip("onnxscript", reason="needs the extra `export`")
    from click.testing import CliRunner

    import blinkloop.export
    from blinkloop.cli.export import command as export
    from blinkloop.cli.train import command as train

    def quickly(run: Path, out: Path, **_: object) -> ModelCard:
        out.write_bytes(b"")  # the graph itself is tested elsewhere
        return card_from_recipe(tiny())

    monkeypatch.setattr(blinkloop.export, "export_run", quickly)
    said = CliRunner().invoke(export, [str(run), "-o", str(tmp_path / "m.onnx")])
    assert said.exit_code == 0, said.output
    assert said.stderr.count("hand up the same value everywhere") == 1
    recipe = tmp_path / "tiny.yaml"
    tiny(iterations=1).save(recipe)
    words = [str(recipe), "-o", str(tmp_path / "new"), "--device", "cpu"]
    said = CliRunner().invoke(train, words)
    assert said.exit_code == 0, said.output
    assert "same value" not in said.stderr
    from blinkloop.training import silence as module

    monkeypatch.setattr(module, "SILENT", 1e3)  # now every level counts as silent
    words[2] = str(tmp_path / "other")
    said = CliRunner().invoke(train, words)
    assert said.exit_code == 0, said.output
    assert said.stderr.count("hand up the same value everywhere") == 1
