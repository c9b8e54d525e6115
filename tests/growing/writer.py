"""Another program: writes a movie at about 100 frames/s, then the marker file.

python writer.py KIND PATH FRAMES MARKER SEEN

Frame k is k + 1 in every pixel, so a frame of which only a part was there shows. Half
way it waits until the reader has made the file SEEN, however slow the machine is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

HEIGHT, WIDTH, PERIOD_S = 33, 47, 0.01


def frame(k: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH), k + 1, np.uint16)


def wait_for_the_reader() -> None:
    until = time.monotonic() + 240
    while not Path(sys.argv[5]).exists():
        if time.monotonic() > until:
            sys.exit("nobody reads what is written")
        time.sleep(PERIOD_S)


def paced(frames: int, write: Callable[[int], None]) -> None:
    started = time.perf_counter()
    for k in range(frames):
        if k == frames // 2:
            wait_for_the_reader()
        time.sleep(max(0.0, started + k * PERIOD_S - time.perf_counter()))
        write(k)


def tiff(path: Path, frames: int) -> None:
    import tifffile

    with tifffile.TiffWriter(path) as file:
        paced(frames, lambda k: file.write(frame(k), metadata=None))


def tiff_in_pieces(path: Path, frames: int) -> None:
    """The bytes of a finished TIFF, handed over in pieces that end anywhere."""
    import tifffile

    whole = path.with_suffix(".whole")
    with tifffile.TiffWriter(whole) as file:
        for k in range(frames):
            file.write(frame(k), metadata=None)
    data, rng, at = whole.read_bytes(), np.random.default_rng(5), 0
    mean, waited = len(data) // frames, False
    with path.open("wb", buffering=0) as file:
        while at < len(data):
            if at > len(data) // 2 and not waited:
                wait_for_the_reader()
                waited = True
            piece = int(rng.integers(1, 2 * mean))
            file.write(data[at : at + piece])
            at += piece
            time.sleep(PERIOD_S)


def ndtiff(path: Path, frames: int) -> None:
    from ndstorage import NDTiffDataset

    data = NDTiffDataset(
        path.parent, name=path.name, writable=True, summary_metadata={}
    )
    paced(frames, lambda k: data.put_image({"time": k}, frame(k), {"Exposure": 10.0}))
    data.finish()
    data.close()


def zarr_grows(path: Path, frames: int) -> None:
    import zarr

    array = zarr.create_array(
        path, shape=(0, HEIGHT, WIDTH), chunks=(1, HEIGHT, WIDTH), dtype="uint16"
    )

    def write(k: int) -> None:
        if k in (40, 41, 42):  # frames the writer lost
            return
        array.resize((k + 1, HEIGHT, WIDTH))
        array[k] = frame(k)

    paced(frames, write)


def ome_zarr(path: Path, frames: int) -> None:
    """As pymmcore-plus writes: unbounded time, several frames in each file."""
    from ome_writers import AcquisitionSettings, Dimension, create_stream

    space = {"type": "space", "scale": 0.1, "unit": "micrometer"}
    settings = AcquisitionSettings(
        root_path=str(path),
        dtype="uint16",
        format="tensorstore",
        dimensions=[
            Dimension(
                name="t", count=None, chunk_size=1, shard_size_chunks=16, type="time"
            ),
            Dimension(name="y", count=HEIGHT, chunk_size=HEIGHT, **space),
            Dimension(name="x", count=WIDTH, chunk_size=WIDTH, **space),
        ],
    )
    with create_stream(settings) as stream:
        paced(frames, lambda k: stream.append(frame(k)))


if __name__ == "__main__":
    kind, where, count, marker, _ = sys.argv[1:]
    globals()[kind](Path(where), int(count))
    Path(marker).touch()
