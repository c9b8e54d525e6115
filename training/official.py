"""Weights of official DECODE 0.10 networks, by their state-dict names, as ours.

Official x runs along the first image axis (rows), ours along columns. The images keep
their orientation; the x and y outputs of the position and sigma heads change places.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from blinkloop.errors import InputError
from blinkloop.schema import Architecture

__all__ = ["from_official"]

_NETS = {"unet_shared": "analysis", "unet_union": "context"}
_PARTS = {
    "encoder": "down",
    "poolers": "pool",
    "base": "base",
    "decoder": "up",
    "upsamplers": "halve",
    "out_conv": "out",
}
_HEADS = ("head_p", "head_position", "head_sigma", "head_background")
_SWAPPED_ROWS = {"head_position": [0, 2, 1, 3], "head_sigma": [0, 2, 1, 3]}


def from_official(
    state: Mapping[str, Tensor],
) -> tuple[Architecture, dict[str, Tensor]]:
    """Architecture and state dict of ours for an official state dict.

    Parameters
    ----------
    state
        Official names, e.g. `unet_shared.encoder.0.0.weight`.

    Raises
    ------
    InputError
        A name that is not one of the two-stage network's.
    """
    result: dict[str, Tensor] = {}
    depth = 0
    for name, value in state.items():
        if name == "sigma_eps":
            continue
        parts = name.split(".")
        if parts[0] in _NETS and parts[1] in _PARTS:
            inner = [part for part in parts[2:] if part != "conv"]
            ours = ".".join([_NETS[parts[0]], _PARTS[parts[1]], *inner])
            if parts[1] == "poolers":
                depth = max(depth, int(parts[2]) + 1)
        elif parts[0] == "mt_heads" and len(parts) >= 4:
            head = _HEADS[int(parts[1])]
            ours = f"{head}.{'hidden' if parts[2] == 'core' else 'out'}.{parts[-1]}"
            if parts[2] == "out_conv" and head in _SWAPPED_ROWS:
                value = value[torch.tensor(_SWAPPED_ROWS[head])]
        else:
            raise InputError(
                f"official checkpoint: unknown parameter {name!r}; only the two-stage "
                f"network of DECODE 0.10 can be imported"
            )
        result[ours] = value
    key = "analysis.out.weight"
    if key not in result or not depth:
        raise InputError(
            "official checkpoint: the frame-analysis network is missing; only the "
            "two-stage network of DECODE 0.10 can be imported"
        )
    return Architecture(features=int(result[key].shape[0]), depth=depth), result
