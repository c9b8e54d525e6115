"""Numbers below 1e-38 slow a CPU a hundredfold; in training they are nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["denormals_are_zero"]


@contextmanager
def denormals_are_zero() -> Iterator[None]:
    """Within, this thread counts denormal numbers as 0.

    The tails of the mixture density underflow. Measured with `astigmatic-small` in fp32
    on an AVX-512 CPU: iterations grew from 0.38 to over 1.3 s; with it 0.34 s.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
