"""Engines built for real with TensorRT for RTX, which needs no GPU to build."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorrt_rtx", reason="needs the extra 'rtx'")
pytest.importorskip("onnx", reason="needs the extra 'export'")
import onnx
from built_engine import FULL, HALF, SPEC, Built
from click.testing import CliRunner
from tiny_networks import make_card

import blinkloop.cli.export as verb
import blinkloop.export.engine as engine_module
import blinkloop.export.engine_builder as engine_builder
from blinkloop.cli import main
from blinkloop.cli._bundled import bundled_models
from blinkloop.cuda_driver import Gpu
from blinkloop.engine_file import (
    SizeRange,
    platform_name,
    read_engine,
    read_engine_header,
)
from blinkloop.errors import CheckFailedError, InputError, MissingExtraError
from blinkloop.export.engine import build_engine
from blinkloop.export.engine_graph import check_same_answers, engine_graph, number_types
from blinkloop.export.engine_spec import EngineSpec, engine_spec, profile
from blinkloop.export.model_file import load_model
from blinkloop.schema import Architecture


@pytest.fixture
def no_builder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """The builder replaced by one that notes what it is asked for."""
    asked: list[Any] = []

    def serialize(trt: Any, graph: bytes, shapes: Any, **rest: Any) -> Any:
        asked.append((graph, shapes, rest))
        timing = rest["timing_cache"]
        return b"engine", None if timing is None else timing + b"+"

    monkeypatch.setenv("BLINKLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(engine_module, "serialize_engine", serialize)
    return asked


def test_what_the_file_carries(built: Built) -> None:
    header, engine = read_engine(built.file)
    assert header == built.header
    assert header.card == load_model(FULL)[1]
    assert header.onnx_sha256 == hashlib.sha256(FULL.read_bytes()).hexdigest()
    assert header.kind == "tensorrt-rtx"
    assert header.builder_version == __import__("tensorrt_rtx").__version__
    assert header.sizes == SPEC.sizes
    assert header.compute_capabilities == ("8.6", "8.9")
    assert (header.precision, header.tf32) == (("float32",), False)
    assert (header.platform, header.gpu) == (platform_name(), "")
    # TensorRT's own mark, and its weights: this is an engine and no wrapped ONNX file.
    assert engine[:4] == b"vtrt"
    assert len(engine) > 100_000
    assert built.file.stat().st_mode & 0o444 == 0o444


def test_built_once(built: Built, no_builder: list[Any], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLINKLOOP_CACHE", str(built.cache))
        again = build_engine(FULL, tmp_path / "again.rtx", spec=SPEC)
    assert no_builder == []
    assert again == built.header
    assert (tmp_path / "again.rtx").read_bytes() == built.file.read_bytes()


def test_every_choice_has_its_own_key(
    built: Built, no_builder: list[Any], tmp_path: Path
) -> None:
    changed = tmp_path / "changed.onnx"
    model, _ = load_model(FULL)
    model.doc_string = "another"
    changed.write_bytes(model.SerializeToString())
    larger = SPEC.sizes.model_copy(update={"height_px": (9, 16, 65)})
    keys = {built.header.key}
    for model_file, spec in (
        (changed, SPEC),
        (HALF, SPEC),
        (FULL, replace(SPEC, tf32=True)),
        (FULL, replace(SPEC, sizes=larger)),
        (FULL, replace(SPEC, compute_capabilities=("8.9", "8.6"))),
    ):
        header = build_engine(model_file, tmp_path / "e.rtx", spec=spec)
        keys.add(header.key)
        assert read_engine(tmp_path / "e.rtx")[1] == b"engine"
    assert len(keys) == len(no_builder) + 1 == 6


def test_a_damaged_or_foreign_cached_engine_is_built_again(
    no_builder: list[Any], tmp_path: Path
) -> None:
    out = tmp_path / "e.rtx"
    build_engine(FULL, out, spec=SPEC)
    (cached,) = (tmp_path / "cache").rglob("*.rtx")
    content = cached.read_bytes()
    cached.write_bytes(content[:-1])
    build_engine(FULL, out, spec=SPEC)
    assert len(no_builder) == 2
    assert cached.read_bytes() == content
    # A file of the right name that says it is another.
    other = build_engine(HALF, out, spec=SPEC)
    cached.write_bytes(out.read_bytes())
    header = build_engine(FULL, out, spec=SPEC)
    assert header.key != other.key
    assert len(no_builder) == 4
    build_engine(FULL, out, spec=SPEC, use_cache=False)
    assert len(no_builder) == 5


def test_times_of_layers_are_kept_where_they_are_measured(
    no_builder: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The classic builder, with a GPU that is not there."""
    gpu = Gpu("RTX 4090", "8.9", 13000)
    trt = __import__("tensorrt_rtx")
    monkeypatch.setattr(engine_module, "load_tensorrt", lambda kind, what: trt)
    monkeypatch.setattr(engine_module, "builder_gpu", lambda kind: gpu)
    for model in (FULL, HALF):
        header = build_engine(model, tmp_path / "e.trt", kind="tensorrt", spec=SPEC)
    assert [rest["timing_cache"] for _, _, rest in no_builder] == [b"", b"+"]
    assert (header.gpu, header.compute_capabilities) == ("RTX 4090", ("8.9",))
    gpu = replace(gpu, driver=13010)
    build_engine(FULL, tmp_path / "e.trt", kind="tensorrt", spec=SPEC)
    assert no_builder[-1][2]["timing_cache"] == b""


