"""Imports go down only: models < priors < fitting < examples."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = ("models", "priors", "fitting", "examples")
OUTSIDE = ("tests", "benchmarks")  # nothing that ships leans on these


def imported_modules(source: str) -> set[str]:
    """Dotted names of all imports in a file, those inside functions too.

    `from a import b` counts as `a.b`: b may be a module.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are written in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            found.add(str(node.args[0].value))
    return found


def floor_of(module: str) -> str:
    """The floor that a dotted name belongs to: of `flowfit.models.body` the second word."""
    first, _, rest = module.partition(".")
    return rest.partition(".")[0] if first == "flowfit" else first


def imports_up(source: str, floor: str) -> list[str]:
    """What a file of a floor imports though it lies above it, or outside."""
    above = {*FLOORS[FLOORS.index(floor) + 1 :], *OUTSIDE}
    verbs = {"compare", "doctor", "evaluate", "fit", "lift", "multiview", "sample", "train"}
    if floor != "examples":
        above |= verbs  # `from flowfit import fit` reaches the top floor
    return sorted(name for name in imported_modules(source) if floor_of(name) in above)


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_go_down_only(floor):
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in sorted((ROOT / floor).rglob("*.py"))
        for name in imports_up(file.read_text(encoding="utf-8"), floor)
    ]
    assert not wrong


@pytest.mark.parametrize(
    "line",
    [
        "from flowfit.fitting.solvers import adam",
        "from flowfit.fitting import solvers",
        "from flowfit import fitting",
        "from flowfit import fit",
        "import flowfit.priors.load",
        "def late():\n    import flowfit.fitting.cli.main",
        "from benchmarks import hardware",
    ],
)
def test_models_that_import_what_is_above_are_found(line):
    assert imports_up(line, "models")


def test_the_old_names_are_gone():
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for folder in (*FLOORS, *OUTSIDE, "flowfit")
        for file in sorted((ROOT / folder).rglob("*.py"))
        for name in imported_modules(file.read_text(encoding="utf-8"))
        if name.partition(".")[0] in FLOORS
    ]
    assert not wrong


def test_body_and_smplx_stay_apart():
    """smplx is for non-commercial research: only tests may import it."""
    wrong = [
        str(file.relative_to(ROOT))
        for floor in FLOORS
        for file in sorted((ROOT / floor).rglob("*.py"))
        if "smplx" in map(floor_of, imported_modules(file.read_text(encoding="utf-8")))
    ]
    assert not wrong


def test_imports_are_found_wherever_they_stand():
    source = (
        "import a.b\nfrom c.d import e\n"
        "def g():\n    import h\n    importlib.import_module('i.j')\n"
    )
    assert imported_modules(source) == {"a.b", "c.d.e", "h", "i.j"}
