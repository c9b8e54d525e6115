"""Import packages of an extra only when a feature asks for them.

Design notes
------------
Knows nothing of what the packages do. `installed` never imports; `require` imports at
the call, so that a module of ours can be imported where the extra is absent.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from blinkloop.errors import MissingExtraError

__all__ = ["installed", "require"]


def installed(module: str) -> bool:
    """Whether a top-level module can be found; it is not imported.

    Parameters
    ----------
    module
        Import name, e.g. ``"tifffile"``. Of ``"a.b"`` only ``a`` is looked for, because
        looking for ``b`` would import ``a``.
    """
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except ValueError:  # already imported by hand, without a __spec__
        return True


def require(module: str, feature: str, extra: str) -> ModuleType:
    """Import a module that an extra of blinkloop brings.

    Parameters
    ----------
    module
        Import name, dotted or not, e.g. ``"tifffile"``.
    feature
        What needs it, as the start of a sentence, e.g. ``"Reading TIFF movies"``.
    extra
        The extra that brings it, e.g. ``"io"``.

    Returns
    -------
    types.ModuleType
        The imported module.

    Raises
    ------
    MissingExtraError
        When the package is not installed. A package that is installed but fails to
        import raises its own error: installing it again would not help.
    """
    package = module.partition(".")[0]
    if not installed(package):
        raise MissingExtraError(feature, package, extra)
    return importlib.import_module(module)
