"""The TensorRT backend on a GPU that is not there (`fake_tensorrt`).

What is compared is the backend's own work: files, memory, segments, splitting, copies.
That an engine computes what its graph says cannot be tested without a GPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("onnxruntime", reason="needs the extra 'cpu'")
from fake_tensorrt import GPU, FakeDevice, FakeTensorRt
from file_graph import FileGraph

import blinkloop.runtime.backends.tensorrt_engine as tensorrt_engine
from blinkloop.cuda_driver import Gpu
from blinkloop.engine_file import (
    EngineHeader,
    SizeRange,
    engine_file_bytes,
    platform_name,
    read_engine,
    read_engine_header,
)
from blinkloop.engine_kinds import engine_kind
from blinkloop.errors import DeviceError, InputError
from blinkloop.runtime import StreamLocalizer
from blinkloop.runtime.backends import create_backend
from blinkloop.runtime.backends.tensorrt import TensorRtBackend
from blinkloop.runtime.backends.tensorrt_plan import (
    ALIGNMENT_BYTES,
    call_plan,
    split_calls,
)
from blinkloop.runtime.camera_maps import CameraMaps, make_camera_maps
from blinkloop.runtime.model import ModelFile, read_model
from blinkloop.runtime.protocols import BackendOutput
from blinkloop.runtime.records import Frame

RTX = engine_kind("tensorrt-rtx")
VERSION = FakeTensorRt.__version__


@pytest.fixture(autouse=True)
def own_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache of its own, and the version that the fake module says."""
    monkeypatch.setenv("BLINKLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tensorrt_engine, "_installed_version", lambda kind: VERSION)


def write_engine_file(
    path: Path, model: ModelFile, engine: bytes | None = None, **changes: Any
) -> ModelFile:
    """An engine file whose engine is the ONNX file itself."""
    content = model.path.read_bytes() if engine is None else engine
    values: dict[str, Any] = {
        "kind": "tensorrt-rtx",
        "builder_version": VERSION,
        "blinkloop_version": "0",
        "platform": platform_name(),
        "compute_capabilities": ("8.6", "8.9"),
        "onnx_sha256": model.sha256,
        "graph_flavour": 1,
        "precision": ("float32",),
        "tf32": False,
        "sizes": SizeRange(
            frames=(1, 2, 4), height_px=(8, 16, 40), width_px=(8, 16, 50)
        ),
        "key": "0" * 64,
        "engine_bytes": len(content),
        "engine_sha256": hashlib.sha256(content).hexdigest(),
        "card": model.card,
    }
    header = EngineHeader(**{**values, **changes})
    path.write_bytes(engine_file_bytes(header, content))
    return read_model(path)


@pytest.fixture
def engine(tiny_model: ModelFile, tmp_path: Path) -> ModelFile:
    return write_engine_file(tmp_path / "tiny.rtx", tiny_model)


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


Backends = tuple[TensorRtBackend, Any]


@pytest.fixture
def pair(
    engine: ModelFile, tiny_model: ModelFile, device: FakeDevice
) -> Iterator[Backends]:
    """The backend, and the reference; closing must give back all memory."""
    maps = make_camera_maps(tiny_model.card.camera)
    ours = TensorRtBackend(engine, maps, module=FakeTensorRt(device), device=device)
    reference = FileGraph(tiny_model, maps, threads=1)
    yield ours, reference
    ours.close()
    reference.close()
    assert device.closed
    ours.close()


def movie(count: int, height: int = 13, width: int = 21, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    frames = rng.poisson(140, (count, height, width)).astype(np.float32)
    spots = rng.random(frames.shape) < 0.02
    return frames + np.float32(1500) * spots


def assert_same(got: BackendOutput, expected: BackendOutput, *, start: bool) -> None:
    rows = slice(int(start), None)
    for name in BackendOutput.__slots__:
        ours, theirs = getattr(got, name), getattr(expected, name)
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(
            ours[rows], theirs[rows], rtol=1e-4, atol=1e-4, err_msg=name
        )


def feed(pair: Backends, frames: np.ndarray, chunks: list[int]) -> None:
    """Both backends in the same chunks; compares every step."""
    ours, reference = pair
    first = 0
    for count in chunks:
        part = frames[first : first + count]
        start = first == 0
        got = ours.step(part, segment_start=start)
        assert_same(got, reference.step(part, segment_start=start), start=start)
        first += count


def test_steps_of_all_lengths(pair: Backends, device: FakeDevice) -> None:
    chunks = [3, 1, 1, 1, 4, 7, 1, 2, 9, 1]
    feed(pair, movie(sum(chunks)), chunks)
    # From the third call of a length and direction on, recorded graphs are launched.
    assert device.launches > 3


def test_segments_sizes_and_regions_change(pair: Backends) -> None:
    feed(pair, movie(6), [2, 4])
    feed(pair, movie(4, 40, 9, seed=1), [1, 3])
    feed(pair, movie(3, seed=2), [3])


def test_camera_maps_per_pixel_and_back(pair: Backends) -> None:
    constant = pair[0]._maps
    rng = np.random.default_rng(3)
    offset = constant.offset_adu + rng.uniform(-20, 20, (13, 21)).astype(np.float32)
    gains = constant.photons_per_adu * rng.uniform(0.5, 2, (13, 21)).astype(np.float32)
    for maps in (CameraMaps(offset, gains), constant, CameraMaps(offset + 5, gains)):
        for backend in pair:
            backend.set_camera(maps)
        feed(pair, movie(5), [2, 2, 1])


def test_maps_in_the_middle_of_a_segment(pair: Backends) -> None:
    constant = pair[0]._maps
    frames = movie(8)
    for backend in pair:
        backend.step(frames[:3], segment_start=True)
        ramp = np.arange(13 * 21, dtype=np.float32).reshape(13, 21) / 50
        backend.set_camera(
            CameraMaps(constant.offset_adu + ramp, constant.photons_per_adu)
        )
    got, expected = (b.step(frames[3:], segment_start=False) for b in pair)
    assert_same(got, expected, start=False)


def test_outputs_survive_the_next_step(pair: Backends) -> None:
    ours, _ = pair
    frames = movie(6)
    first = ours.step(frames[:2], segment_start=True)
    kept = {name: getattr(first, name).copy() for name in BackendOutput.__slots__}
    for _ in range(4):
        ours.step(frames[2:4] * 2, segment_start=False)
    for name, values in kept.items():
        np.testing.assert_array_equal(getattr(first, name), values)


@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize("before", [2, 3])  # the features end in either buffer
def test_channel_maps_and_that_they_change_nothing(
    pair: Backends, start: bool, before: int
) -> None:
    frames = movie(8)
    for backend in pair:
        backend.step(frames[:before], segment_start=True)
    got, expected = (b.maps(frames[3:6], segment_start=start) for b in pair)
    assert got.shape == (3, 10, 13, 21)
    np.testing.assert_allclose(got[start:], expected[start:], rtol=1e-4, atol=1e-4)
    got, expected = (b.step(frames[3:], segment_start=False) for b in pair)
    assert_same(got, expected, start=False)


def test_localizer_on_an_engine_file(
    engine: ModelFile,
    tiny_model: ModelFile,
    device: FakeDevice,
    make_movie: Callable[..., list[Frame]],
) -> None:
    frames = make_movie([*range(9), *range(12, 17)])
    maps = make_camera_maps(tiny_model.card.camera)
    backend = TensorRtBackend(engine, maps, module=FakeTensorRt(device), device=device)
    results = []
    for localizer in (
        StreamLocalizer(engine, backend),
        StreamLocalizer(tiny_model, "onnxruntime-cpu", threads=1),
    ):
        found = [*localizer.push(frames[:6]), *localizer.push(frames[6:])]
        found += localizer.flush()
        localizer.close()
        results.append(found)
    assert [r.index for r in results[0]] == [f.index for f in frames]
    for ours, theirs in zip(*results, strict=True):
        assert len(ours.localizations) == len(theirs.localizations)
        for name in ("x_px", "y_px", "photons", "prob"):
            np.testing.assert_allclose(
                ours.localizations[name], theirs.localizations[name], rtol=1e-3
            )
    assert device.closed


@pytest.mark.parametrize("what", ["context", "device"])
def test_without_recording(pair: Backends, device: FakeDevice, what: str) -> None:
    if what == "context":
        pair[0]._engine._trt.capturable = False
    else:
        device.recordable = False
    feed(pair, movie(9), [1] * 9)
    assert device.launches == 0


def test_threshold(
    engine: ModelFile, tiny_model: ModelFile, device: FakeDevice
) -> None:
    maps = make_camera_maps(tiny_model.card.camera)
    module = FakeTensorRt(device)
    backend = TensorRtBackend(engine, maps, threshold=0.9, module=module, device=device)
    other = FileGraph(tiny_model, maps, threshold=0.9)
    feed((backend, other), movie(4), [4])
    backend.close()


def test_a_failing_launch(pair: Backends) -> None:
    ours, _ = pair
    frames = movie(4)
    ours.step(frames, segment_start=True)
    ours._engine._trt.fails = True
    with pytest.raises(DeviceError, match="failed on 4 frames of 21 x 13") as caught:
        ours.step(frames, segment_start=False)
    assert "the launch failed" in str(caught.value)
    assert "\n" not in str(caught.value)
    ours._engine._trt.fails = False
    with pytest.raises(ValueError, match="no segment"):
        ours.step(frames, segment_start=False)
    feed(pair, frames, [4])


def test_misuse(pair: Backends) -> None:
    ours, _ = pair
    frames = movie(5)
    with pytest.raises(ValueError, match="no segment"):
        ours.step(frames, segment_start=False)
    for wrong in (frames[0], frames[:0]):
        with pytest.raises(ValueError, match=r"\(T, H, W\)"):
            ours.step(wrong, segment_start=True)
    with pytest.raises(ValueError, match="takes 4 in a call"):
        ours.maps(frames)
    wrong = np.ones((3, 2), np.float32)
    ours.set_camera(CameraMaps(wrong, wrong))
    with pytest.raises(DeviceError, match="offset_adu is"):
        ours.step(frames, segment_start=True)
    ours.close()
    with pytest.raises(ValueError, match="closed"):
        ours.step(frames, segment_start=True)


@pytest.mark.parametrize("shape", [(7, 21), (13, 51), (41, 21)])
def test_frames_outside_of_the_range(pair: Backends, shape: tuple[int, int]) -> None:
    ours, _ = pair
    feed(pair, movie(3), [3])
    size = f"{shape[0]} x {shape[1]}"
    with pytest.raises(InputError, match=f"frames of {size} px.* 8 x 8 to 40 x 50 px"):
        ours.step(movie(2, *shape), segment_start=True)
    # What was open before goes on.
    ours.step(movie(1), segment_start=False)


def test_kernels_are_kept(engine: ModelFile, tiny_model: ModelFile) -> None:
    maps = make_camera_maps(tiny_model.card.camera)
    read = []
    for gpu in (GPU, GPU, Gpu(GPU.name, GPU.compute_capability, 12080)):
        device = FakeDevice(gpu)
        module = FakeTensorRt(device)
        TensorRtBackend(engine, maps, module=module, device=device).close()
        read.append(module.kernels_read)
    # Another driver compiles anew.
    assert read == [None, b"compiled kernels", None]


def test_the_other_module(
    tiny_model: ModelFile, tmp_path: Path, device: FakeDevice
) -> None:
    file = write_engine_file(
        tmp_path / "tiny.trt", tiny_model, kind="tensorrt", gpu=GPU.name
    )
    maps = make_camera_maps(tiny_model.card.camera)
    module = FakeTensorRt(device, rtx=False)
    ours = TensorRtBackend(file, maps, kind="tensorrt", module=module, device=device)
    assert ours.name == "tensorrt"
    reference = FileGraph(tiny_model, maps, threads=1)
    feed((ours, reference), movie(6), [2, 2, 2])
    ours.close()


# --- which engine, and whether it can be used ---


def test_engine_beside_the_model_then_in_the_cache(
    tiny_models: dict[str, ModelFile], tmp_path: Path
) -> None:
    source = tiny_models["full"]
    copy = tmp_path / "model.onnx"
    copy.write_bytes(source.path.read_bytes())
    model = read_model(copy)
    with pytest.raises(InputError, match="has no tensorrt-rtx engine") as caught:
        tensorrt_engine.find_engine(model, RTX)
    command = f"export {copy} --engine tensorrt-rtx -o {copy.with_suffix('.rtx')}"
    assert command in str(caught.value)
    folder = tmp_path / "cache" / "engines" / model.sha256[:32]
    folder.mkdir(parents=True)
    write_engine_file(folder / "old.rtx", model, builder_version="1.0")
    (folder / "broken.rtx").write_bytes(b"x")
    with pytest.raises(InputError, match="has no tensorrt-rtx engine"):
        tensorrt_engine.find_engine(model, RTX)
    write_engine_file(folder / "good.rtx", model)
    assert tensorrt_engine.find_engine(model, RTX) == folder / "good.rtx"
    write_engine_file(tmp_path / "model.rtx", model)
    assert tensorrt_engine.find_engine(model, RTX) == tmp_path / "model.rtx"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"onnx_sha256": "ab" * 32}, "stale, .* abababababab", id="stale"),
        pytest.param(
            {"builder_version": "1.2.0"}, r"tensorrt_rtx 1\.2\.0, here is", id="version"
        ),
        pytest.param({"kind": "tensorrt"}, "is a tensorrt engine, the", id="kind"),
    ],
)
def test_refused_beside_the_model(
    tiny_models: dict[str, ModelFile],
    tmp_path: Path,
    changes: dict[str, Any],
    message: str,
) -> None:
    copy = tmp_path / "model.onnx"
    copy.write_bytes(tiny_models["full"].path.read_bytes())
    model = read_model(copy)
    write_engine_file(tmp_path / "model.rtx", model, **changes)
    with pytest.raises(InputError, match=message) as caught:
        tensorrt_engine.find_engine(model, RTX)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "model.rtx") in str(caught.value)


