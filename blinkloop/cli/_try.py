"""What to do next with a model file, for the verbs that end with one."""

from __future__ import annotations

from pathlib import Path

from blinkloop.cli._output import next_step

__all__ = ["next_is_to_try"]


def next_is_to_try(model: str | Path, path: Path) -> None:
    """Say how a model is tried: in the virtual microscope, where that has its PSF.

    Parameters
    ----------
    model
        As the person named it.
    path
        Its file.
    """
    from blinkloop.runtime import read_model

    if read_model(path).card.psf.kind == "spline":
        # The virtual microscope has no measured PSF.
        next_step("blinkloop", "fit", "movie.tif", "-m", model, "-o", "locs.hdf5")
    else:
        next_step("blinkloop", "demo", "-m", model)
