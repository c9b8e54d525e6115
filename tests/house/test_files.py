from __future__ import annotations

import ast
from pathlib import Path

MOST_LINES = 400


def test_no_file_is_large(sources: dict[str, Path]) -> None:
    lines = {
        name: len(path.read_text(encoding="utf-8").splitlines())
        for name, path in sources.items()
    }
    assert {n: count for n, count in lines.items() if count > MOST_LINES} == {}


def test_every_package_folder_has_an_init(sources: dict[str, Path]) -> None:
    folders = {Path(name).parent.as_posix() for name in sources}
    assert {f for f in folders if f"{f}/__init__.py" not in sources} == set()


def test_modules_with_public_names_list_them(sources: dict[str, Path]) -> None:
    without = []
    for name, path in sources.items():
        text = path.read_text(encoding="utf-8")
        public = any(
            isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name[0] != "_"
            for node in ast.parse(text).body
        )
        if public and "\n__all__ = [" not in text:
            without.append(name)
    assert without == []
