"""Two processes train as one with twice the batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from tiny_recipes import tiny

from blinkloop.training.batches import stream_number
from blinkloop.training.simulate import Batch, Simulator
from blinkloop.training.trainer import Trainer


def two_processes(folder: Path, **settings: object) -> list[dict[str, object]]:
    """What each of two processes says, started as torchrun starts them."""
    # The store where they meet is ours, as it is torchrun's: a port that is looked up,
    # given back and bound again by the first of them can be somebody else's by then.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    here = Path(__file__).parent
    children = [
        subprocess.Popen(
            [sys.executable, here / "ddp_child.py", folder, json.dumps(settings)],
            env={
                **os.environ,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(store.port),
                "TORCHELASTIC_USE_AGENT_STORE": "True",
                "GLOO_SOCKET_IFNAME": "lo",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for child in children:
            _, said = child.communicate(timeout=600)
            assert child.returncode == 0, said
    finally:
        for child in children:
            child.kill()
            child.wait()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    if sys.platform == "win32":
        pytest.skip("gloo over the loopback device is named as on POSIX")
    folder = tmp_path_factory.mktemp("pair")
    return folder, two_processes(folder, patience=9, iterations=20)


def joined(a: Batch, b: Batch) -> Batch:
    """The movies of both."""
    emitters = b.emitters.copy()
    emitters["frame"] += a.frames.shape[0] * a.frames.shape[1]
    return Batch(
        np.concatenate([a.frames, b.frames]),
        np.concatenate([a.background, b.background]),
        np.concatenate([a.emitters, emitters]),
    )


def test_two_processes_are_one_with_twice_the_batch(
    pair: tuple[Path, list[dict]], tmp_path: Path
) -> None:
    _, said = pair
    simulator = Simulator(tiny())

    def both(iteration: int, stream: int) -> Batch:
        assert stream == stream_number(0, 0)
        parts = [
            simulator.batch(iteration, stream=stream_number(0, rank)) for rank in (0, 1)
        ]
        assert parts[0].frames.shape == parts[1].frames.shape
        assert (parts[0].frames != parts[1].frames).any()
        return joined(*parts)

    alone: list[float] = []
    trainer = Trainer(tiny(iterations=20), tmp_path, batches=both)
    trainer.train(lambda p: alone.append(p.loss), until=4)
    for one in said:
        assert one["size"] == 2
        # Asked to stop in the fourth iteration, both end after it.
        np.testing.assert_allclose(one["losses"], alone, rtol=1e-5)
        for name, value in trainer.averaged.state_dict().items():
            np.testing.assert_allclose(
                one["weights"][name], value, rtol=1e-3, atol=1e-5, err_msg=name
            )


def test_one_process_writes_the_run(pair: tuple[Path, list[dict]]) -> None:
    folder, _ = pair
    run = json.loads((folder / "run" / "run.json").read_text())
    assert run["sessions"][0]["hardware"]["processes"] == 2
    assert run["iterations"] == 4
    resumed = Trainer(tiny(patience=9, iterations=20), folder / "run")
    assert resumed.iteration == 4
    assert torch.isfinite(
        torch.stack([p.sum() for p in resumed.network.parameters()])
    ).all()
