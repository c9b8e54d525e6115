"""Which optimiser, learning rate and loss weighting: short trainings side by side.

    python benchmarks/training_recipes.py --iterations 800 --threads 1

Every variant trains the recipe from the same random weights on the same batches,
with the last 30 % of the iterations as decay, and is then measured on samples nobody
trained on: negative log-likelihood (of the loss of the recipe, also for variants of
another loss), Jaccard index, RMSE and bias of the density under the
recipe's mean conditions. Rows are printed as they come; `--only` chooses variants.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from blinkloop.training.progress import Progress
from blinkloop.training.recipe import Recipe
from blinkloop.training.recipes import load_recipe
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
}


def variant(
    base: Recipe, changes: dict[str, dict[str, Any]], iterations: int
) -> Recipe:
    """The base recipe, shortened, with the changes of a variant."""
    common = {
        "iterations": iterations,
        "schedule": "wsd",
        "decay_fraction": 0.3,
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
        }
    )


def measure(recipe: Recipe, judge: Recipe) -> dict[str, Any]:
    """Train a variant; judge it by the base recipe's loss."""
    last: list[Progress] = []

    def keep(progress: Progress) -> None:
        last[:] = [progress]

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, Path(folder))
        trainer.train(keep)
        network = trainer.state.averaged.eval()
        with torch.inference_mode():
            found = {**ValidationLoss(judge)(network), **Validation(judge)(network)}
    return {**found, "seconds_per_iteration": last[0].seconds_per_iteration}


def main() -> None:
    """Print one row per variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="astigmatic-small")
    parser.add_argument("--iterations", type=int, default=800)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="Names of variants.")
    parser.add_argument("--out", type=Path, help="JSON lines go here, too.")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    base = load_recipe(asked.recipe)
    print(f"{asked.recipe}, {asked.iterations} iterations, seed {base.seed}")
    for name in asked.only or VARIANTS:
        row = measure(variant(base, VARIANTS[name], asked.iterations), base)
        print(
            f"{name:38s} nll {row['nll']:8.2f}  Jaccard {row['jaccard']:.3f}  "
            f"{row['rmse_lateral_nm']:5.1f} / {row['rmse_axial_nm']:5.1f} nm  "
            f"density {row['density_bias']:+.1%}  "
            f"{row['seconds_per_iteration']:.3f} s/iteration",
            flush=True,
        )
        if asked.out:
            with asked.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"variant": name, **row}) + "\n")


if __name__ == "__main__":
    main()
