"""Which optimiser, learning rate and loss weighting: short trainings side by side.

    python benchmarks/training_recipes.py --iterations 800 --threads 1
    python benchmarks/training_recipes.py --recipe astigmatic --from astigmatic \
        --iterations 1000 --decay 0.6 --isolated 3000 --only \
        "all emitters alike" "dense frames count less" "one camera, narrow ranges"

Every variant trains the recipe from the same random weights on the same batches,
with the last of the iterations (30 %) as decay, and is then measured on samples nobody
trained on: negative log-likelihood (of the loss of the recipe, also for variants of
another loss), Jaccard index, RMSE and bias of the density under the recipe's mean
conditions, how much the coarse levels of the two U-Nets are heard, and how much their
weights grew (`--look` says both of trained networks). With `--isolated`, also RMSE /
CRLB of isolated emitters of 5000 photons that are on for one frame. Rows are printed as
they come; `--only` chooses variants.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from blinkloop.cli._training import first_weights
from blinkloop.schema import Scaling
from blinkloop.training.network import TwoStageNetwork
from blinkloop.training.progress import Progress
from blinkloop.training.recipe import Recipe
from blinkloop.training.recipes import load_recipe
from blinkloop.training.silence import coarse_shares
from blinkloop.training.simulate import Simulator
from blinkloop.training.targets import scaled_frames
from blinkloop.training.trainer import Trainer
from blinkloop.training.validate import Validation
from blinkloop.training.validation_loss import ValidationLoss

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "adamw 2e-4 (official)": {"schedule": {"learning_rate": 2e-4}},
    "adamw 8e-4": {"schedule": {"learning_rate": 8e-4}},
    "adamw 3e-3": {"schedule": {"learning_rate": 3e-3}},
    "muon 1e-3": {"schedule": {"optimizer": "muon", "learning_rate": 1e-3}},
    "muon 3e-3": {"schedule": {"optimizer": "muon", "learning_rate": 3e-3}},
    "muon 8e-3": {"schedule": {"optimizer": "muon", "learning_rate": 8e-3}},
    "muon 3e-3, bf16": {
        "schedule": {"optimizer": "muon", "learning_rate": 3e-3, "precision": "bf16"}
    },
    "muon 3e-3, no occupancy term": {
        "schedule": {"optimizer": "muon", "learning_rate": 3e-3},
        "loss": {"occupancy_weight": 0.0},
    },
    "muon 3e-3, official count weighting": {
        "schedule": {"optimizer": "muon", "learning_rate": 3e-3},
        "loss": {"occupancy_weight": 0.0, "official_count_weighting": True},
    },
    # Whether weight decay keeps the coarse levels alive (training/silence.py).
    "muon 3e-3, weight decay 0.1": {
        "schedule": {"optimizer": "muon", "learning_rate": 3e-3, "weight_decay": 0.1}
    },
    # For fine-tuning with --from.
    "all emitters alike": {"loss": {"crowding_power": 0.0}},
    "dense frames count less": {"loss": {"crowding_power": 1.0}},
    "best estimates in place of the truth": {"loss": {"rao_blackwell": True}},
    "best estimates, some movies spaced": {
        "loss": {"rao_blackwell": True},
        "sample": {"spaced_fraction": 0.3},
    },
    "as it is": {},
    "one camera, narrow ranges": {
        "sample": {
            "photons": (2500.0, 10000.0),
            "background_photons": (8.0, 50.0),
            "density_per_um2": (0.1, 0.6),
            "on_time_frames": (0.3, 3.0),
        },
        "top": {"camera_variation": None},
    },
}


def variant(
    base: Recipe, changes: dict[str, dict[str, Any]], iterations: int, decay: float
) -> Recipe:
    """The base recipe, shortened, with the changes of a variant."""
    common = {
        "iterations": iterations,
        "schedule": "wsd",
        "decay_fraction": decay,
        "decay_shape": "linear",
        "warmup_iterations": 50,
        "ema_decay": 0.99,
        "precision": "fp32",
        "checkpoint_every": iterations,
        "validate_every": iterations,
        "stuck_iterations": 0,
    }
    schedule = {**common, **changes.get("schedule", {})}
    return base.model_copy(
        update={
            "schedule": base.schedule.model_copy(update=schedule),
            "loss": base.loss.model_copy(update=changes.get("loss", {})),
            "sample": base.sample.model_copy(update=changes.get("sample", {})),
            **changes.get("top", {}),
        }
    )


def isolated(folder: Path, emitters: int) -> dict[str, float]:
    """RMSE / CRLB in x, y and z of the network of a run, by `blinkloop evaluate`."""
    model = folder / "model.onnx"
    blinkloop = (sys.executable, "-m", "blinkloop.cli")
    make = [*blinkloop, "export", str(folder), "-o", str(model)]
    subprocess.run(make, check=True, capture_output=True)
    ask = ("--isolated", "--flux", "5000", "--emitters", str(emitters), "--seed", "1")
    command = [*blinkloop, "evaluate", str(model), "--frames", "10", *ask, "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    single = json.loads(done.stdout)["isolated"]["single"]
    return {f"rmse_over_crlb_{axis}": single[axis]["ratio"] for axis in "xyz"}


def coarse(
    recipe: Recipe, network: TwoStageNetwork, scaling: Scaling
) -> dict[str, float]:
    """How much the coarse levels of both U-Nets are heard, and how their weights grew.

    0: not at all; RMS of the weights of the coarsest level, 1 is that of their random
    start (2 / fan-in).
    """
    batch = Simulator(recipe).batch(0, stream=5)
    shares = coarse_shares(network, scaled_frames(batch, scaling))
    found = {f"coarse_{name}": share for name, share in shares.items()}
    for name in shares:
        base = getattr(network, name).base
        weights = [p.detach() for p in base.parameters() if p.ndim == 4]
        grown = [float((p**2).mean()) * p[0].numel() / 2.0 for p in weights]
        found[f"grown_{name}"] = (sum(grown) / len(grown)) ** 0.5
    return found


def levels(row: dict[str, Any]) -> str:
    """What `coarse` found, in words; nothing for a network without levels."""
    shares = [f"{v:.3f}" for k, v in row.items() if k.startswith("coarse_")]
    grown = [f"{v:.2f}" for k, v in row.items() if k.startswith("grown_")]
    words = f"  coarse {' / '.join(shares)} (weights {' / '.join(grown)})"
    return words if shares else ""


def look(source: str, recipe: Recipe) -> str:
    """The coarse levels of a trained network on frames of the recipe."""
    start = first_weights(source)
    network = TwoStageNetwork(start.architecture).eval()
    network.load_state_dict(dict(start.weights))
    return f"{source:38s}" + levels(coarse(recipe, network, start.scaling))


def measure(
    recipe: Recipe, judge: Recipe, start: str | None, emitters: int
) -> dict[str, Any]:
    """Train a variant; judge it by the base recipe's loss."""
    last: list[Progress] = []

    def keep(progress: Progress) -> None:
        last[:] = [progress]

    with tempfile.TemporaryDirectory() as folder:
        weights = None if start is None else first_weights(start)
        trainer = Trainer(recipe, Path(folder), start=weights)
        trainer.train(keep)
        network = trainer.state.averaged.eval()
        with torch.inference_mode():
            found = {**ValidationLoss(judge)(network), **Validation(judge)(network)}
        found |= coarse(recipe, network, recipe.scaling())
        if emitters:
            found |= isolated(Path(folder), emitters)
    return {**found, "seconds_per_iteration": last[0].seconds_per_iteration}


