"""One process of a training by two; started by test_trainer_distributed.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from tiny_recipes import tiny

from blinkloop.training.distributed import join_ranks
from blinkloop.training.trainer import Trainer

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    settings = json.loads(sys.argv[2])
    with join_ranks("cpu") as (ranks, device):
        losses: list[float] = []
        trainer = Trainer(
            tiny(**settings),
            folder / "run",
            validate=lambda network: {"nll": 1.0},
            device=device,
            ranks=ranks,
        )
        # Only the first process is asked to stop; both must.
        stops = ranks.leads and bool(settings.get("patience"))
        trainer.train(
            lambda p: losses.append(p.loss),
            interrupted=lambda: stops and len(losses) == 3,
        )
        weights = {n: v.tolist() for n, v in trainer.averaged.state_dict().items()}
    (folder / f"{ranks.rank}.json").write_text(
        json.dumps({"losses": losses, "weights": weights, "size": ranks.size})
    )
