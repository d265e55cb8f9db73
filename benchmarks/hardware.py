"""What a measurement was made on, and how its files are written."""

from __future__ import annotations

import datetime
import json
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import torch


def conditions() -> dict[str, Any]:
    """Processor, threads, versions and date, for the head of a results file."""
    return {
        "cpu": _cpu(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "flowfit": metadata.version("flowfit"),
        "date": datetime.date.today().isoformat(),
    }


def conditions_line(found: dict[str, Any]) -> str:
    """The same as one sentence."""
    threads = f"{found['threads']} thread" + "s" * (found["threads"] != 1)
    return (
        f"{found['cpu']}, {threads}; Python {found['python']}, torch {found['torch']}, "
        f"Flowfit {found['flowfit']}; {found['date']}."
    )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Readable, with numbers of four significant digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_short(content), indent=1) + "\n", encoding="utf-8")


def put_between_marks(page: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- NAME -->` and `<!-- /NAME -->` in a page.

    Raises:
        ValueError: the page has no such marks.
    """
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = page.read_text(encoding="utf-8")
    before, mark, rest = old.partition(start)
    _, other, after = rest.partition(end)
    if not mark or not other:
        raise ValueError(f"{page} has no marks {start} ... {end}")
    page.write_text(f"{before}{start}\n{text.strip()}\n{end}{after}", encoding="utf-8")


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _short(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_short(v) for v in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _cpu() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