def test_classic_engines_serve_one_system(
    tiny_models: dict[str, ModelFile], tmp_path: Path
) -> None:
    path = tmp_path / "m.trt"
    write_engine_file(
        path, tiny_models["full"], kind="tensorrt", platform="win32-amd64"
    )
    header = read_engine_header(path)
    with pytest.raises(InputError, match="was built on win32-amd64, this is"):
        tensorrt_engine.check_header(path, header, engine_kind("tensorrt"))
    # TensorRT for RTX: "portable to both Windows and Linux" (NVIDIA's documentation).
    rtx = header.model_copy(update={"kind": "tensorrt-rtx"})
    tensorrt_engine.check_header(path, rtx, RTX)


@pytest.mark.parametrize(
    ("kind", "gpu", "message"),
    [
        ("tensorrt-rtx", Gpu("H200", "9.0", 13000), "8.6, 8.9, the H200 here has 9.0"),
        ("tensorrt", Gpu("Other", "8.9", 13000), "was built on a Fake RTX 4090, here"),
    ],
)
def test_refused_on_another_gpu(
    tiny_models: dict[str, ModelFile], tmp_path: Path, kind: str, gpu: Gpu, message: str
) -> None:
    model = tiny_models["full"]
    path = tmp_path / f"m{engine_kind(kind).suffix}"
    file = write_engine_file(path, model, kind=kind, gpu=GPU.name)
    device = FakeDevice(gpu)
    maps = make_camera_maps(model.card.camera)
    with pytest.raises(InputError, match=message) as caught:
        TensorRtBackend(
            file, maps, kind=kind, module=FakeTensorRt(device), device=device
        )
    assert "\n" not in str(caught.value)
    assert device.closed


