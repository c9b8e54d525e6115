"""One process or several (`torchrun`): what they tell each other.

Every process has its own stream of batches; gradients are averaged by DDP, everything
else in one small exchange per iteration, so that all decide the same at the same time.
Process 0 validates, logs and saves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

__all__ = ["ALONE", "Ranks", "join_ranks"]


@dataclass(frozen=True, slots=True)
class Ranks:
    """The place of this process among those of a run."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process validates, logs and saves."""
        return self.rank == 0

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module, averaging its gradients over the processes."""
        if self.size == 1:
            return module
        ids = [device] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(module, device_ids=ids)

    def total(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Sum of each value over the processes."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(tensor)
        result: list[float] = tensor.tolist()
        return result

    def wait(self, device: torch.device) -> None:
        """Until all processes are here."""
        self.total([0.0], device)


ALONE = Ranks()
"""A run of one process."""


@contextmanager
def join_ranks(device: str) -> Iterator[tuple[Ranks, str]]:
    """Join the processes that `torchrun` started; alone without it.

    Parameters
    ----------
    device
        "cuda" becomes the GPU of this process.

    Yields
    ------
    The place of this process, and its device.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE, device
        return
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Ranks(dist.get_rank(), size), device
    finally:
        dist.destroy_process_group()
