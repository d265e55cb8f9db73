"""The verb `doctor` on the command line."""

from __future__ import annotations

import argparse


def add(verbs: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:
    """The verb; `common` has the options of every verb."""
    doctor = verbs.add_parser(
        "doctor", parents=[common], help="what this machine has, and how to get what is missing"
    )
    doctor.set_defaults(run=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    from flowfit.fitting.verbs.doctor import doctor

    print(doctor())
    return 0
