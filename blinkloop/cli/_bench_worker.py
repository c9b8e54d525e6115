"""One contestant of `bench` in a process of its own, so that its memory is its own.

Lines of JSON: the task comes first, then numbers of seconds to run; answered by
`{"ready": precision}`, then `{"durations": [...], "peak_rss_mb": ...}` each, or by
`{"error": text}` and the end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blinkloop.errors import BlinkloopError

__all__ = ["PYTORCH_COMPILE", "PYTORCH_EAGER"]

PYTORCH_EAGER, PYTORCH_COMPILE = "pytorch-eager", "pytorch-compile"


def _backend_step(name: str, task: dict[str, Any]) -> tuple[str, Callable[[], object]]:
    from blinkloop.runtime import create_backend, make_camera_maps, read_model
    from blinkloop.runtime.benchmarking import Case, make_frames

    model = read_model(task["model"])
    frames = make_frames(model.card, Case(**task["case"]))
    camera = make_camera_maps(model.card.camera)
    backend = create_backend(name, model, camera, threads=task["threads"])
    backend.step(frames, segment_start=True)
    _, _, variant = backend.name.partition(":")
    # An engine of an int8 model computes in float.
    own = getattr(backend, "precision_name", model.card.precision_name)
    precision = variant if variant == "bf16" else own
    return precision, lambda: backend.step(frames, segment_start=False)


def _pytorch_step(name: str, task: dict[str, Any]) -> tuple[str, Callable[[], object]]:
    import numpy as np
    import torch

    from blinkloop.export.three_frames import ThreeFrames, triples
    from blinkloop.export.weights import make_network, read_model_weights
    from blinkloop.runtime.backends import usable_cpus
    from blinkloop.runtime.benchmarking import Case, make_frames

    torch.set_num_threads(task["threads"] or usable_cpus())
    weights, card = read_model_weights(Path(task["model"]))
    network = make_network(card.architecture, weights, source=task["model"])
    module: Any = ThreeFrames(network, card).eval()
    if name == PYTORCH_COMPILE:
        module = torch.compile(module)
    frames = make_frames(card, Case(**task["case"]))
    # As many outputs as frames: the two before them are known in a running movie.
    stacks = triples(torch.from_numpy(np.concatenate([frames[:1], frames[:1], frames])))

    def step() -> object:
        with torch.inference_mode():
            return module(stacks)

    return "fp32", step


def _say(**answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _serve() -> None:
    from blinkloop.runtime.benchmarking import StepTimer, peak_rss_mb

    task = json.loads(sys.stdin.readline())
    name = task["contestant"]
    make = _pytorch_step if name.startswith("pytorch-") else _backend_step
    try:
        precision, step = make(name, task)
        timer = StepTimer(step)
        _say(ready=precision)
        for line in sys.stdin:
            _say(durations=timer.run(json.loads(line)), peak_rss_mb=peak_rss_mb())
    except BlinkloopError as error:
        _say(error=str(error))
    except Exception as error:  # whatever torch's compiler lacks on this machine
        _say(error=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


if __name__ == "__main__":
    _serve()
