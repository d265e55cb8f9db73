"""What a verb says when it is done."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def print_done(
    args: argparse.Namespace,
    lines: Iterable[str],
    files: Sequence[Path],
    *,
    warnings: Iterable[str] = (),
    seconds: float | None = None,
    after: str = "",
) -> int:
    """Warnings on standard error, the verb's own lines, and where its files are. -> exit status 0.

    Args:
        args: with `out`. lines: what was found. files: what was written.
        warnings: for the user. seconds: that it took. after: what else to say of the files.
    """
    for line in warnings:
        print(f"flowfit: warning: {line}", file=sys.stderr)
    for line in lines:
        print(line)
    if files:
        took = "" if seconds is None else f" ({seconds:.1f} s)"
        print(f"{len(files)} files in {args.out}{took}{after}")
    return 0


def focal_line(report: Mapping[str, Any]) -> str:
    """With which focal length people were seen, and where it is from."""
    return f"focal length {report['focal_px']:.0f} px: {report['focal_source']}"
