from __future__ import annotations

import zipfile
from email.parser import Parser
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def shipped(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> dict[str, list[str]]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        message = Parser().parsestr(archive.read(name).decode())
    return {key: message.get_all(key, []) for key in message}


def test_every_module_is_in_the_wheel(
    sources: dict[str, Path], shipped: set[str]
) -> None:
    modules = {name for name in shipped if name.endswith(".py")}
    assert len(sources) > 20
    assert modules == set(sources)


def test_every_data_file_is_in_the_wheel(
    data_files: dict[str, Path], shipped: set[str]
) -> None:
    missing = set(data_files) - shipped
    assert not missing, "add them to [tool.setuptools.package-data]"


def test_types_are_shipped(shipped: set[str]) -> None:
    assert "blinkloop/py.typed" in shipped


def test_no_bare_room_is_shipped(shipped: set[str]) -> None:
    tops = {name.split("/")[0] for name in shipped}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"blinkloop"}


def test_license_is_shipped(metadata: dict[str, list[str]], shipped: set[str]) -> None:
    assert metadata["License-Expression"] == ["BSD-3-Clause"]
    assert any(name.endswith("licenses/LICENSE") for name in shipped)


def test_base_stays_small(metadata: dict[str, list[str]]) -> None:
    base = [r for r in metadata["Requires-Dist"] if "extra ==" not in r]
    names = {r.split(">")[0].strip() for r in base}
    assert names == {"numpy", "pydantic", "click", "rich"}


def test_extras_are_those_of_the_design(metadata: dict[str, list[str]]) -> None:
    wanted = "cpu gpu tensorrt rtx openvino train export io micromanager pycromanager"
    wanted += " raw live demo test interop"
    wanted += " andor nikon"  # added later: makers' movies, which bring pandas and dask
    wanted += " parquet"  # added later: 170 MB for one format of tables
    assert set(metadata["Provides-Extra"]) == set(wanted.split())
