"""Which build of ONNX Runtime is installed, found without importing it.

`onnxruntime`, `onnxruntime-gpu` and `onnxruntime-directml` are three packages that
share one import name; what tells them apart are the libraries they bring.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

__all__ = ["provider_library_missing"]


def provider_library_missing(library: str, provider: str, package: str) -> str:
    """Why the installed onnxruntime has no such provider; empty when it has.

    Parameters
    ----------
    library
        File name of the provider's library.
    provider
        What people call it.
    package
        Distribution that brings it.
    """
    found = importlib.util.find_spec("onnxruntime")
    if found is None:
        return f"onnxruntime is not installed: pip install {package}"
    folders = found.submodule_search_locations or []
    if any((Path(folder) / "capi" / library).is_file() for folder in folders):
        return ""
    return (
        f"the onnxruntime installed here is built without {provider}: pip uninstall "
        f"onnxruntime, then pip install {package}"
    )
