"""The command `flowfit`. Each verb is also a function of the same name in `flowfit`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import NoReturn

from flowfit import VERBS, __version__
from flowfit.fitting.cli.options import use_threads
from flowfit.models.errors import InputError

USER_ERROR = 2
_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """One line for a mistake in the arguments, too."""

    def error(self, message: str) -> NoReturn:
        self.exit(USER_ERROR, f"flowfit: {' '.join(message.split())} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit status.

    A user's mistake is one line on standard error and status 2; a traceback only with --debug.
    """
    parser = _parser()
    args, rest = parser.parse_known_args(arguments)
    if rest and not ("picture_first" in args and _take_late_file(args, rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        if "threads" in args:
            use_threads(args.threads)
        return int(args.run(args))
    except InputError as error:
        if args.debug:
            raise
        print(f"flowfit: {' '.join(str(error).split())}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("flowfit: stopped; what was finished is kept", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone: nothing is wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _take_late_file(args: argparse.Namespace, rest: list[str]) -> bool:
    """`fit PICTURE --out DIR KEYPOINTS`: argparse takes the first file for the only one."""
    if args.image is not None or len(rest) != 1 or rest[0].startswith("-"):
        return False
    args.image, args.keypoints = args.keypoints, rest[0]
    return True


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="flowfit",
        description="Find the 3D human body (SMPL) that explains a picture's 2D keypoints.",
    )
    parser.add_argument("--version", action="version", version=f"flowfit {__version__}")
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        _command(verb).add(verbs, common)
    return parser


def _command(verb: str) -> ModuleType:
    """Where a verb's `add` is: here, or beside the verb where that one is quick to load."""
    here = f"flowfit.fitting.cli.{verb}"
    return import_module(here if find_spec(here) else f"flowfit.fitting.verbs.{verb}")


def run() -> NoReturn:
    """The installed command: `main`, then out at once.

    Python would take a second to take torch and OpenGL down; every file is closed by now.
    """
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
