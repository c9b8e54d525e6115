"""Tables as long as the fullest frame needs, against the table of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import blinkloop
from blinkloop.runtime.onnx_rows import rows_as_needed

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

ROWS = 6
BUNDLED = Path(blinkloop.__file__).parent / "models"


def table_graph(**changes: Any) -> bytes:
    """Scores (T, P) -> the best `ROWS` with their places; `changes` make it another."""
    make = onnx.helper.make_node
    pads, length = [0, 0, 0, ROWS], [ROWS]
    nodes = [
        make("Greater", ["scores", "zero"], ["found"]),
        make(
            "Pad", ["scores", "pads"], ["padded"], mode=changes.get("mode", "constant")
        ),
        make(
            "TopK",
            ["padded", "length"],
            ["best", "where"],
            axis=changes.get("axis", 1),
            largest=changes.get("largest", 1),
        ),
        make("Unsqueeze", ["best", "last"], ["column"]),
        make("Cast", ["where"], ["place"], to=onnx.TensorProto.FLOAT),
        make("Unsqueeze", ["place", "last"], ["other"]),
        make("Concat", ["column", "other"], ["detections"], axis=2),
        make("Cast", ["found"], ["whole"], to=onnx.TensorProto.INT64),
        make("ReduceSum", ["whole", "one"], ["counts"], keepdims=0),
        *changes.get("nodes", []),
    ]
    whole = {
        "pads": changes.get("pads", pads),
        "length": changes.get("length", length),
        "last": [2],
        "one": [1],
    }
    real, port = onnx.TensorProto.FLOAT, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "table",
        [port("scores", real, ["t", "pixels"])],
        [
            port("detections", real, ["t", ROWS, 2]),
            port("counts", onnx.TensorProto.INT64, ["t"]),
            *changes.get("outputs", []),
        ],
        [
            *(
                onnx.numpy_helper.from_array(np.array(value, np.int64), name)
                for name, value in whole.items()
            ),
            onnx.numpy_helper.from_array(np.float32(0), "zero"),
        ],
        value_info=[port("column", real, ["t", ROWS, 1])],
    )
    opset = onnx.helper.make_opsetid("", 18)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def run(content: bytes, scores: npt.NDArray[np.float32]) -> Any:
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(["detections", "counts"], {"scores": scores})


@given(
    found=st.lists(
        st.lists(st.floats(0, 1, width=32), max_size=40), min_size=1, max_size=4
    )
)
@settings(max_examples=40, deadline=None)
def test_all_that_is_found_and_nothing_else(found: list[list[float]]) -> None:
    scores = np.zeros((len(found), 250), np.float32)
    for frame, values in zip(scores, found, strict=True):
        frame[3 : 3 + len(values)] = values
    content, changed = rows_as_needed(table_graph())
    assert changed
    table, counts = run(content, scores)
    before, counts_before = run(table_graph(), scores)
    np.testing.assert_array_equal(counts, counts_before)
    assert table.shape[1] % 16 == 0
    assert counts.max() < table.shape[1] <= counts.max() + 16
    for row, count, frame in zip(table, counts, scores, strict=True):
        assert not row[count:, 0].any()
        np.testing.assert_array_equal(row[:count, 0], np.sort(frame)[::-1][:count])
        np.testing.assert_array_equal(frame[row[:count, 1].astype(int)], row[:count, 0])
    both = min(ROWS, table.shape[1])
    np.testing.assert_array_equal(table[:, :both, 0], before[:, :both, 0])


def test_more_than_the_files_table_holds() -> None:
    scores = np.zeros((1, 250), np.float32)
    scores[0, :40] = np.linspace(0.1, 1, 40)
    (table, counts), (before, _) = (
        run(content, scores)
        for content in (rows_as_needed(table_graph())[0], table_graph())
    )
    assert (counts.tolist(), table.shape, before.shape) == ([40], (1, 48, 2), (1, 6, 2))
    np.testing.assert_array_equal(table[0, :40, 1], np.arange(40)[::-1])


@pytest.mark.parametrize(("pixels", "rows"), [(20, 6), (24, 6), (28, 7), (400, 100)])
def test_the_limit(pixels: int, rows: int) -> None:
    """All pixels found: a row for four, or as many as the file's table has."""
    scores = np.linspace(0.1, 1, pixels, dtype=np.float32)[None]
    table, counts = run(rows_as_needed(table_graph())[0], scores)
    assert (counts.tolist(), table.shape) == ([pixels], (1, rows, 2))
    np.testing.assert_array_equal(table[0, :, 1], np.arange(pixels)[::-1][:rows])


def unlike() -> dict[str, bytes]:
    make = onnx.helper.make_node
    port = onnx.helper.make_tensor_value_info("also", onnx.TensorProto.FLOAT, None)
    return {
        "another axis": table_graph(axis=0),
        "the smallest": table_graph(largest=0),
        "reflected": table_graph(mode="reflect"),
        "fewer zeros": table_graph(pads=[0, 0, 0, ROWS - 1]),
        "zeros before": table_graph(pads=[0, 1, 0, ROWS]),
        "read by another": table_graph(
            nodes=[make("Identity", ["padded"], ["also"])], outputs=[port]
        ),
        "no counts": table_graph().replace(b"counts", b"number"),
        "no graph": b"",
        "damaged": table_graph()[:-7],
    }


@pytest.mark.parametrize("kind", unlike())
def test_other_graphs_stay_as_they_are(kind: str) -> None:
    content = unlike()[kind]
    assert rows_as_needed(content) == (content, False)


def test_counted_from_other_scores() -> None:
    """The table would be too short."""
    model = onnx.load_from_string(table_graph())
    next(n for n in model.graph.node if n.op_type == "Greater").input[0] = "padded"
    content = model.SerializeToString()
    assert rows_as_needed(content) == (content, False)


@pytest.mark.parametrize("file", sorted(BUNDLED.glob("*.onnx")), ids=lambda f: f.stem)
def test_bundled_models(file: Path) -> None:
    content, changed = rows_as_needed(file.read_bytes())
    assert changed
    graph = onnx.load_from_string(content)
    onnx.checker.check_model(graph, full_check=True)
    table = next(port for port in graph.graph.output if port.name == "detections")
    sizes = table.type.tensor_type.shape.dim
    assert [size.dim_value for size in sizes] == [0, 0, 11]
    assert rows_as_needed(content) == (content, False)


@given(cut=st.integers(0, 10**9), byte=st.integers(0, 255))
@settings(max_examples=100, deadline=None)
def test_damaged_messages_are_never_an_error(cut: int, byte: int) -> None:
    content = bytearray(table_graph())
    rows_as_needed(bytes(content[: cut % len(content)]))
    content[cut % len(content)] = byte
    rows_as_needed(bytes(content))
