"""Bad input: one clear line, exit code 2 or 1, and nothing localized is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from verb_helpers import Said, Verb

from blinkloop.integrations.formats import read_table
from blinkloop.schema import CARD_KEY

tifffile = pytest.importorskip("tifffile", reason="needs the extra `io`")


def nothing(path: Path) -> Path:
    return path / "missing.tif"


def empty_folder(path: Path) -> Path:
    (path / "empty").mkdir()
    return path / "empty"


def empty_file(path: Path) -> Path:
    (path / "m.tif").write_bytes(b"")
    return path / "m.tif"


def text(path: Path) -> Path:
    (path / "m.tif").write_text("not a movie")
    return path / "m.tif"


def complex_numbers(path: Path) -> Path:
    np.save(path / "m.npy", np.zeros((3, 20, 20), complex))
    return path / "m.npy"


def objects(path: Path) -> Path:
    """A pickle: loading it would run whatever it says."""
    np.save(path / "m.npy", np.array([{"a": 1}], object), allow_pickle=True)
    return path / "m.npy"


def one_line_of_pixels(path: Path) -> Path:
    np.save(path / "m.npy", np.zeros(40, np.uint16))
    return path / "m.npy"


def colours(path: Path) -> Path:
    tifffile.imwrite(path / "m.tif", np.zeros((5, 20, 20, 3), np.uint8))
    return path / "m.tif"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (nothing, "no such file"),
        (empty_folder, "holds no movie"),
        (empty_file, "is empty"),
        (text, "not a movie"),
        (complex_numbers, "complex128 are not camera frames"),
        (objects, "m.npy"),
        (one_line_of_pixels, "m.npy"),
        (colours, "3 colours"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("name", ["fit", "replay"])
def test_movie(
    name: str,
    make: Callable[[Path], Path],
    match: str,
    verb: Verb,
    model: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / ("o.csv" if name == "fit" else "out")
    words = ("--fps", 100) if name == "replay" else ()
    said = verb(name, make(tmp_path), "-m", model, "-o", out, *words)
    assert said.code == 2
    if name == "fit" or make is not empty_folder:
        assert match in said.error
    assert said.out == ""
    assert not out.exists()


@pytest.mark.parametrize("pages", [True, False], ids=["pages", "contiguous"])
@pytest.mark.parametrize("name", ["fit", "replay"])
def test_truncated_tiff_gives_what_is_before_the_damage(
    name: str,
    pages: bool,
    verb: Verb,
    model: Path,
    frames: npt.NDArray[np.uint16],
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.tif"
    with tifffile.TiffWriter(path) as file:
        if pages:
            for frame in frames:
                file.write(frame, contiguous=False)
        else:
            file.write(frames)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    out = tmp_path / ("o.csv" if name == "fit" else "out")
    words = ("--fps", 100) if name == "replay" else ()
    said = verb(name, path, "-m", model, "-o", out, "--json", *words)
    assert said.code == 1
    assert "the movie is damaged" in said.error
    assert "are saved in" in said.error
    table = read_table(out if name == "fit" else out / "localizations.hdf5")
    assert len(table) == said.json["localizations"] > 0
    assert set(table.data["frame"]) <= set(range(8))
    assert table.data["frame"].max() >= 5


def onnx_of_others(path: Path, model: Path) -> None:
    from onnx import TensorProto, helper, save

    port = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])]
    node = helper.make_node("Identity", ["x"], ["y"])
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])]
    save(helper.make_model(helper.make_graph([node], "g", port, out)), path)


def text_file(path: Path, model: Path) -> None:
    path.write_text("hello, I am a model")


def truncated(path: Path, model: Path) -> None:
    content = model.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def with_card(change: Callable[[bytes], bytes]) -> Callable[[Path, Path], None]:
    def make(path: Path, model: Path) -> None:
        import onnx

        file = onnx.load(model)
        for prop in file.metadata_props:
            if prop.key == CARD_KEY:
                prop.value = change(prop.value.encode()).decode()
        onnx.save(file, path)

    return make


@pytest.mark.parametrize(
    ("make", "match"),
    [
        pytest.param(onnx_of_others, "model card", id="any ONNX"),
        pytest.param(text_file, "not an ONNX model", id="text"),
        pytest.param(truncated, "truncated", id="truncated"),
        pytest.param(
            with_card(lambda card: card[:-20]), "card is not valid", id="cut card"
        ),
        pytest.param(
            with_card(lambda card: card.replace(b'"pixel_size_nm":100', b'"px":100')),
            "pixel_size_nm",
            id="card without pixel size",
        ),
        pytest.param(
            with_card(lambda card: card.replace(b"format_version", b"version_format")),
            "card is not valid",
            id="card of another format",
        ),
    ],
)
@pytest.mark.parametrize("name", ["fit", "evaluate", "demo"])
def test_model(
    name: str,
    make: Callable[[Path, Path], None],
    match: str,
    verb: Verb,
    model: Path,
    movie: Path,
) -> None:
    pytest.importorskip("onnx", reason="needs the extra `export`")
    path = movie.with_name("m.onnx")
    make(path, model)
    words = {
        "fit": ("fit", movie, "-o", movie.with_name("o.csv"), "-m", path),
        "evaluate": ("evaluate", path),
        "demo": ("demo", "-o", movie.with_name("out"), "-m", path),
    }[name]
    said = verb(*words)
    assert said.code == 2
    assert match in said.error
    assert "m.onnx" in said.error
    assert not movie.with_name("o.csv").exists()
    assert not movie.with_name("out").exists()


@pytest.mark.parametrize(
    ("words", "match"),
    [
        pytest.param(("-m", "nothing"), "no bundled model 'nothing'", id="model name"),
        pytest.param(("-m", "no.onnx"), "no such model file", id="model file"),
        pytest.param(("--pixel-size-nm", 127), "trained for 100 nm", id="pixel size"),
        pytest.param(("--pixel-size-nm", "nan"), "pixel_size_nm = nan", id="nan"),
        pytest.param(("--baseline", "nan"), "baseline_adu = nan", id="baseline nan"),
        pytest.param(("--e-per-adu", 0), "e_per_adu = 0", id="no electrons"),
        pytest.param(("--qe", 90), "quantum_efficiency = 90", id="QE in percent"),
        pytest.param(("--threshold", 7), "between 0 and 1", id="threshold"),
        pytest.param(("--backend", "abacus"), "no backend 'abacus'", id="backend"),
        pytest.param(("--backend", "tensorrt"), "cannot be used here", id="not here"),
        pytest.param(("--batch", 0), "--batch", id="batch"),
        pytest.param(("--threads", 0), "--threads", id="threads"),
        pytest.param(("-o", "no/o.csv"), "folder no does not exist", id="csv folder"),
        pytest.param(("-o", "no/o.zarr"), "folder no does not exist", id="zarr folder"),
        pytest.param(("-o", "o.parrot"), "'.parrot' is not known", id="ending"),
        pytest.param(("-o", "o"), "'none' is not known", id="no ending"),
        pytest.param(("-o", "folder.csv"), "is a folder", id="out is a folder"),
        pytest.param(("-o", "old.zarr"), "exists already", id="store exists"),
        pytest.param(("-o", "old.csv"), "exists already", id="table exists"),
        pytest.param(("--camera", "no.yaml"), "cannot be read", id="no camera file"),
        pytest.param(("--camera", "bad.yaml"), "not valid", id="camera YAML"),
        pytest.param(("--camera", "list.yaml"), "holds list", id="camera list"),
        pytest.param(("--camera", "key.yaml"), "'gain'", id="camera key"),
        pytest.param(("--camera", "nan.yaml"), "em_gain = nan", id="camera nan"),
    ],
)
def test_fit_refuses(
    words: tuple[object, ...],
    match: str,
    verb: Verb,
    model: Path,
    movie: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(movie.parent)
    for name in ("folder.csv", "old.zarr"):
        Path(name).mkdir()
    for name, content in {
        "old.csv": "something dear",
        "bad.yaml": "em_gain: [",
        "list.yaml": "- 1",
        "key.yaml": "gain: 3",
        "nan.yaml": "em_gain: .nan",
    }.items():
        Path(name).write_text(content)
    said = verb("fit", movie, "-m", model, "-o", "o.csv", *words)
    assert said.code == 2
    assert match in said.error
    assert said.out == ""
    assert not Path("o.csv").exists()
    assert Path("old.csv").read_text() == "something dear"


@pytest.mark.parametrize(
    ("words", "match"),
    [
        pytest.param(("--fps", -3), "frame rate above 0, got -3", id="negative"),
        pytest.param(("--fps", 0), "frame rate above 0", id="none"),
        pytest.param(("--fps", "nan"), "frame rate above 0", id="nan"),
        pytest.param(("--fps", 100, "--repeat", 0), "at least 1", id="repeat"),
        pytest.param(("--fps", 100, "--target", -1), "target", id="target"),
        pytest.param(("--fps", 100, "--on-time", 0), "on_time", id="on-time"),
        pytest.param(("--fps", 100, "--truth", "no.csv"), "no such table", id="truth"),
        pytest.param((), "--fps", id="no rate"),
    ],
)
def test_replay_refuses(
    words: tuple[object, ...], match: str, verb: Verb, model: Path, movie: Path
) -> None:
    out = movie.with_name("out")
    said = verb("replay", movie, "-m", model, "-o", out, *words)
    assert said.code == 2
    assert match in said.error
    assert not out.exists()


def test_results_where_a_file_is_in_the_way(
    verb: Verb, model: Path, movie: Path
) -> None:
    for out in (movie, movie / "deeper"):
        said = verb("replay", movie, "-m", model, "--fps", 100, "-o", out)
        assert said.code == 2
        assert "the folder cannot be made" in said.error


def test_store_that_vanishes_during_the_run(
    verb: Verb, model: Path, movie: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is pulled out: one line, not a traceback."""
    from blinkloop.runtime import LiveStore

    out = movie.with_name("out")
    write = LiveStore.write

    def pull_out(store: LiveStore, results: object) -> None:
        shutil.rmtree(out / "localizations.zarr", ignore_errors=True)
        (out / "localizations.zarr").write_text("in the way")
        write(store, results)  # type: ignore[arg-type]

    monkeypatch.setattr(LiveStore, "write", pull_out)
    said = verb("replay", movie, "-m", model, "--fps", 100, "-o", out)
    assert said.code in (1, 2)
    assert "localizations.zarr" in said.error


def test_usage_error_is_one_line_too(verb: Verb) -> None:
    said: Said = verb("fit", "--no-such-option")
    assert said.code == 2
    assert "see: blinkloop fit --help" in said.error
