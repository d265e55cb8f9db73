"""Tensors that share a leading axis of rows (people, frames, views), handled as one thing.

A row of a dataclass that is `Rows` is a row of each of its fields: of tensors, of other `Rows` and
named tuples, of dictionaries by name, and of plain tuples, which have one entry a row. What has no
row axis is marked `SHARED`, or is a plain number or name. The functions here do the same for named
tuples, which cannot have a base.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")

# metadata of a dataclass' field that all rows share
SHARED: Mapping[str, Any] = {"shared": True}


def shared_with(axes: int) -> Mapping[str, Any]:
    """Metadata of a tensor that all rows share where it has no more axes than these."""
    return {"axes": axes}


class Rows:
    """Base of frozen dataclasses of tensors with a leading row axis."""

    def __len__(self) -> int:
        for value, shared in _parts(self).values():
            first = value[0] if hasattr(value, "_fields") else value
            if not shared and isinstance(first, (Tensor, Rows, tuple)):
                return len(first)
        raise TypeError(f"{type(self).__name__}: all of it is shared, there are no rows")

    def rows(self, index: Tensor) -> Self:
        """Some of the rows, repeats allowed."""
        return take(self, index)

    def put(self, index: Tensor, by: Self) -> Self:
        """The same with rows (N,) taken from another, of N rows."""
        return put(self, index, by)

    def where(self, mask: Tensor, other: Self) -> Self:
        """The rows where the mask (B,) says so, the other's elsewhere."""
        return where(mask, self, other)

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """The rows of several, one after the other."""
        return cat(parts)

    def to(
        self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> Self:
        """The same in another floating type or on another device, what is shared, too."""
        return to(self, dtype=dtype, device=device)


def take(value: T, index: Tensor) -> T:
    """Some of the rows, repeats allowed; of what is no tensor, as its own method `rows` says."""
    return _each([value], lambda t: t[index.to(t.device)], lambda own: own.rows(index))


def put(value: T, index: Tensor, by: T) -> T:
    """The same with rows (N,) taken from another, of N rows."""
    return _each([value, by], lambda t, new: t.index_copy(0, index.to(t.device), new))


def where(mask: Tensor, one: T, other: T) -> T:
    """The rows of one where the mask (B,) says so, the other's elsewhere."""

    def choose(t: Tensor, others: Tensor) -> Tensor:
        return torch.where(mask.to(t.device).view(-1, *(1,) * (t.ndim - 1)), t, others)

    return _each([one, other], choose)


def cat(parts: Sequence[T]) -> T:
    """The rows of several, one after the other."""
    return _each(parts, lambda *t: torch.cat(t))


def to(
    value: T, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> T:
    """The same in another floating type or on another device, what is shared, too."""

    def move(t: Tensor) -> Tensor:
        return t.to(dtype=dtype if t.is_floating_point() else None, device=device)

    return _each([value], move, lambda own: own, shared_too=True)


def _parts(value: Any) -> dict[str, tuple[Any, bool]]:
    """What a dataclass holds by name, each with whether all rows share it."""
    found = {}
    for f in fields(value):
        part, axes = getattr(value, f.name), f.metadata.get("axes")
        least = axes is not None and (part is None or part.ndim <= axes)
        found[f.name] = part, least or "shared" in f.metadata
    return found


def _no_rows(value: Any) -> Any:
    raise TypeError(f"a {type(value).__name__} has no rows: mark the field that holds it SHARED")


def _each(
    values: Sequence[Any],
    function: Callable[..., Tensor],
    otherwise: Callable[[Any], Any] = _no_rows,
    shared_too: bool = False,
) -> Any:
    """The first value with each of its tensors made of those at the same place of all values."""

    def again(parts: Sequence[Any]) -> Any:
        return _each(parts, function, otherwise, shared_too)

    first = values[0]
    if isinstance(first, Tensor):
        return function(*values)
    if isinstance(first, Rows):
        chosen = [n for n, (_, shared) in _parts(first).items() if shared_too or not shared]
        changed = {n: again([getattr(value, n) for value in values]) for n in chosen}
        return replace(first, **changed) if changed else first  # type: ignore[type-var]
    if isinstance(first, dict):
        return {n: again([value[n] for value in values]) for n in first}
    if hasattr(first, "_fields"):
        return type(first)(*(again(parts) for parts in zip(*values, strict=True)))
    if isinstance(first, tuple):  # the entries go where their numbers go
        entries = [entry for value in values for entry in value]
        numbers = torch.arange(len(entries)).split([len(value) for value in values])
        return tuple(entries[number] for number in function(*numbers).tolist())
    if first is None or isinstance(first, (str, int, float)):
        return first
    return otherwise(first)
