"""Weights files of official DECODE, read without executing anything in them."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blinkloop.errors import InputError

__all__ = ["read_state"]

_WRAPPERS = ("model_state", "state_dict", "model_state_dict")
"""Keys under which checkpoints keep the weights; the first is official `ckpt.pt`'s."""
_WRAPPED = re.compile(r"^((module|_orig_mod)\.)+")
"""In front of the names: of parallel, averaged and compiled networks."""
_AVERAGED = "n_averaged"
"""How many steps went into an average (`torch.optim.swa_utils`), beside its weights."""


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a file that `torch.save` wrote, zip or older layout.

    Parameters
    ----------
    path
        `model_*.pt`, or a checkpoint that holds the weights among other things.

    Returns
    -------
    Official name -> tensor, float32 on the CPU.

    Raises
    ------
    InputError
        Missing, damaged, not a state dict, or with objects that only code can load.
    """
    state = _load(path)
    if isinstance(state, Mapping):
        for key in _WRAPPERS:
            if isinstance(state.get(key), Mapping):
                state = state[key]
                break
    if not isinstance(state, Mapping) or not state:
        raise InputError(
            f"{path}: holds no state dict (got {type(state).__name__}); give the "
            f"model_*.pt that DECODE wrote"
        )
    if "recipe" in state and "averaged" in state:
        raise InputError(
            f"{path}: is a checkpoint of blinkloop, not of DECODE; export it without "
            f"--param"
        )
    result: dict[str, Tensor] = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(
                f"{path}: the entry {name!r} is not a tensor but "
                f"{type(value).__name__}, so this is no state dict; give the "
                f"model_*.pt that DECODE wrote"
            )
        if name == _AVERAGED:
            continue
        result[_WRAPPED.sub("", name)] = value.detach().float()
    return result


def _load(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # Of files that are no checkpoints at all; the error below says so.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: there is no such file; give the model_*.pt that DECODE wrote"
        ) from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: cannot be read without running code that may be inside it, and "
            f"blinkloop does not; where you trust it, save its weights alone with "
            f"torch.save(model.state_dict(), 'model.pt') in the Python of DECODE"
        ) from error
    except Exception as error:
        raise InputError(
            f"{path}: not a weights file of PyTorch, or damaged "
            f"({type(error).__name__}); copy it again from where DECODE wrote it"
        ) from error
