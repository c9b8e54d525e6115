"""Verification passes on what was exported and fails on what was not."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from tiny_networks import make_card

from blinkloop.errors import CheckFailedError, InputError
from blinkloop.export import export_run, raise_if_failed, verify
from blinkloop.export.comparison import Comparison
from blinkloop.export.reference import expected_detections
from blinkloop.schema import (
    CARD_KEY,
    DETECTION_COLUMNS,
    Architecture,
    DetectionSettings,
)
from blinkloop.training.detection import (
    PHYSICAL_CHANNELS,
    detection_scores,
    detection_table,
)
from blinkloop.training.recipe import Recipe

BACKEND = "onnxruntime-cpu"


def changed(exported, tmp_path, change):
    """A copy of the model file with one change."""
    model = onnx.load(exported.path)
    change(model)
    path = tmp_path / "changed.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def damage_weight(name, factor):
    def change(model):
        (tensor,) = (t for t in model.graph.initializer if t.name == name)
        values = onnx.numpy_helper.to_array(tensor).copy()
        values.flat[0] = values.flat[0] * factor + 0.01 * (factor != 1)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))

    return change


def change_provenance(**values):
    def change(model):
        for entry in model.metadata_props:
            if entry.key == CARD_KEY:
                card = json.loads(entry.value)
                card["provenance"].update(values)
                entry.value = json.dumps(card)

    return change


def test_an_exported_model_passes(exported):
    rows = verify(exported.path)
    names = [row.backend for row in rows]
    assert names[0] == "pytorch"
    assert BACKEND in names
    assert all(row.passed and not row.problem for row in rows)
    raise_if_failed(rows, source="model")
    (row,) = (row for row in rows if row.backend == BACKEND)
    sums = {"count_mean", "count_variance", "block_mean"}
    assert row.max_abs_difference.keys() == {*PHYSICAL_CHANNELS, *sums}
    # They are two implementations: identical numbers would be one compared with itself.
    assert 0 < max(row.max_abs_difference.values()) < 1


@pytest.mark.parametrize(
    "name",
    ["network.analysis.base.0.weight", "network.head_position.out.bias"],
)
def test_a_damaged_weight_fails_and_names_the_largest_difference(
    exported, tmp_path, name
):
    path = changed(exported, tmp_path, damage_weight(name, 50.0))
    rows = verify(path, [BACKEND])
    assert not rows[0].passed
    # Both sides of the other comparison have the damage.
    assert rows[1].passed
    with pytest.raises(CheckFailedError, match=r"pytorch: \w+ differs by [\d.e+]+ in"):
        raise_if_failed(rows, source="changed.onnx")


def test_a_weight_that_is_no_number_fails(exported, tmp_path):
    change = damage_weight("network.head_p.out.bias", float("nan"))
    (row,) = verify(changed(exported, tmp_path, change), [])
    assert not row.passed
    assert row.max_abs_difference["p"] == np.inf


def test_a_change_too_small_to_matter_is_still_told(exported, tmp_path):
    def change(model):
        tensor = model.graph.initializer[0]
        values = onnx.numpy_helper.to_array(tensor) * np.float32(1 + 1e-6)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))

    (row,) = verify(changed(exported, tmp_path, change), [])
    assert not row.passed
    assert "not those that were exported" in row.problem


def test_a_changed_constant_of_the_graph_fails_on_the_backend(exported, tmp_path):
    rows = verify(changed(exported, tmp_path, damage_weight("scale", 2.0)), [BACKEND])
    assert [row.passed for row in rows] == [True, False]
    assert rows[1].max_abs_difference["p"] > 0.1
    assert "differs by" in rows[1].problem


def test_a_changed_threshold_of_the_graph_fails_on_the_backend(exported, tmp_path):
    def change(model):
        (tensor,) = (
            t
            for t in model.graph.initializer
            if onnx.numpy_helper.to_array(t).shape == ()
            and abs(onnx.numpy_helper.to_array(t) - DetectionSettings().split) < 1e-6
        )
        lower = np.asarray(0.01, np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(lower, tensor.name))

    rows = verify(changed(exported, tmp_path, change), [BACKEND])
    assert [row.passed for row in rows] == [True, False]
    assert rows[1].detections_added > 0


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"record": {"probe": 1}}, "record in the card is damaged"),
        ({"record": None, "weights_sha256": None}, "holds no record"),
    ],
    ids=["damaged", "missing"],
)
def test_a_record_must_be_there_and_whole(exported, tmp_path, values, problem):
    path = changed(exported, tmp_path, change_provenance(**values))
    (row,) = verify(path, [])
    assert not row.passed
    assert problem in row.problem


def test_missing_weights_and_foreign_files_are_input_errors(exported, tmp_path):
    def drop(model):
        del model.graph.initializer[0]

    with pytest.raises(InputError, match="its architecture wants"):
        verify(changed(exported, tmp_path, drop))

    def strip(model):
        del model.metadata_props[:]

    with pytest.raises(InputError, match="no model card"):
        verify(changed(exported, tmp_path, strip))
    text = tmp_path / "text.onnx"
    text.write_text("no model")
    with pytest.raises(InputError, match="cannot be read"):
        verify(text)
    with pytest.raises(InputError, match="no such model file"):
        verify(tmp_path / "none.onnx")
    with pytest.raises(InputError, match="no backend 'abacus'"):
        verify(exported.path, ["abacus"])


@pytest.fixture
def compared():
    """A card, maps with clear spots, the detections expected, and the table found."""
    card = make_card(Architecture(features=1, depth=1))
    rule = card.detection.model_copy(update={"max_detections": 40})
    card = card.model_copy(update={"detection": rule})
    rng = np.random.default_rng(4)
    maps = rng.uniform(-0.4, 0.4, (3, len(PHYSICAL_CHANNELS), 17, 22))
    maps[:, 1] *= 10000
    maps[:, 4] *= 1000
    maps[:, 0] = 0.001
    maps[:, 0, 1::5, 2::6] = rng.uniform(0.5, 0.9, (3, 4, 4))
    maps = maps.astype(np.float32)
    return card, expected_detections(maps, card), *found_in(maps, card)


def found_in(maps, card):
    """Table and counts of the detection rule itself."""
    tensor = torch.from_numpy(maps)
    scores = detection_scores(tensor[:, 0], card.detection)
    table, counts = detection_table(tensor, scores, card.detection.max_detections)
    return table.numpy(), counts.numpy()


def judge(card, expected, table, counts):
    comparison = Comparison("x", card)
    for frame, want in enumerate(expected):
        comparison.detections(str(frame), table[frame], int(counts[frame]), want)
    return comparison.row()


def test_detections_are_compared_one_by_one(compared):
    card, expected, table, counts = compared
    assert judge(*compared).passed
    shuffled = table.copy()
    for frame, count in enumerate(counts):
        shuffled[frame, :count] = shuffled[frame, :count][::-1]
    assert judge(card, expected, shuffled, counts).passed
    shifts = {"x_px": 0.05, "y_sigma_px": 0.05, "z_nm": 5, "photons": 500, "prob": 0.01}
    for name, shift in shifts.items():
        moved = table.copy()
        moved[2, 1, DETECTION_COLUMNS.index(name)] += shift
        row = judge(card, expected, moved, counts)
        assert not row.passed
        assert (row.detections_lost, row.detections_added) == (1, 1), name
    fewer, table_of_fewer = counts.copy(), table.copy()
    fewer[1] -= 1
    table_of_fewer[1, 0] = table[1, counts[1] - 1]
    row = judge(card, expected, table_of_fewer, fewer)
    assert (row.detections_lost, row.detections_added) == (1, 0)
    more, table_of_more = counts.copy(), table.copy()
    table_of_more[0, more[0]] = table[0, 0] + 1
    more[0] += 1
    row = judge(card, expected, table_of_more, more)
    assert (row.detections_lost, row.detections_added) == (0, 1)
    assert "first in 0" in row.problem


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("rule", ["threshold", "raw_threshold", "tie"])
def test_detections_on_an_edge_may_come_or_go(compared, rule, sign):
    """What two implementations decide differently within the tolerance is no fault."""
    card = compared[0]
    near = sign * 0.4 * card.tolerances.prob
    edge = np.zeros((1, len(PHYSICAL_CHANNELS), 9, 14), np.float32)
    if rule == "threshold":
        edge[0, 0, 4, 7] = card.detection.threshold
    elif rule == "raw_threshold":
        edge[0, 0, 4, 7] = card.detection.raw_threshold
        edge[0, 0, [3, 5, 4, 4], [7, 7, 6, 8]] = 0.08
    else:
        edge[0, 0, 4, 7:9] = 0.4
    one, other, far = edge.copy(), edge.copy(), edge.copy()
    one[0, 0, 4, 7] += near
    other[0, 0, 4, 7] -= near
    far[0, 0, 4, 7] += 20 * near
    expected = expected_detections(one, card)
    assert judge(card, expected, *found_in(one, card)).passed
    assert judge(card, expected, *found_in(other, card)).passed
    assert not judge(
        card, expected_detections(far, card), *found_in(other, card)
    ).passed


def test_a_full_table_may_leave_out_only_the_worst(compared):
    card, expected, table, counts = compared
    rows = 7
    assert judge(card, expected, table[:, :rows], counts).passed
    wrong = table[:, 1 : rows + 1]
    row = judge(card, expected, wrong, counts)
    assert (row.detections_lost, row.detections_added) == (3, 0)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run of one iteration of a network that is tiny in every way."""
    from blinkloop.training.trainer import Trainer

    recipe = Recipe.model_validate(
        {
            "name": "one step",
            "architecture": {"features": 2, "depth": 1},
            "schedule": {"iterations": 1, "batch": 1, "patch_px": 16},
        }
    )
    folder = tmp_path_factory.mktemp("run")
    Trainer(recipe, folder).train(lambda progress: None)
    return folder