def test_an_engine_tensorrt_refuses(
    tiny_models: dict[str, ModelFile], tmp_path: Path, device: FakeDevice
) -> None:
    model = tiny_models["full"]
    file = write_engine_file(tmp_path / "m.rtx", model, b"no engine at all")
    maps = make_camera_maps(model.card.camera)
    module = FakeTensorRt(device)
    with pytest.raises(InputError, match="cannot load this engine") as caught:
        TensorRtBackend(file, maps, module=module, device=device)
    assert "\n" not in str(caught.value)
    assert device.closed


def test_the_real_module_refuses_too(
    tiny_models: dict[str, ModelFile], tmp_path: Path, device: FakeDevice
) -> None:
    """Bytes that are no engine, through TensorRT itself, with a GPU or without."""
    trt = pytest.importorskip("tensorrt_rtx", reason="needs the extra 'rtx'")
    model = tiny_models["full"]
    file = write_engine_file(tmp_path / "m.rtx", model, b"no engine at all" * 64)
    maps = make_camera_maps(model.card.camera)
    with pytest.raises(InputError, match=r"tensorrt_rtx .* cannot load this") as caught:
        TensorRtBackend(file, maps, module=trt, device=device)
    assert "\n" not in str(caught.value)


def test_an_engine_of_another_graph(
    tiny_models: dict[str, ModelFile], tmp_path: Path, device: FakeDevice
) -> None:
    full, half = tiny_models["full"], tiny_models["half"]
    rows = full.card.detection.model_copy(update={"max_detections": 7})
    card = full.card.model_copy(update={"detection": rows})
    file = write_engine_file(tmp_path / "m.rtx", replace(half, card=card))
    maps = make_camera_maps(card.camera)
    with pytest.raises(InputError, match="not a blinkloop streaming graph"):
        TensorRtBackend(file, maps, module=FakeTensorRt(device), device=device)


