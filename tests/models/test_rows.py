"""Dataclasses and named tuples of tensors with a leading row axis."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from flowfit.models.cameras import Camera
from flowfit.models.rows import SHARED, Rows, cat, put, take, to, where


class Ending(Enum):
    GOOD = 1
    BAD = 2


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


class Told:
    """Something with rows of its own kind."""

    def __init__(self, name):
        self.name = name

    def rows(self, index):
        return Told(f"{self.name}{index.tolist()}")


@dataclass(frozen=True, eq=False)
class Inner(Rows):
    weight: Tensor


@dataclass(frozen=True, eq=False)
class Table(Rows):
    label: object = field(metadata=SHARED)
    points: Tensor
    pair: Pair
    inner: Inner
    terms: dict[str, Tensor]
    endings: tuple[Ending, ...]
    camera: Camera
    maybe: Tensor | None = None
    table: Tensor = field(default_factory=lambda: torch.eye(2), metadata=SHARED)
    seconds: float = 1.5
    name: str = "table"


def table(count, start=0.0, **changed):
    rows = torch.arange(count, dtype=torch.float64) + start
    parts = {
        "label": object(),
        "points": rows[:, None, None] + torch.zeros(2, 3),
        "pair": Pair(rows, -rows[:, None]),
        "inner": Inner(10 * rows),
        "terms": {"a": rows, "b": rows > 0},
        "endings": tuple(Ending.GOOD if r % 2 == 0 else Ending.BAD for r in rows.tolist()),
        "camera": Camera(torch.ones(2).double(), torch.stack((rows, rows), -1)),
    }
    return Table(**{**parts, **changed})


def assert_rows(found: Table, expected: list[float]):
    """The rows with these numbers, all fields alike."""
    rows = torch.tensor(expected, dtype=torch.float64)
    assert len(found) == len(expected)
    assert torch.equal(found.points, rows[:, None, None].expand(-1, 2, 3))
    assert isinstance(found.pair, Pair)
    assert torch.equal(found.pair.left, rows)
    assert torch.equal(found.pair.right, -rows[:, None])
    assert torch.equal(found.inner.weight, 10 * rows)
    assert torch.equal(found.terms["a"], rows)
    assert torch.equal(found.terms["b"], rows > 0)
    assert found.endings == tuple(Ending.GOOD if r % 2 == 0 else Ending.BAD for r in expected)
    assert torch.equal(found.camera.center, torch.stack((rows, rows), -1))
    assert torch.equal(found.camera.focal, torch.ones(2).double())  # one for all
    assert found.camera.distortion is None
    assert torch.equal(found.table, torch.eye(2))
    assert (found.seconds, found.name, found.maybe) == (1.5, "table", None)


def test_rows_repeats_and_none():
    whole = table(4)
    assert_rows(whole, [0, 1, 2, 3])
    some = whole.rows(torch.tensor([3, 0, 3]))
    assert_rows(some, [3, 0, 3])
    assert some.label is whole.label
    assert_rows(whole.rows(torch.tensor([], dtype=torch.long)), [])
    assert_rows(whole, [0, 1, 2, 3])  # and is not changed


def test_cat_put_and_where():
    whole, other = table(3), table(2, start=7)
    both = Table.cat([whole, other])
    assert_rows(both, [0, 1, 2, 7, 8])
    assert both.label is whole.label
    assert_rows(Table.cat([whole]), [0, 1, 2])
    assert_rows(whole.put(torch.tensor([2, 0]), other), [8, 1, 7])
    mask = torch.tensor([True, False, True])
    assert_rows(whole.where(mask, table(3, start=7)), [0, 8, 2])
    assert_rows(whole, [0, 1, 2])


def test_named_tuples_and_tensors_by_the_functions():
    pair, index = Pair(torch.arange(3), torch.arange(6).view(3, 2)), torch.tensor([2, 0])
    some = take(pair, index)
    assert isinstance(some, Pair)
    assert some.left.tolist() == [2, 0]
    assert cat([pair, some]).left.tolist() == [0, 1, 2, 2, 0]
    assert put(pair, index, Pair(-some.left, -some.right)).right.tolist() == [
        [0, -1], [2, 3], [-4, -5],
    ]  # fmt: skip
    mask = torch.tensor([True, False, False])
    assert where(mask, pair, Pair(-pair.left, -pair.right)).left.tolist() == [0, -1, -2]
    assert take(pair.left, index).tolist() == [2, 0]
    assert take(None, index) is None


def test_to_moves_floating_tensors_only_and_what_is_shared_too():
    single = table(2).to(dtype=torch.float32)
    assert single.points.dtype == single.camera.focal.dtype == single.inner.weight.dtype
    assert single.points.dtype == single.terms["a"].dtype == torch.float32
    assert single.terms["b"].dtype == torch.bool
    assert table(2).to(dtype=torch.float64).table.dtype == torch.float64
    assert single.endings == table(2).endings
    assert to(Pair(torch.ones(1), torch.ones(1)), dtype=torch.float64).left.dtype == torch.float64


def test_what_has_rows_of_its_own_is_asked_for_them():
    @dataclass(frozen=True, eq=False)
    class Both(Rows):
        points: Tensor
        told: Told

    both = Both(torch.arange(3), Told("t"))
    assert both.rows(torch.tensor([1, 1])).told.name == "t[1, 1]"
    with pytest.raises(TypeError, match="a Told has no rows: mark the field that holds it SHARED"):
        Both.cat([both, both])


def test_a_camera_for_all_has_no_length():
    with pytest.raises(TypeError, match="Camera"):
        len(Camera(torch.ones(2), torch.ones(2)))
    assert len(Camera(torch.ones(2), torch.ones(5, 2))) == 5