def test_a_run_becomes_a_model_and_is_compared_with_it(run_folder, tmp_path):
    path = tmp_path / "run.onnx"
    card = export_run(
        run_folder,
        path,
        detection=DetectionSettings(max_detections=77),
        provenance={"trained_on": "this test"},
    )
    assert card.name == "one step"
    assert card.detection.max_detections == 77
    assert card.provenance["iterations"] == 1
    assert card.provenance["trained_on"] == "this test"
    for run in (run_folder, run_folder / "checkpoint.pt"):
        rows = verify(path, [BACKEND], run=run)
        assert all(row.passed for row in rows)
    # Another run of the same architecture is another network.
    state = torch.load(run_folder / "checkpoint.pt", weights_only=True)
    state["averaged"]["head_sigma.out.bias"] += 0.3
    torch.save(state, tmp_path / "other.pt")
    rows = verify(path, [], run=tmp_path / "other.pt")
    with pytest.raises(CheckFailedError, match=r"_sigma\w* differs by"):
        raise_if_failed(rows, source="run.onnx")


def test_what_is_no_run_is_an_input_error(exported, tmp_path, run_folder):
    with pytest.raises(InputError, match="no checkpoint"):
        export_run(tmp_path, tmp_path / "m.onnx")
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a checkpoint"):
        export_run(tmp_path / "bad.pt", tmp_path / "m.onnx")
    state = torch.load(run_folder / "checkpoint.pt", weights_only=True)
    del state["averaged"]
    torch.save(state, tmp_path / "half.pt")
    with pytest.raises(InputError, match="not a checkpoint"):
        export_run(tmp_path / "half.pt", tmp_path / "m.onnx")
    with pytest.raises(InputError, match="the run that this model was exported from"):
        verify(exported.path, [], run=run_folder)
