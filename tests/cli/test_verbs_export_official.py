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
from click.testing import CliRunner
from official_files import OURS, golden_network, make_parameters, write_official
from verb_helpers import Verb

from blinkloop.cli import main
from blinkloop.export import read_official
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


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The golden network as a model file, and what the verb said."""
    folder = tmp_path_factory.mktemp("official")
    write_official(folder, make_parameters(**EXACT, HyperParameter__channels_in=None))
    file = folder / "golden.onnx"
    words = ["export", str(folder), "-o", str(file), "--trained-on", "a test"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.stderr
    return file, result.stderr


@pytest.mark.usefixtures("one_thread")
def test_the_golden_network_through_the_whole_path(exported, good: Verb) -> None:
    """Files of DECODE, one model file, streamed frames: the golden maps to 1e-5."""
    file, _ = exported
    card = read_card(file)
    _, frames, expected = golden_network()
    camera = make_camera_maps(card.camera)
    backend = create_backend("onnxruntime-cpu", read_model(file), camera, threads=1)
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
    assert good("verify", file, "--backend", "onnxruntime-cpu").code == 0


def test_emitters_are_where_the_official_maps_have_them(exported) -> None:
    """As localizations in camera coordinates, x along columns and y along rows."""
    file, _ = exported
    card = read_card(file)
    _, frames, expected = golden_network()
    roi = Roi(10, 20, frames.shape[3], frames.shape[2])
    row, column = np.mgrid[: roi.height, : roi.width]
    count = 0
    for movie, maps in zip(frames, expected, strict=True):
        localizer = StreamLocalizer(read_model(file), threshold=0.1)
        adu = to_adu(card, movie)
        results = localizer.push([Frame(i, 0.0, f, roi) for i, f in enumerate(adu)])
        localizer.close()
        (rows,) = (r.localizations for r in results if r.index == 1)
        count += len(rows)
        p, photons, official_x, official_y, z = maps[:5]
        x_px, y_px = column + official_y + roi.x, row + official_x + roi.y
        for found in rows:
            distance = np.hypot(x_px - found["x_px"], y_px - found["y_px"])
            distance[p < 0.05] = np.inf
            at = np.unravel_index(distance.argmin(), distance.shape)
            assert distance[at] < 1e-3
            np.testing.assert_allclose(
                [found["z_nm"] / 960, found["photons"] / 31000],
                [z[at], photons[at]],
                atol=1e-4,
            )
    assert count >= 10


def test_the_card_and_the_verb_tell_where_it_comes_from(exported) -> None:
    file, said = exported
    assert "taken as DECODE does: HyperParameter.channels_in = 3" in said
    assert said.splitlines()[-1] == f"next: blinkloop verify {file}"
    card = read_card(file)
    told = card.provenance
    digest = hashlib.sha256((file.parent / "model_2.pt").read_bytes()).hexdigest()
    assert (card.name, told["origin"][:6]) == ("golden", "DECODE")
    assert (told["weights_file"], told["weights_file_sha256"]) == ("model_2.pt", digest)
    assert (told["parameter_file"], told["trained_on"]) == ("param_run.yaml", "a test")
    assert str(file.parent) not in card.to_json()


def test_mirror_and_disabled_outputs_reach_the_network(tmp_path: Path) -> None:
    facts = make_parameters(
        HyperParameter__disabled_attributes=3, Camera__mirror_dim=-1
    )
    folder = write_official(tmp_path / "run", facts, suffix=".json")
    imported = read_official(folder)
    assert imported.card.provenance["mirrored"] == ["columns"]
    assert not imported.card.three_dimensional
    _, frames, expected = golden_network()
    with torch.no_grad():
        got = imported.network(torch.from_numpy(frames).flip(-1)).flip(-1).numpy()
    np.testing.assert_array_equal(got[:, 4], 0)
    np.testing.assert_allclose(got[:, 2], -expected[:, 3], atol=1e-4)
    np.testing.assert_allclose(got[:, 3], expected[:, 2], atol=1e-4)
    plain = read_official(folder, mirrored=()).network
    with torch.no_grad():
        got = plain(torch.from_numpy(frames)).numpy()
    np.testing.assert_allclose(got[:, 2], expected[:, 3], atol=1e-4)


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
