"""Imports go down only: models < priors < fitting < examples."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = ("models", "priors", "fitting", "examples")
OUTSIDE = ("tests", "benchmarks")  # nothing that ships leans on these


def imported_packages(source: str, package: str) -> set[str]:
    """First words of all imports in a file, those inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(package if node.level else (node.module or "").partition(".")[0])
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            found.add(str(node.args[0].value).partition(".")[0])
    return found


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_go_down_only(floor):
    above = FLOORS[FLOORS.index(floor) + 1 :]
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in sorted((ROOT / floor).rglob("*.py"))
        for name in imported_packages(file.read_text(encoding="utf-8"), floor)
        if name in (*above, *OUTSIDE)
    ]
    assert not wrong


def test_body_and_smplx_stay_apart():
    """smplx is for non-commercial research: only tests may import it."""
    wrong = [
        str(file.relative_to(ROOT))
        for floor in FLOORS
        for file in sorted((ROOT / floor).rglob("*.py"))
        if "smplx" in imported_packages(file.read_text(encoding="utf-8"), floor)
    ]
    assert not wrong


def test_imports_are_found_wherever_they_stand():
    source = (
        "import a.b\nfrom c.d import e\nfrom . import f\n"
        "def g():\n    import h\n    importlib.import_module('i.j')\n"
    )
    assert imported_packages(source, "own") == {"a", "c", "own", "h", "i"}
