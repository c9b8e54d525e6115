"""Imports go one way: the table of docs/architecture.md."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOMS = {"training", "export", "runtime", "integrations"}
MAY_IMPORT = {
    "hall": set(),
    "training": set(),
    "export": {"training"},
    "runtime": set(),
    "integrations": {"runtime"},
    "cli": ROOMS,
}
RUNTIME_STAYS_WITHOUT = {"torch", "onnx", "matplotlib", "scipy", "pymmcore_plus"}


def place(name: str) -> str:
    """Room of a module of the installed package, "cli" or "hall"."""
    part = name.split("/")[1]
    return part if part in ROOMS | {"cli"} else "hall"


def imported(tree: ast.AST, name: str) -> Iterator[tuple[str, ast.stmt]]:
    """Dotted names that a file imports anywhere, relative ones resolved."""
    package = name.split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package[: len(package) - node.level + 1]
                base = ".".join([*above, *filter(None, [node.module])])
            yield from ((f"{base}.{alias.name}", node) for alias in node.names)


def rooms_imported(tree: ast.AST, name: str) -> set[str]:
    found = set()
    for dotted, _ in imported(tree, name):
        parts = dotted.split(".")
        if parts[0] == "blinkloop" and len(parts) > 1:
            found |= {parts[1]} & (ROOMS | {"cli"})
    return found


def offences(name: str, text: str) -> set[str]:
    """What a file imports and must not."""
    tree = ast.parse(text)
    here = place(name)
    allowed = MAY_IMPORT[here] | {here}
    if here == "export" and Path(name).stem.startswith("verif"):
        allowed = allowed | {"runtime"}
    bad = rooms_imported(tree, name) - allowed
    bare = {dotted.split(".")[0] for dotted, _ in imported(tree, name)} & ROOMS
    heavy = {"hall": {"torch"}, "runtime": {"torch", "onnx"}}.get(here, set())
    tops = {dotted.split(".")[0] for dotted, _ in imported(tree, name)}
    return bad | {f"bare {room}" for room in bare} | (tops & heavy)


def test_imports_go_one_way(sources: dict[str, Path]) -> None:
    found = {n: offences(n, p.read_text(encoding="utf-8")) for n, p in sources.items()}
    assert {name: bad for name, bad in found.items() if bad} == {}


@pytest.mark.parametrize(
    ("name", "text", "bad"),
    [
        ("blinkloop/optics/x.py", "from blinkloop import runtime", {"runtime"}),
        ("blinkloop/optics/x.py", "from ..runtime import records", {"runtime"}),
        ("blinkloop/runtime/x.py", "def f():\n    import torch.nn", {"torch"}),
        ("blinkloop/runtime/x.py", "from runtime import records", {"bare runtime"}),
        ("blinkloop/runtime/x.py", "from blinkloop.cli import main", {"cli"}),
        ("blinkloop/export/x.py", "import blinkloop.runtime.model", {"runtime"}),
        ("blinkloop/export/verify.py", "import blinkloop.runtime.model", set()),
        ("blinkloop/integrations/x.py", "import blinkloop.runtime.model", set()),
        ("blinkloop/cli/x.py", "from blinkloop.training import network", set()),
    ],
)
def test_the_rule_itself(name: str, text: str, bad: set[str]) -> None:
    assert offences(name, text) == bad


def test_command_line_imports_rooms_at_the_call(sources: dict[str, Path]) -> None:
    early = {}
    for name, path in sources.items():
        if place(name) != "cli":
            continue
        body = ast.parse(path.read_text(encoding="utf-8")).body
        plain = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        found = rooms_imported(ast.Module(plain, []), name) & ROOMS
        if found:
            early[name] = found
    assert early == {}


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module({package!r})
found = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
names = [module.name for module in found]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names), *sorted(sys.modules))
"""


@pytest.mark.parametrize(
    ("package", "without"),
    [
        ("blinkloop.runtime", RUNTIME_STAYS_WITHOUT | {"blinkloop.training"}),
        ("blinkloop.integrations", {"torch", "onnx", "blinkloop.training"}),
        ("blinkloop.cli", {"torch", "onnxruntime", "blinkloop.runtime"}),
        ("blinkloop.training", {"onnx", "onnxruntime", "blinkloop.runtime"}),
        ("blinkloop.export", {"blinkloop.integrations"}),
        ("blinkloop.schema", {"torch", "onnxruntime", "blinkloop.runtime"}),
        ("blinkloop.optics", {"torch", "onnxruntime", "blinkloop.runtime"}),
        ("blinkloop.metrics", {"torch", "onnxruntime", "blinkloop.runtime"}),
    ],
)
def test_every_module_imports_and_brings_little(
    package: str, without: set[str], sources: dict[str, Path]
) -> None:
    count, *modules = run(IMPORT_ALL.format(package=package)).split()
    folder = package.replace(".", "/") + "/"
    assert int(count) == sum(name.startswith(folder) for name in sources) - 1
    assert set(modules) & without == set()


def test_importing_the_runtime_leaves_torch_out() -> None:
    modules = run("import blinkloop.runtime, sys; print(*sys.modules)").split()
    assert "blinkloop.runtime" in modules
    assert set(modules) & RUNTIME_STAYS_WITHOUT == set()


PROBES = [
    ("runtime", "import torch"),
    ("runtime", "import runtime.records"),
    ("runtime", "from blinkloop.training import network"),
    ("runtime", "import blinkloop.export"),
    ("runtime/backends", "from blinkloop import integrations"),
    ("integrations", "import blinkloop.training.network"),
    ("integrations", "from export import graph"),
    ("training", "from blinkloop.runtime import records"),
    ("export", "import blinkloop.integrations"),
    ("blinkloop", "import blinkloop.runtime"),
    ("blinkloop/optics", "import torch"),
    ("blinkloop/cli", "import runtime"),
    ("tests", "from training import network"),
]


@pytest.mark.parametrize(("folder", "statement"), PROBES)
def test_ruff_bans_the_import(root: Path, folder: str, statement: str) -> None:
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--no-cache",
        "--select",
        "TID251",
    ]
    done = subprocess.run(
        [*command, "--stdin-filename", f"{folder}/probe.py", "-"],
        input=f"{statement}\n",
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "TID251" in done.stdout


def test_every_ruff_file_bans_the_bare_names(root: Path) -> None:
    for path in [root / "blinkloop/cli/ruff.toml", *root.glob("*/ruff.toml")]:
        table = tomllib.loads(path.read_text())["lint"]["flake8-tidy-imports"]
        assert set(table["banned-api"]) >= ROOMS, path