def test_classic_engines_need_their_package_and_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "e.trt"
    monkeypatch.setattr("blinkloop.extras.installed", lambda m: m != "tensorrt")
    with pytest.raises(MissingExtraError, match=r"pip install \"blinkloop\[tensorrt"):
        build_engine(FULL, out, kind="tensorrt")
    monkeypatch.undo()
    trt = __import__("tensorrt_rtx")
    monkeypatch.setattr(engine_module, "load_tensorrt", lambda kind, what: trt)
    monkeypatch.setattr(engine_builder, "gpu_missing", lambda: "there is none")
    with pytest.raises(InputError, match="on the GPU it will run on, and there is no"):
        build_engine(FULL, out, kind="tensorrt")
    assert not out.exists()


def test_a_module_that_does_not_load(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so\\nis missing')")
    monkeypatch.syspath_prepend(tmp_path)
    message = r"'tensorrt' is installed but does not load \(libnvinfer.so is missing\)"
    with pytest.raises(InputError, match=message):
        build_engine(FULL, tmp_path / "e.trt", kind="tensorrt")


# --- the graph ---


def test_engine_graph_of_a_fresh_export(exported: Any) -> None:
    model, card = load_model(exported.path)
    before = model.SerializeToString()
    graph = engine_graph(model)
    assert model.SerializeToString() == before
    kinds = [node.op_type for node in graph.graph.node]
    assert "Floor" in [node.op_type for node in model.graph.node]
    assert "Floor" not in kinds
    onnx.checker.check_model(graph, full_check=True)
    check_same_answers(model, graph, card)
    # Twice is once: nothing more to rewrite.
    assert engine_graph(graph).SerializeToString() == graph.SerializeToString()


def test_bundled_models_are_rewritten() -> None:
    for name, file in bundled_models().items():
        model, _ = load_model(file)
        kinds = [node.op_type for node in engine_graph(model).graph.node]
        assert "Floor" not in kinds, name


def test_a_wrong_rewriting_is_noticed() -> None:
    model, card = load_model(FULL)
    graph = engine_graph(model)
    (divide,) = [
        n for n in graph.graph.node if n.op_type == "Div" and "Cast" not in n.input[0]
    ][-1:]
    divide.op_type = "Min"  # another place, but one inside the image
    with pytest.raises(CheckFailedError, match="gives another 'detections'"):
        check_same_answers(model, graph, card)


def test_number_types() -> None:
    model, _ = load_model(FULL)
    assert number_types(model) == ("float32",)
    first = next(t for t in model.graph.initializer if t.data_type == 1)
    values = onnx.numpy_helper.to_array(first).astype(np.float16)
    first.CopyFrom(onnx.numpy_helper.from_array(values, first.name))
    assert number_types(model) == ("float16", "float32")


# --- refusals of the builder ---


def test_a_graph_tensorrt_cannot_take(tmp_path: Path) -> None:
    """More rows than a TopK layer fills; also that the limit we state is TensorRT's."""
    model, card = load_model(FULL)
    for rows, fits in ((3840, True), (3841, False)):
        detection = card.detection.model_copy(update={"max_detections": rows})
        large = card.model_copy(update={"detection": detection})
        if fits:
            profile(large, SPEC.sizes)
            continue
        with pytest.raises(InputError, match="--max-detections 3840"):
            profile(large, SPEC.sizes)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.int64 and (values == 2048).any():
            values = np.where(values == 2048, 3841, values)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    file = tmp_path / "rows.onnx"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(CheckFailedError, match=r"3840") as caught:
        build_engine(file, tmp_path / "e.rtx", spec=SPEC, use_cache=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "e.rtx").exists()


def test_gpus_the_builder_does_not_know(tmp_path: Path) -> None:
    spec = replace(SPEC, compute_capabilities=("8.9", "9.0"))
    with pytest.raises(InputError, match=r"compute capability 9\.0; it knows 7\.5"):
        build_engine(FULL, tmp_path / "e.rtx", spec=spec, use_cache=False)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"size": "64"}, "'64' is no size; write height x width"),
        ({"size": "64x64:32x64:99x99"}, "must rise"),
        ({"size": "64x64:99x99"}, "has 2 values"),
        ({"size": "0x5"}, "must rise and lie between 1 and"),
        ({"frames": "1:x:4"}, "'x' is no number"),
        ({"frames": "2:4:8"}, "the least must be 1"),
        ({"frames": "0"}, "must rise"),
        ({"gpus": "sm_89"}, "no list of different compute capabilities"),
        ({"gpus": "8.9,8.9"}, "no list of different"),
    ],
)
def test_texts_that_do_not_read(texts: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        engine_spec(**texts)


def test_texts() -> None:
    assert engine_spec() == EngineSpec()
    spec = engine_spec("64x48:128x96:256x192", "1:4:9", tf32=True, gpus="7.5, 8.6")
    assert spec.sizes.height_px == (64, 128, 256)
    assert spec.sizes.width_px == (48, 96, 192)
    assert spec.sizes.frames == (1, 4, 9)
    assert spec.tf32
    assert spec.compute_capabilities == ("7.5", "8.6")
    assert engine_spec("30x40", "6").sizes == SizeRange(
        frames=(1, 6, 6), height_px=(30, 30, 30), width_px=(40, 40, 40)
    )


def test_profile_pads_as_the_network_does() -> None:
    card = make_card(Architecture(features=5, depth=1, stem_stride=4, kept_features=3))
    shapes = profile(card, SPEC.sizes)
    assert shapes["frames"] == ((1, 9, 7), (2, 16, 32), (4, 64, 96))
    sizes = [card.architecture.feature_size(*s[1:]) for s in shapes["frames"]]
    assert shapes["features_in"] == tuple((2, 3, *size) for size in sizes)
    assert shapes["offset_adu"] == ((1, 1), (1, 1), (64, 96))


# --- the command line ---


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(word) for word in arguments])
    assert "Traceback" not in result.output
    return result.exit_code, result.output


