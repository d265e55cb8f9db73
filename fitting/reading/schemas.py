"""Which schema keypoints are of: by name, or by how many there are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from flowfit.fitting.reading.pictures import problem
from flowfit.models.keypoints import (
    BODY25,
    COCO17,
    COCO18,
    HALPE26,
    MEDIAPIPE33,
    SCHEMAS,
    KeypointSchema,
)

# what a number of keypoints means when no schema is named
_BY_COUNT = {len(s): s for s in (BODY25, COCO18, COCO17, HALPE26, MEDIAPIPE33)}


def schema_named(where: str | os.PathLike[str], name: str) -> KeypointSchema:
    """A schema by its name; InputError for a name that none has. `where`: for the error text."""
    try:
        return SCHEMAS[name]
    except (KeyError, TypeError):
        raise problem(
            where, f"no keypoint schema {str(name)[:40]!r}; there are {', '.join(SCHEMAS)}"
        ) from None


def schema_of(where: str | os.PathLike[str], counts: Sequence[int]) -> KeypointSchema:
    """The schema that most people's number of keypoints tells; BODY_25 where nobody has any.

    Args:
        where: for the error text. counts: of each person; 0 for somebody without a whole number.

    Raises:
        InputError: only less usual schemas have that number.
    """
    count = _usual(counts)
    fitting = [s.name for s in SCHEMAS.values() if len(s) == count]
    if count not in _BY_COUNT and fitting:
        raise problem(
            where,
            f"its people have {count} keypoints; if they are {' or '.join(fitting)}, "
            "say so with --schema",
        )
    return _BY_COUNT.get(count, BODY25)


def check_count(
    where: str | os.PathLike[str], counts: Sequence[int], wanted: KeypointSchema
) -> None:
    """InputError when most people's number of keypoints is another schema's than the wanted one."""
    count = _usual(counts)
    if count != len(wanted) and count in _BY_COUNT:
        other = _BY_COUNT[count].name
        raise problem(
            where,
            f"its people have {count} keypoints ({other}), but schema {wanted.name} has "
            f"{len(wanted)}; give schema {other}, or none",
        )


def _usual(counts: Sequence[int]) -> int:
    """The number of keypoints that most people have; 0 when nobody has any."""
    there = Counter(n for n in counts if n)
    known = Counter({n: times for n, times in there.items() if n in _BY_COUNT})
    most = (known or there).most_common(1)
    return most[0][0] if most else 0
