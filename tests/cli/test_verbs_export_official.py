"""`export` of an official DECODE network: from its files to the streaming numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("onnxscript", reason="needs the extra `export`")

import torch
import yaml
from official_files import OURS, golden_network, make_parameters, write_official
from verb_helpers import Verb

from blinkloop.export.streaming import OUTPUT_NAMES, StreamingNetwork
from blinkloop.export.weights import make_network, read_model_weights
from blinkloop.runtime import StreamLocalizer
from blinkloop.runtime.backends import create_backend
from blinkloop.runtime.camera_maps import make_camera_maps
from blinkloop.runtime.model import read_card, read_model
from blinkloop.runtime.records import Frame, Roi
from blinkloop.schema import ModelCard
from blinkloop.training.detection import physical_scale

# Numbers that float32 holds exactly on the way from the golden input to ADU and back.
EXACT = {
    "Camera__baseline": 0.0,
    "Camera__spur_noise": 0.0,
    "Camera__em_gain": None,
    "Camera__e_per_adu": 0.5,
    "Camera__qe": 0.5,
    "Scaling__input_offset": 0.0,
    "Scaling__input_scale": 256.0,
}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """More threads sum in another order; 3e-5 of the golden numbers is rounding."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def to_adu(card: ModelCard, scaled: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Frames in ADU that the model's camera and scaling turn into these inputs."""
    scaling, maps = card.scaling, make_camera_maps(card.camera)
    photons = scaled.astype(np.float64) * scaling.input_scale_photons
    photons = photons + scaling.input_offset_photons
    return (photons / maps.photons_per_adu + maps.offset_adu).astype(np.float32)


