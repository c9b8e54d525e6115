"""What a run loads of a model file: without what only `verify` reads."""

from __future__ import annotations

from blinkloop.runtime.backends.contract import MAPS
from blinkloop.runtime.onnx_heads import heads_at_detections
from blinkloop.runtime.onnx_outputs import without_output
from blinkloop.runtime.onnx_rows import rows_as_needed
from blinkloop.runtime.onnx_upsampling import convolve_before_upsampling

__all__ = ["lean_graph"]


def lean_graph(content: bytes, *, for_cpu: bool) -> tuple[bytes, tuple[str, ...]]:
    """A streaming graph as it is loaded for a run.

    Parameters
    ----------
    content
        Of the model file.
    for_cpu
        Make the detection table as long as it has to be and compute heads at
        detections only (sizes then differ from call to call), and convolve coarse
        features before they are up-sampled.

    Returns
    -------
    tuple
        The message, and the outputs that were taken out of it.
    """
    content, lean = without_output(content, MAPS)
    if for_cpu:
        content, _ = rows_as_needed(content)
        content, _ = heads_at_detections(content)
        content, _ = convolve_before_upsampling(content)
    return content, (MAPS,) if lean else ()
