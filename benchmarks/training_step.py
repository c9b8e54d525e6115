"""Where the time of a training iteration goes, part by part.

Simulation (which runs in a thread of its own during a training), targets, forward,
loss, backward, clipping, optimiser, averaging; `iteration` is their sum without the
simulation. The least of the processor's milliseconds on a CPU, so that a shared machine
matters less, and of the clock's on a GPU. With `--before` the parts as the first
version had them: AdamW of single tensors, weights averaged one by one, ELU not in
place.

    python benchmarks/training_step.py astigmatic-small --threads 1
    python benchmarks/training_step.py astigmatic-small --precision bf16 --before
    python benchmarks/training_step.py --dry      # does it run? tiny network, seconds
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from blinkloop.training.loss import Targets, localization_loss
from blinkloop.training.network import MovieHeads
from blinkloop.training.optimizers import make_optimizer, update_average
from blinkloop.training.recipe import Recipe
from blinkloop.training.recipes import load_recipe
from blinkloop.training.run_state import new_network
from blinkloop.training.simulate import Simulator
from blinkloop.training.targets import scaled_frames, to_targets

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Parts:
    """Milliseconds by part, an entry per iteration."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.ms: dict[str, list[float]] = {}

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        """Do the work and note its time."""
        cpu = self.device.type == "cpu"
        clock = time.process_time if cpu else time.perf_counter
        started = clock()
        result = work()
        if not cpu:
            torch.cuda.synchronize()
        self.ms.setdefault(name, []).append((clock() - started) * 1e3)
        return result


def measure(
    recipe: Recipe, device: torch.device, repeats: int, *, before: bool
) -> dict[str, float]:
    """Least milliseconds by part."""
    schedule, scaling = recipe.schedule, recipe.scaling()
    network, averaged = new_network(recipe, device), new_network(recipe, device)
    heads, simulator, parts = MovieHeads(network), Simulator(recipe), Parts(device)
    optimizer: torch.optim.Optimizer = make_optimizer(network, schedule)
    if before:
        optimizer = torch.optim.AdamW(network.parameters(), foreach=False, fused=False)
        for module in network.modules():
            if isinstance(module, torch.nn.ELU):
                module.inplace = False
    kind = TYPES[schedule.precision]

    def prepared(batch: Any) -> tuple[torch.Tensor, Targets]:
        targets = to_targets(batch, recipe)
        moved = (targets.frame, targets.position, targets.background)
        frames = scaled_frames(batch, scaling).to(device)
        return frames, Targets(*(value.to(device) for value in moved))

    def forward(frames: torch.Tensor) -> Any:
        with torch.autocast(
            device.type,
            kind if kind != torch.float32 else None,
            enabled=kind != torch.float32,
        ):
            return heads(frames)

    def loss_of(outputs: Any, targets: Targets) -> torch.Tensor:
        outputs = [output.float() for output in outputs]
        maps = network.activate(*outputs)
        return localization_loss(maps, targets, recipe.loss, outputs[0]).total()

    def clip() -> None:
        torch.nn.utils.clip_grad_norm_(network.parameters(), schedule.clip_norm)

    def one_by_one() -> None:
        with torch.no_grad():
            pairs = zip(averaged.parameters(), network.parameters(), strict=True)
            for slow, fast in pairs:
                slow.lerp_(fast, 0.001)

    def all_at_once() -> None:
        update_average(averaged, network, decay=0.999, iteration=10**6)

    for i in range(repeats + 2):
        batch = parts("simulate", lambda i=i: simulator.batch(i))
        frames, targets = parts("targets", lambda b=batch: prepared(b))
        outputs = parts("forward", lambda f=frames: forward(f))
        loss = parts("loss", lambda o=outputs, t=targets: loss_of(o, t))
        optimizer.zero_grad(set_to_none=True)
        parts("backward", loss.backward)
        parts("clip", clip)
        parts("optimiser", optimizer.step)
        parts("average", one_by_one if before else all_at_once)
    found = {name: min(ms[2:]) for name, ms in parts.ms.items()}
    found["iteration"] = sum(v for name, v in found.items() if name != "simulate")
    return found


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", default="astigmatic-small")
    parser.add_argument("--precision", choices=["fp32", "bf16", "both"], default="both")
    parser.add_argument("--optimizer", choices=["adamw", "muon"])
    parser.add_argument("--before", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.dry:
        given.repeats = 1
        tiny = {"features": 4, "depth": 1, "stem_stride": 2}
        schedule = {"batch": 2, "patch_px": 16}
        recipe = Recipe.model_validate({"architecture": tiny, "schedule": schedule})
    else:
        recipe = load_recipe(str(Path(given.recipe)))
    names = ["fp32", "bf16"] if given.precision == "both" else [given.precision]
    table = {}
    for name in names:
        update = {"precision": name}
        if given.optimizer:
            update["optimizer"] = given.optimizer
        schedule = recipe.schedule.model_copy(update=update)
        chosen = recipe.model_copy(update={"schedule": schedule})
        device = torch.device(given.device)
        table[name] = measure(chosen, device, given.repeats, before=given.before)
    facts = {"torch": torch.__version__, "threads": given.threads}
    if given.json:
        print(json.dumps({**facts, "ms": table}))
        return
    cpu = torch.backends.cpu.get_cpu_capability()
    print(f"{recipe.name}, {platform.machine()} {cpu}, {facts}")
    print("ms".ljust(12) + "".join(name.rjust(10) for name in names))
    for part in table[names[0]]:
        cells = "".join(f"{table[name][part]:10.2f}" for name in names)
        print(part.ljust(12) + cells)


if __name__ == "__main__":
    main()
