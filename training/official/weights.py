"""Weights of official DECODE 0.9 and 0.10 networks, by their names, as ours.

Official x runs along the first image axis (rows), ours along columns. The images keep
their orientation; the x and y outputs of the position and sigma heads change places.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from blinkloop.errors import InputError
from blinkloop.schema import Architecture
from blinkloop.training.network import SIGMA_FLOOR, TwoStageNetwork

__all__ = ["disable", "from_official", "mirror"]

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
_NAME = re.compile(
    r"(unet_(shared|union)\.((encoder|decoder)\.\d+\.[02]|base\.[02]|poolers\.\d+|"
    r"upsamplers\.\d+\.conv|out_conv)|mt_heads\.[0-3]\.(core\.0|out_conv))"
    r"\.(weight|bias)"
)
_ONLY = (
    "only SigmaMUNet without normalization, the network of DECODE's own parameter "
    "files, can be imported"
)
_DISABLED_SIGMA = 0.1
_AXES = {"rows": (-2, 2), "columns": (-1, 1)}
"""Mirrored axis -> image dimension, and row of our position head that turns sign."""


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
        A weight that is missing, unknown, or of a size our network has no place for.
    """
    result: dict[str, Tensor] = {}
    depths = {"analysis": 0, "context": 0}
    for name, value in state.items():
        if name == "sigma_eps":
            _check_sigma_floor(value)
            continue
        if _NAME.fullmatch(name) is None:
            raise InputError(f"official weights: unknown parameter {name!r}; {_ONLY}")
        parts = name.split(".")
        if parts[0] in _NETS:
            net = _NETS[parts[0]]
            inner = [part for part in parts[2:] if part != "conv"]
            ours = ".".join([net, _PARTS[parts[1]], *inner])
            if parts[1] == "poolers":
                depths[net] = max(depths[net], int(parts[2]) + 1)
        else:
            head = _HEADS[int(parts[1])]
            ours = f"{head}.{'hidden' if parts[2] == 'core' else 'out'}.{parts[-1]}"
            if parts[2] == "out_conv" and head in _SWAPPED_ROWS and len(value) == 4:
                value = value[torch.tensor(_SWAPPED_ROWS[head])]
        result[ours] = value
    architecture = _architecture(result, depths)
    _check_shapes(architecture, result)
    return architecture, result


def _check_sigma_floor(value: Tensor) -> None:
    if value.numel() != 1 or not math.isclose(
        float(value), SIGMA_FLOOR, rel_tol=1e-4, abs_tol=0
    ):
        raise InputError(
            f"official weights: sigma_eps is {value.tolist()}, ours is fixed to "
            f"{SIGMA_FLOOR}; {_ONLY}"
        )


def _architecture(
    weights: Mapping[str, Tensor], depths: Mapping[str, int]
) -> Architecture:
    """Size of the network, from its first and last layers."""
    for net, official in (("analysis", "unet_shared"), ("context", "unet_union")):
        for layer in ("down.0.0", "out"):
            key = f"{net}.{layer}.weight"
            if key not in weights or weights[key].ndim != 4:
                raise InputError(
                    f"official weights: the network {official} is missing or has no "
                    f"convolutions; {_ONLY}"
                )
        if not depths[net]:
            raise InputError(
                f"official weights: {official} has no strided convolutions "
                f"(HyperParameter.arch_param.pool_mode is not StrideConv); {_ONLY}"
            )
    if depths["analysis"] != depths["context"]:
        raise InputError(
            f"official weights: HyperParameter.arch_param.depth_shared is "
            f"{depths['analysis']}, depth_union {depths['context']}; only networks "
            f"with equal depths can be imported"
        )
    first, kept = (weights[f"analysis.{key}.weight"] for key in ("down.0.0", "out"))
    features = int(first.shape[0])
    if int(kept.shape[0]) != features:
        raise InputError(
            f"official weights: HyperParameter.arch_param.initial_features is "
            f"{features}, inter_features {int(kept.shape[0])}; only networks with "
            f"equal numbers can be imported"
        )
    taken = int(weights["context.down.0.0.weight"].shape[1])
    if taken != 3 * features:
        raise InputError(
            f"official weights: HyperParameter.channels_in is {taken / features:g} "
            f"frames; only networks of 3 frames can be imported"
        )
    if depths["analysis"] > 5:
        raise InputError(
            f"official weights: HyperParameter.arch_param.depth_shared is "
            f"{depths['analysis']}; depths of 1 to 5 can be imported"
        )
    return Architecture(features=features, depth=depths["analysis"])


def _check_shapes(architecture: Architecture, weights: Mapping[str, Tensor]) -> None:
    network = TwoStageNetwork(architecture).state_dict()
    for name in sorted(network.keys() | weights.keys()):
        wanted = tuple(network[name].shape) if name in network else "none"
        got = tuple(weights[name].shape) if name in weights else "none"
        if wanted != got:
            raise InputError(
                f"official weights: {name} (our name) has shape {got}, a network of "
                f"{architecture.features} features and depth {architecture.depth} has "
                f"{wanted}; {_ONLY}"
            )
    for name, value in weights.items():
        if not bool(torch.isfinite(value).all()):
            raise InputError(
                f"official weights: {name} (our name) holds values that are not "
                f"finite; the training diverged or the file is damaged, take another "
                f"model_*.pt"
            )


def disable(
    weights: Mapping[str, Tensor], attributes: Collection[int]
) -> dict[str, Tensor]:
    """Weights that hold some outputs constant, as `disabled_attributes` does.

    Official code then replaces the mean by 0 and its sigma by 0.1, in network units.
    The same comes of a zero weight and a fitting bias, so the graph stays as it is.

    Parameters
    ----------
    weights
        Our names.
    attributes
        Official numbers: 1, 2, 3 for x (rows), y (columns), z. The photons (0) end in a
        sigmoid, which is never 0: they cannot be disabled here.

    Raises
    ------
    InputError
        Another number.
    """
    result = {name: value.clone() for name, value in weights.items()}
    share = (_DISABLED_SIGMA - SIGMA_FLOOR) / 3.0
    biases = {"head_position": 0.0, "head_sigma": math.log(share / (1.0 - share))}
    for attribute in attributes:
        if attribute not in (1, 2, 3):
            raise InputError(
                f"HyperParameter.disabled_attributes holds {attribute}; only 1, 2 and "
                f"3 (x, y, z) can be imported"
            )
        row = _SWAPPED_ROWS["head_position"].index(attribute)
        for head, bias in biases.items():
            result[f"{head}.out.weight"][row] = 0.0
            result[f"{head}.out.bias"][row] = bias
    return result


def mirror(weights: Mapping[str, Tensor], axes: Collection[str]) -> dict[str, Tensor]:
    """Weights of the network that sees every frame mirrored and answers unmirrored.

    For cameras that mirror the image when EM gain is on, where official DECODE mirrors
    the frames before the network. Exact for frames that need no padding: kernels are
    mirrored, and the offset along the axis changes its sign (tanh is odd).

    Parameters
    ----------
    weights
        Our names.
    axes
        "rows" (upside down), "columns" (left to right), or both.
    """
    result = {name: value.clone() for name, value in weights.items()}
    for axis in axes:
        dimension, row = _AXES[axis]
        for name, value in result.items():
            if value.ndim == 4:
                result[name] = value.flip(dimension)
        # Rows of the head: photons, x (columns), y (rows), z.
        result["head_position.out.weight"][row] *= -1
        result["head_position.out.bias"][row] *= -1
    return result