def test_export_engine(no_builder: list[Any], tmp_path: Path) -> None:
    out = tmp_path / "small.rtx"
    words = ("--engine-size", "32x40", "--engine-frames", "1:2:3", "--engine-tf32")
    code, said = run("export", FULL, "--engine", "tensorrt-rtx", "-o", out, *words)
    assert code == 0, said
    assert "32 x 40 to 32 x 40 px (height x width), 1 to 3 frames per call" in said
    header = read_engine_header(out)
    assert header.tf32
    assert header.sizes.frames == (1, 2, 3)
    name = next(iter(bundled_models()))
    code, said = run("export", name, "--engine", "tensorrt-rtx", "-o", out)
    assert code == 0, said
    assert (
        read_engine_header(out).card.name == load_model(bundled_models()[name])[1].name
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--engine-size", "9x9"), "need --engine; give e.g. --engine tensorrt-rtx"),
        (("--engine", "tensorrt-rtx", "--threshold", "0.4"), "is a model file already"),
        (("--engine", "tensorrt"), "a tensorrt engine ends in .trt"),
        (("--engine", "tensorrt-rtx", "--engine-size", "a"), "is no size"),
    ],
)
def test_export_refuses(
    no_builder: list[Any], tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    code, said = run("export", FULL, "-o", tmp_path / "e.rtx", *words)
    assert code == 2
    assert message in " ".join(said.split())
    assert no_builder == []


def test_engine_of_a_run(
    no_builder: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []

    def export(run_folder: Path, file: Path, detection: Any, *rest: Any) -> None:
        asked.append((run_folder, detection))
        file.write_bytes(FULL.read_bytes())

    monkeypatch.setattr(verb, "_export", export)
    folder, out = tmp_path / "run", tmp_path / "e.rtx"
    folder.mkdir()
    words = ("--engine", "tensorrt-rtx", "--threshold", "0.4", "-o", out)
    code, said = run("export", folder, *words)
    assert code == 0, said
    assert asked == [(folder, {"threshold": 0.4})]
    digest = hashlib.sha256((tmp_path / "e.onnx").read_bytes()).hexdigest()
    assert read_engine_header(out).onnx_sha256 == digest


def test_an_engine_is_no_model_file(built: Built, tmp_path: Path) -> None:
    code, said = run("verify", built.file)
    assert code == 2
    assert "is an engine, which holds no graph" in " ".join(said.split())
    out = tmp_path / "e.rtx"
    code, said = run("export", built.file, "--engine", "tensorrt-rtx", "-o", out)
    assert code == 2
    assert "is an engine, which holds no graph" in " ".join(said.split())
    with pytest.raises(InputError, match="is an engine, which holds no graph"):
        build_engine(built.file, tmp_path / "e.rtx")


def test_a_run_does_not_overwrite_a_model(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "e.onnx").write_bytes(FULL.read_bytes())
    code, said = run(
        "export", tmp_path / "run", "--engine", "tensorrt-rtx", "-o", tmp_path / "e.rtx"
    )
    assert code == 2
    assert "exists; build the engine from it" in " ".join(said.split())
