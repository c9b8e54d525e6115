"""Connect a camera of your own: anything with five methods is a frame source.

    python examples/own_camera.py MODEL.onnx FOLDER

Here the camera is a loop that makes noise; put your SDK's calls in its place. The
results are in FOLDER/localizations.zarr, readable while the run goes on.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blinkloop.runtime import (
    Frame,
    LiveStore,
    Pipeline,
    Roi,
    StreamLocalizer,
    read_live_store,
    read_model,
)


class NoiseCamera:
    """50 frames/s of background; `frames` runs on a thread of its own."""

    def __init__(self, height: int = 48, width: int = 64) -> None:
        self.roi = Roi(0, 0, width, height)
        self.dtype = np.dtype(np.uint16)
        self.lost = 0
        self._stop = threading.Event()

    def camera_facts(self) -> Mapping[str, Any]:
        """What the camera knows of itself, as fields of `CameraSettings`."""
        return {"exposure_ms": 20.0}

    def start(self) -> None:
        """Begin the acquisition."""
        self._stop.clear()

    def stop(self) -> None:
        """End it; called from another thread."""
        self._stop.set()

    def frames(self) -> Iterator[Frame]:
        """Yield frames as they come. A jump of the index means lost frames."""
        rng = np.random.default_rng(0)
        started, index = time.perf_counter(), 0
        while not self._stop.wait(0.02):
            expected = np.full((self.roi.height, self.roi.width), 40.0)
            pixels = (100 + rng.poisson(expected)).astype(np.uint16)
            yield Frame(index, time.perf_counter() - started, pixels, self.roi)
            index += 1


def main(model_path: str, folder: str) -> None:
    """Run the camera for 60 frames."""
    model = read_model(model_path)
    store = Path(folder) / "localizations.zarr"
    pipeline = Pipeline(
        NoiseCamera(),
        StreamLocalizer(model),
        sinks=[LiveStore(store)],
        meta={"pixel_size_nm": model.card.pixel_size_nm, "model": model.card.name},
    )
    report = pipeline.run(max_frames=60)
    print(
        f"seen {report.frames_seen} = localized {report.frames_localized} + skipped "
        f"{report.frames_skipped} + lost {report.frames_lost}"
    )
    print(f"{len(read_live_store(store))} localizations in {store}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