def torch_maps(path: Path, adu: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Maps of all frames by the streaming graph, from the weights in the file."""
    weights, card = read_model_weights(path)
    network = make_network(card.architecture, weights, source=str(path))
    module = StreamingNetwork(network, card.scaling, card.detection).eval()
    camera = make_camera_maps(card.camera)
    size = card.architecture.feature_size(*adu.shape[1:])
    with torch.no_grad():
        out = module(
            torch.from_numpy(adu),
            torch.zeros(2, card.architecture.features, *size),
            torch.ones(1),
            torch.from_numpy(camera.offset_adu),
            torch.from_numpy(camera.photons_per_adu),
            torch.tensor([card.detection.threshold]),
        )
    return out[OUTPUT_NAMES.index("maps")].numpy()


def in_network_units(
    card: ModelCard, maps: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    return maps / np.array(physical_scale(card.scaling)).reshape(-1, 1, 1)


@pytest.mark.usefixtures("one_thread")
def test_the_golden_network_through_the_whole_path(good: Verb, tmp_path: Path) -> None:
    """Files of DECODE, one model file, streamed frames: the golden maps to 1e-5."""
    folder = write_official(tmp_path / "run", make_parameters(**EXACT))
    file = tmp_path / "golden.onnx"
    said = good("export", folder, "-o", file)
    assert said.err.splitlines()[-1] == f"next: blinkloop verify {file}"
    card = read_card(file)
    _, frames, expected = golden_network()
    model = read_model(file)
    backend = create_backend(
        "onnxruntime-cpu", model, make_camera_maps(card.camera), threads=1
    )
    for movie, wanted in zip(frames, expected[:, OURS], strict=True):
        adu = to_adu(card, movie)
        got = in_network_units(card, torch_maps(file, adu)[2])
        np.testing.assert_allclose(got, wanted, atol=1e-5, rtol=0)
        # ONNX Runtime sums in an order of its own: 1e-5 holds for the RMS.
        ran = in_network_units(card, backend.maps(adu, segment_start=True)[2])
        rms = np.sqrt(((ran - wanted) ** 2).mean((1, 2)))
        np.testing.assert_array_less(rms, 1e-5)
        np.testing.assert_allclose(ran, wanted, atol=1e-4, rtol=0)
    backend.close()
    rows = good("verify", file, "--json").json
    assert rows
    assert card.provenance["origin"].startswith("DECODE")


def test_a_real_camera_and_the_emitters_where_they_are(
    good: Verb, tmp_path: Path
) -> None:
    """The same with an EMCCD's numbers, as localizations: x along columns."""
    folder = write_official(tmp_path / "run", suffix=".json")
    file = tmp_path / "golden.onnx"
    good("export", folder / "model_2.pt", "-o", file, "--threshold", 0.3)
    card = read_card(file)
    _, frames, expected = golden_network()
    adu = to_adu(card, frames[0])
    roi = Roi(10, 20, adu.shape[2], adu.shape[1])
    localizer = StreamLocalizer(read_model(file))
    results = localizer.process([Frame(i, 0.0, f, roi) for i, f in enumerate(adu)])
    results = [*results, *localizer.flush()]
    (rows,) = (r.localizations for r in results if r.index == 1)
    p, photons, x, y, z = expected[0, [0, 1, 3, 2, 4]]
    assert len(rows) > 20
    column = np.rint(rows["x_px"] - 10).astype(int)
    row = np.rint(rows["y_px"] - 20).astype(int)
    near = 0
    for n in range(len(rows)):
        # The pixel whose offsets give this position: within two of the nearest.
        window = (
            slice(max(0, row[n] - 2), row[n] + 3),
            slice(max(0, column[n] - 2), column[n] + 3),
        )
        rr, cc = np.mgrid[window]
        distance = np.hypot(
            cc + x[window] - (rows["x_px"][n] - 10),
            rr + y[window] - (rows["y_px"][n] - 20),
        )
        best = np.unravel_index(distance.argmin(), distance.shape)
        assert distance[best] < 1e-3
        near += abs(z[window][best] * 960.0 - rows["z_nm"][n]) < 1.0
        assert photons[window][best] * 31000 == pytest.approx(
            rows["photons"][n], rel=1e-3
        )
        assert p[window][best] > 0.1
    assert near == len(rows)


def test_the_files_and_what_was_assumed_are_told(good: Verb, tmp_path: Path) -> None:
    facts = make_parameters(
        HyperParameter__disabled_attributes=3, HyperParameter__channels_in=None
    )
    folder = write_official(tmp_path / "run", facts)
    param = tmp_path / "mine.yaml"
    (folder / "param_run.yaml").rename(param)
    file = tmp_path / "flat.onnx"
    said = good(
        "export", folder, "-o", file, "--param", param, "--mirror", "columns",
        "--trained-on", "a test", "--pixel-size-nm", 110,
    )  # fmt: skip
    assert "taken as DECODE does: HyperParameter.channels_in = 3" in said.err
    card = read_card(file)
    assert (card.name, card.pixel_size_nm) == ("flat", 110.0)
    assert not card.three_dimensional
    told = card.provenance
    assert told["mirrored"] == ["columns"]
    assert told["trained_on"] == "a test"
    digest = hashlib.sha256((folder / "model_2.pt").read_bytes()).hexdigest()
    assert (told["weights_file"], told["weights_file_sha256"]) == ("model_2.pt", digest)
    assert told["parameter_file"] == "mine.yaml"
    assert str(tmp_path) not in card.to_json()


def run_without_parameters(folder: Path) -> None:
    (folder / "param_run.yaml").unlink()


def relu(folder: Path) -> None:
    facts = make_parameters(HyperParameter__arch_param__activation="ReLU")
    (folder / "param_run.yaml").write_text(yaml.safe_dump(facts))


def damaged(folder: Path) -> None:
    path = folder / "model_2.pt"
    path.write_bytes(path.read_bytes()[:9000])


def other_shape(folder: Path) -> None:
    state = golden_network()[0]
    state["mt_heads.0.out_conv.weight"] = torch.zeros(1, 7, 1, 1)
    torch.save(state, folder / "model_2.pt")


def whole_network(folder: Path) -> None:
    torch.save(torch.nn.Conv2d(1, 1, 1), folder / "model_2.pt")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (run_without_parameters, "name it with --param"),
        (relu, "HyperParameter.arch_param.activation is ReLU"),
        (damaged, "damaged"),
        (other_shape, "head_p.out.weight"),
        (whole_network, "without running code"),
    ],
)
def test_what_cannot_be_imported_is_one_line_and_leaves_no_file(
    damage, words: str, verb: Verb, tmp_path: Path
) -> None:
    folder = write_official(tmp_path / "run")
    damage(folder)
    for given in (folder, folder / "model_2.pt"):
        said = verb("export", given, "-o", tmp_path / "m.onnx")
        assert said.code == 2
        assert words in said.error
        assert not (tmp_path / "m.onnx").exists()


def test_options_for_decode_are_refused_for_a_run_of_ours(
    verb: Verb, tmp_path: Path
) -> None:
    said = verb("export", tmp_path, "-o", tmp_path / "m.onnx", "--mirror", "rows")
    assert said.code == 2
    assert "is no network of DECODE" in said.error
    said = verb("export", tmp_path / "a.pt", "-o", tmp_path / "m.onnx")
    assert said.code == 2
    assert "a.pt" in said.error
