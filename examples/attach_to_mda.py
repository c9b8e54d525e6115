"""Localize every MDA of a core: napari-micromanager, pymmcore-gui or a script.

In the GUI's console, with its own core:

    from attach_to_mda import LiveLocalizer
    live = LiveLocalizer(CMMCorePlus.instance(), "MODEL.onnx", "FOLDER")
    ...                     # run MDAs as always; results appear in FOLDER/run-001 ...
    live.close()

Here, without a GUI: one MDA on the demo camera.

    python examples/attach_to_mda.py MODEL.onnx FOLDER
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

from blinkloop.integrations.micromanager import MdaSource, open_core
from blinkloop.runtime import (
    LiveStore,
    Pipeline,
    PipelineSettings,
    RunReport,
    StreamLocalizer,
    read_model,
)


class LiveLocalizer:
    """Starts a run with every MDA; the MDA never waits for it."""

    def __init__(self, core: Any, model_path: str, folder: str) -> None:
        self._core, self._folder = core, Path(folder)
        self._model = read_model(Path(model_path))
        self._threads: list[threading.Thread] = []
        self.reports: list[RunReport] = []
        core.mda.events.sequenceStarted.connect(self._on_started)

    def close(self) -> None:
        """Attach to no further MDA, and wait for the runs that are not done."""
        self._core.mda.events.sequenceStarted.disconnect(self._on_started)
        for thread in self._threads:
            thread.join()

    def _on_started(self, sequence: Any, meta: Any = None) -> None:
        # Listen at once; frames wait in memory while the model is loaded.
        source = MdaSource(self._core)
        source.start()
        number = len(self._threads) + 1
        thread = threading.Thread(target=self._run, args=(source, number))
        self._threads.append(thread)
        thread.start()

    def _run(self, source: MdaSource, number: int) -> None:
        store = self._folder / f"run-{number:03}" / "localizations.zarr"
        store.parent.mkdir(parents=True)
        pipeline = Pipeline(
            source,
            StreamLocalizer(self._model),
            sinks=[LiveStore(store)],
            meta={"pixel_size_nm": self._model.card.pixel_size_nm},
            # An MDA may pause for as long as it likes.
            settings=PipelineSettings(stall_abort_s=None),
        )
        self.reports.append(pipeline.run())


def main(model_path: str, folder: str) -> None:
    """One MDA of 60 frames on the demo camera."""
    from useq import MDASequence

    core = open_core()
    core.setProperty("Camera", "PixelType", "16bit")
    core.setROI(0, 0, 96, 64)
    core.setExposure(10.0)
    core.mda.engine.use_hardware_sequencing = True
    live = LiveLocalizer(core, model_path, folder)
    core.mda.run(MDASequence(time_plan={"interval": 0, "loops": 60}))
    live.close()
    (report,) = live.reports
    print(
        f"seen {report.frames_seen} = localized {report.frames_localized} + skipped "
        f"{report.frames_skipped} + lost {report.frames_lost}"
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