def main() -> None:
    """Print one row per variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="astigmatic-small")
    parser.add_argument("--iterations", type=int, default=800)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--from", dest="start", help="Model or run to begin with.")
    parser.add_argument("--decay", type=float, default=0.3, help="Share of the run.")
    parser.add_argument("--features", type=int, help="Instead of the recipe's.")
    parser.add_argument("--batch", type=int, help="Instead of the recipe's.")
    parser.add_argument("--isolated", type=int, default=0, help="Emitters.")
    parser.add_argument("--look", nargs="+", help="Runs or models: levels only.")
    parser.add_argument("--only", nargs="*", help="Names of variants.")
    parser.add_argument("--out", type=Path, help="JSON lines go here, too.")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    base = load_recipe(asked.recipe)
    if asked.features:
        shape = base.architecture.model_copy(update={"features": asked.features})
        base = base.model_copy(update={"architecture": shape})
    if asked.batch:
        schedule = base.schedule.model_copy(update={"batch": asked.batch})
        base = base.model_copy(update={"schedule": schedule})
    for source in asked.look or ():
        print(look(source, base))
    if asked.look:
        return
    print(f"{asked.recipe}, {asked.iterations} iterations, seed {base.seed}")
    for name in asked.only or VARIANTS:
        recipe = variant(base, VARIANTS[name], asked.iterations, asked.decay)
        row = measure(recipe, base, asked.start, asked.isolated)
        ratios = [f"{v:.2f}" for k, v in row.items() if k.startswith("rmse_over_crlb")]
        print(
            f"{name:38s} nll {row['nll']:8.2f}  Jaccard {row['jaccard']:.3f}  "
            f"{row['rmse_lateral_nm']:5.1f} / {row['rmse_axial_nm']:5.1f} nm  "
            f"density {row['density_bias']:+.1%}  "
            f"{row['seconds_per_iteration']:.3f} s/iteration"
            + levels(row)
            + (f"  RMSE/CRLB {' / '.join(ratios)}" if ratios else ""),
            flush=True,
        )
        if asked.out:
            with asked.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"variant": name, **row}) + "\n")


if __name__ == "__main__":
    main()
