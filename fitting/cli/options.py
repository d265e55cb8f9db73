"""What arguments of the command line mean that several verbs have."""

from __future__ import annotations

from flowfit.models.errors import InputError


def person_number(text: str) -> int | None:
    """`--person N`, or None for all.

    Raises:
        InputError: it is neither.
    """
    if text == "all":
        return None
    if not text.isdecimal() or len(text) > 9:
        raise InputError(f"--person {text[:40]!r}: give a number counted from 0, or all")
    return int(text)


def use_threads(count: int) -> None:
    """Compute on so many threads of the CPU.

    A few people make small matrices, on which threads mostly wait for each other.

    Raises:
        InputError: less than one.
    """
    import torch  # late: it would make `flowfit --help` slow

    if count < 1:
        raise InputError(f"--threads {count}: give 1 or more")
    torch.set_num_threads(count)
