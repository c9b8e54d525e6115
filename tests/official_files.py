"""Files as official DECODE writes them, around the golden 6-feature network.

The layout of the parameters is that of DECODE 0.10 (its `param_run.yaml`); the numbers
are ours. Importable as `official_files` because pytest puts the folder of `conftest.py`
on the path.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from torch import Tensor

__all__ = ["OURS", "golden_network", "make_parameters", "write_official"]

OURS = [0, 1, 3, 2, 4, 5, 7, 6, 8, 9]
"""Official channel of each of our maps: official x, along rows, is our y."""


def golden_network() -> tuple[
    dict[str, Tensor], npt.NDArray[np.float32], npt.NDArray[np.float32]
]:
    """Official state dict, input (2, 3, H, W) and output (2, 10, H, W), scaled."""
    path = Path(__file__).parent / "golden" / "decode_net_f6.npz"
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    state = {k[3:]: torch.from_numpy(v) for k, v in arrays.items() if k[:3] == "sd/"}
    return state, arrays["x"], arrays["y"]


def make_parameters(**changes: Any) -> dict[str, Any]:
    """Parameters as DECODE saves them; `Camera__qe=0.5` changes one, `...` drops it."""
    facts: dict[str, Any] = {
        "CameraPreset": None,
        "Camera": {
            "baseline": 398.6,
            "convert2photons": True,
            "e_per_adu": 5.0,
            "em_gain": 100.0,
            "mirror_dim": None,
            "px_size": [100.0, 100.0],
            "qe": 0.9,
            "read_sigma": 58.8,
            "spur_noise": 0.0015,
        },
        "Hardware": {"device": "cuda:0"},
        "HyperParameter": {
            "arch_param": {
                "activation": "ELU",
                "depth": None,
                "depth_shared": 2,
                "depth_union": 2,
                "initial_features": 6,
                "inter_features": 6,
                "norm": None,
                "norm_head": None,
                "p_dropout": None,
                "pool_mode": "StrideConv",
                "upsample_mode": "nearest",
            },
            "architecture": "SigmaMUNet",
            "channels_in": 3,
            "disabled_attributes": None,
            "emitter_label_photon_min": 100.0,
        },
        "InOut": {"calibration_file": "C:\\data\\beads\\stack_3dcal.mat"},
        "Meta": {"version": "v0.10.0"},
        "PostProcessing": "SpatialIntegration",
        "PostProcessingParam": {"raw_th": 0.5},
        "Scaling": {
            "input_scale": 140.0,
            "input_offset": 110.0,
            "bg_max": 240.0,
            "phot_max": 31000.0,
            "z_max": 960.0,
        },
        "Simulation": {
            "bg_uniform": [20.0, 200.0],
            "density": None,
            "emitter_av": 25,
            "emitter_extent": [[-0.5, 39.5], [-0.5, 39.5], [-700, 800]],
            "img_size": [40, 40],
            "intensity_mu_sig": [7000.0, 3000.0],
            "lifetime_avg": 1.5,
            "psf_extent": [[-0.5, 39.5], [-0.5, 39.5], None],
            "xy_unit": "px",
        },
    }
    for key, value in changes.items():
        *sections, name = key.split("__")
        inner = facts
        for section in sections:
            inner = inner[section]
        if value is ...:
            del inner[name]
        else:
            inner[name] = value
    return facts


def write_official(
    folder: Path, parameters: dict[str, Any] | None = None, *, suffix: str = ".yaml"
) -> Path:
    """Write `model_2.pt` and `param_run` into a folder; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(golden_network()[0], folder / "model_2.pt")
    facts = make_parameters() if parameters is None else parameters
    text = json.dumps(facts) if suffix == ".json" else yaml.safe_dump(facts)
    (folder / f"param_run{suffix}").write_text(text)
    return folder
