from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from blinkloop.cli import _machine, main
from blinkloop.errors import MissingExtraError
from blinkloop.extras import installed, require


def doctor(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["doctor", *arguments], prog_name="blinkloop")
    return result.exit_code, result.stdout, result.stderr


def test_json_has_the_keys_of_the_design(tmp_path: Path) -> None:
    code, out, _ = doctor("--json", "--folder", str(tmp_path))
    report = json.loads(out)
    assert code == 0
    assert {"backends", "cameras", "warnings"} <= set(report)
    for row in report["backends"]:
        assert set(row) == {"name", "available", "reason"}
        assert row["available"] == (row["reason"] == "")
    names = [row["name"] for row in report["backends"]]
    assert names[0] == "tensorrt"
    assert names[-1] == "onnxruntime-cpu"
    assert report["disk"]["write_mb_per_s"] > 0
    assert report["disk"]["folder"] == str(tmp_path.resolve())
    assert report["versions"]["blinkloop"]


def test_finds_the_adapters_of_the_real_core(tmp_path: Path) -> None:
    pytest.importorskip("mm_test_adapters")
    _, out, _ = doctor("--json", "--folder", str(tmp_path))
    report = json.loads(out)
    assert "DemoCamera" in {row["adapter"] for row in report["cameras"]}
    # A slow disk is warned of, too, by the folder's name, which is this test's.
    texts = [text.replace(str(tmp_path), "") for text in report["warnings"]]
    assert not [text for text in texts if "adapter" in text]


def test_text_ends_with_the_next_command(tmp_path: Path) -> None:
    code, out, err = doctor("--folder", str(tmp_path))
    assert code == 0
    assert "onnxruntime-cpu" in out
    assert err.splitlines()[-1] == "next: blinkloop demo"


def test_measuring_the_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    assert _machine.disk_write_mb_per_s(tmp_path, megabytes=2) > 0
    assert list(tmp_path.iterdir()) == []


def test_disk_that_cannot_be_written_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> float:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_machine, "disk_write_mb_per_s", refuse)
    code, out, _ = doctor("--json", "--folder", str(tmp_path))
    report = json.loads(out)
    assert code == 0
    assert report["disk"]["write_mb_per_s"] is None
    assert any("Permission denied" in text for text in report["warnings"])


def test_missing_folder_is_a_usage_error(tmp_path: Path) -> None:
    code, out, err = doctor("--folder", str(tmp_path / "none"))
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_missing_extras_name_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_machine.metadata, "requires", lambda name: REQUIRES)
    assert _machine.missing_extras() == [
        _machine.MissingExtra(
            "io", ("no-such-package-1",), 'pip install "blinkloop[io]"'
        )
    ]


REQUIRES = [
    "numpy>=1.26",
    'no-such-package-1>=3.0; extra == "io"',
    'click>=8; extra == "io"',
    "numpy; python_version > '3' and extra == 'cpu'",
    'no-such-package-2; extra == "test"',
]


def test_every_missing_extra_is_a_real_one() -> None:
    extras = set(
        _machine.metadata.metadata("blinkloop").get_all("Provides-Extra") or ()
    )
    assert {row.extra for row in _machine.missing_extras()} <= extras


def test_without_a_gpu_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert _machine.find_gpus() == []


def test_require_imports_dotted_names() -> None:
    module = require("email.mime.text", "Mail", "io")
    assert module is sys.modules["email.mime.text"]


@pytest.mark.parametrize("name", ["no_such_module", "no_such_module.part"])
def test_require_names_the_command(name: str) -> None:
    with pytest.raises(MissingExtraError, match=r"Reading X needs .*blinkloop\[io\]"):
        require(name, "Reading X", "io")
    assert not installed(name)


def test_require_lets_a_broken_package_speak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        require("broken_package", "Reading X", "io")


@pytest.mark.parametrize(
    ("laser", "said"),
    [
        ("L.405.Power", "yes: L.405 (Coherent) is opened anew with COM3 once"),
        ("Demo.Voltage", "no: Demo is simulated (DemoCamera)"),
        ("Own.Power", "no: Own is a Python device"),
    ],
)
def test_dead_man_of_a_laser(tmp_path: Path, laser: str, said: str) -> None:
    config = tmp_path / "scope.cfg"
    config.write_text(
        "Device,COM3,SerialManager,COM3\nDevice,L.405,Coherent,Obis\n"
        "Device,Demo,DemoCamera,D-DA\n#py pyDevice,Own,module,Class\n"
        "Property,L.405,Port,COM3\nProperty,Core,Initialize,1\n"
    )
    words = ("--json", "--folder", str(tmp_path), "--config", str(config), "--laser")
    code, out, _ = doctor(*words, laser)
    assert code == 0
    assert json.loads(out)["dead_man"][laser].startswith(said)
    code, out, err = doctor(*words, "Nope.Power")
    assert (code, out) == (2, "")
    assert "no device for Nope.Power; it has: COM3, L.405, Demo, Own" in err
    assert doctor(*words[:-1])[0] == 2
