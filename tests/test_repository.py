"""Things that hold for the repository as a whole."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flowfit.fitting.cli.main import _parser

ROOT = Path(__file__).parents[1]
_BINARY = {".png", ".jpg", ".npz", ".npy", ".safetensors", ".pt", ".pkl"}
_NOT_OURS = {"build", "dist", "out", "runs", "__pycache__"}


def text_files() -> list[Path]:
    """Files that are tracked or would be; without git all that are not made by tools."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        files = [ROOT / name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        files = [p for p in ROOT.rglob("*") if not _made_by_a_tool(p.relative_to(ROOT))]
    return [p for p in files if p.is_file() and p.suffix not in _BINARY]


def _made_by_a_tool(path: Path) -> bool:
    hidden = path.parts[0].startswith(".") and path.parts[0] not in (".ci", ".gitignore")
    return hidden or bool(_NOT_OURS & set(path.parts)) or ".egg-info" in str(path)


def lines_with(pattern: str) -> list[str]:
    """Where a pattern stands in the repository's text files."""
    search = re.compile(pattern)
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if search.search(line)
    ]


def verbs() -> dict[str, argparse.ArgumentParser]:
    """The command line's verbs and their parsers."""
    for action in _parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def test_text_files_are_found():
    names = {str(p.relative_to(ROOT)) for p in text_files()}
    assert {"README.md", "setup.cfg", "fitting/cli/main.py", ".ci/run"} <= names


def test_no_paths_of_a_developer_machine():
    # the brackets keep these lines from finding themselves
    assert not lines_with(r"(?<![\w.])/(?:[w]ork|[r]oot|[h]ome/\w+|[U]sers/\w+|[m]nt/\w+)/")


def test_no_registry_is_named():
    """The machine's own pip configuration says where packages come from."""
    assert not lines_with(r"[i]ndex-url|[f]ind-links|[t]rusted-host")
    assert not lines_with(r"(?i)\b(?:[p]ypi|[p]ythonhosted|[a]naconda)[\w-]*\.\w|/[s]imple/")
    assert not lines_with(r"(?i)\bdownload\.[p]ytorch")


@pytest.mark.parametrize("name", ["constraints.txt", "setup.cfg", "pyproject.toml", "Makefile"])
def test_nothing_is_installed_from_an_address(name):
    assert "://" not in (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["README.md", "docs/fit.md"])
def test_page_names_only_verbs_and_options_that_exist(page):
    readme = (ROOT / page).read_text(encoding="utf-8")
    known = verbs()
    named = set(re.findall(r"`(?:[\w./]*/)?flowfit (\w+)", readme))
    named |= set(re.findall(r"^(?:\S*/)?flowfit (\w+)", readme, re.M))
    assert named
    assert named <= set(known)
    options = {o for parser in known.values() for o in parser._option_string_actions}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", readme)) <= options


def test_every_verb_is_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for verb in verbs():
        assert f"flowfit {verb}" in readme


def is_a_function(verb: str, before: str = "") -> bool:
    """Whether `from flowfit import VERB` gives a function in a fresh interpreter."""
    code = f"{before}\nfrom flowfit import {verb}\nassert callable({verb})"
    return not subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_every_verb_is_a_function(verb):
    assert is_a_function(verb)


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_no_module_hides_a_verb(verb):
    assert not (ROOT / "flowfit" / f"{verb}.py").exists()


def test_readme_is_short_and_its_links_lead_somewhere():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 200
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_changelog_has_what_is_not_released():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[Unreleased\]$", changelog, re.M)


def test_notice_carries_the_credits():
    notice = " ".join((ROOT / "NOTICE").read_text(encoding="utf-8").split())
    for credit in (
        "The data used in this project was obtained from mocap.cs.cmu.edu. The database was "
        "created with funding from NSF EIA-0196217.",
        "Advanced Computing Center for the Arts and Design (ACCAD), The Ohio State University",
        "Copyright (c) Meta Platforms, Inc. and affiliates, MIT License",
        "MakeHuman",
        "MPFB2",
        "NAVER Corp.",
        "Lav Varshney",
        "NASA",
    ):
        assert credit in notice