# --- the table ---


def test_the_table_knows_engines(
    engine: ModelFile, tiny_models: dict[str, ModelFile]
) -> None:
    maps = make_camera_maps(engine.card.camera)
    with pytest.raises(InputError, match="is an engine of the backend 'tensorrt-rtx'"):
        create_backend("onnxruntime-cpu", engine, maps)
    # Nobody builds engines unasked: a model without one goes to the next backend.
    backend = create_backend("auto", tiny_models["full"], maps)
    assert backend.name not in ("tensorrt", "tensorrt-rtx")
    backend.close()


def test_auto_says_what_an_engine_needs(
    engine: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    import blinkloop.runtime.backends.table as table

    entries = [
        replace(entry, missing=lambda: "this machine has no GPU")
        if entry.engine
        else entry
        for entry in table._ENTRIES
    ]
    monkeypatch.setattr(table, "_ENTRIES", tuple(entries))
    monkeypatch.setattr(table, "installed", lambda package: True)
    maps = make_camera_maps(engine.card.camera)
    with pytest.raises(InputError, match=r"'tensorrt-rtx' cannot be used.* no GPU"):
        create_backend("auto", engine, maps)


def test_the_model_of_an_engine_file(engine: ModelFile, tiny_model: ModelFile) -> None:
    assert engine.card == tiny_model.card
    assert engine.sha256 == tiny_model.sha256
    header, content = read_engine(engine.path)
    assert content == tiny_model.path.read_bytes()
    assert header.engine_bytes == len(content)


# --- plans ---


@given(count=st.integers(1, 500), most=st.integers(1, 130))
def test_split_calls(count: int, most: int) -> None:
    calls = split_calls(count, most)
    assert sum(calls) == count
    assert max(calls) <= most
    assert all(n & (n - 1) == 0 for n in calls)
    assert calls == sorted(calls, reverse=True)
    # No more calls than needed: at most one of each shorter length.
    shorter = [n for n in calls if n < max(calls)]
    assert len(set(shorter)) == len(shorter)


@given(
    frames=st.integers(1, 9),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
)
def test_plan(
    tiny_models: dict[str, ModelFile], frames: int, height: int, width: int
) -> None:
    card = tiny_models["half"].card
    plan = call_plan(card, frames, height, width)
    assert plan.upload.slots["frames"].shape == (frames, height, width)
    rows = -(-height // 8), -(-width // 8)
    assert plan.download.slots["block_mean"].shape == (frames, *rows)
    assert plan.features[2:] == card.architecture.feature_size(height, width)
    for block in (plan.upload, plan.download):
        end = 0
        for slot in block.slots.values():
            assert slot.offset % ALIGNMENT_BYTES == 0
            assert slot.offset >= end
            end = slot.offset + slot.nbytes
        assert end <= block.nbytes
    memory = np.zeros(plan.download.nbytes, np.uint8)
    views = plan.download.views(memory)
    for number, view in enumerate(views.values()):
        view[...] = number + 1
    for number, view in enumerate(views.values()):
        assert np.all(view == number + 1)
