"""Networks of official DECODE: their files read, never run, and mapped to ours.

`checkpoint` reads the weights, `parameters` the parameter file, `weights` gives the
weights our names and axes, `card` makes the model card. Facts about the files are from
release/0.10 and the tags v0.9 to v0.9.4 of https://github.com/TuragaLab/DECODE (commit
80d2abb); docs/import-decode.md has the table.
"""

from __future__ import annotations

from blinkloop.training.official.card import card_from_official, mirrored_axes
from blinkloop.training.official.checkpoint import read_state
from blinkloop.training.official.folder import OfficialFiles, find_files
from blinkloop.training.official.parameters import OfficialParameters, read_parameters
from blinkloop.training.official.weights import disable, from_official, mirror

__all__ = [
    "OfficialFiles",
    "OfficialParameters",
    "card_from_official",
    "disable",
    "find_files",
    "from_official",
    "mirror",
    "mirrored_axes",
    "read_parameters",
    "read_state",
]
