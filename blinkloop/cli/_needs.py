"""Are all packages here that a live run will need? Asked before anything is opened.

A run that finds out one after the other what is missing, the last of it when the camera
runs, is no use at a microscope.
"""

from __future__ import annotations

from blinkloop.errors import InputError
from blinkloop.extras import installed

__all__ = ["check_needs"]

_FILES = (("zarr", "io"), ("h5py", "io"), ("yaml", "io"))


def check_needs(verb: str, *more: tuple[str, str], backend: str = "auto") -> None:
    """Say in one line what is missing.

    Parameters
    ----------
    verb
        Whose needs.
    more
        (import name, extra) of what it needs besides network and files.
    backend
        As the person chose it; one that was named says itself what it lacks.

    Raises
    ------
    InputError
        With one command that installs everything.
    """
    from blinkloop.runtime.backends import backend_table

    missing = [(name, extra) for name, extra in more if not installed(name)]
    if backend == "auto" and not any(row.available for row in backend_table()):
        missing.append(("onnxruntime", "cpu"))
    missing += [(name, extra) for name, extra in _FILES if not installed(name)]
    if not missing:
        return
    names = list(dict.fromkeys(repr(name) for name, _ in missing))
    extras = sorted({extra for _, extra in missing})
    more_than_one = len(names) > 1
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if more_than_one else names[0]
    raise InputError(
        f"`blinkloop {verb}` needs the package{'s' * more_than_one} {listed}, which "
        f"{'are' if more_than_one else 'is'} not installed; install "
        f"{'them' if more_than_one else 'it'} with: "
        f'pip install "blinkloop[{",".join(extras)}]"'
    )
