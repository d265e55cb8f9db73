"""Reads pickles of arrays without running anything that they name.

A pickle can name any function to be called. Here it cannot: each name that a file may use becomes
an inert record of its arguments, and `evaluate` works out afterwards, by itself, which array the
records describe. Any other name is refused, unrun. Reads what numpy 1 and 2, scipy's sparse
matrices, chumpy and Python 2 wrote.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from flowfit.models.errors import InputError

# What a pickle may name (numpy 2 and Python 2 spellings are brought to these first). chumpy.* and
# scipy's sparse matrices are let through as well; all of them as records only.
_NAMEABLE = {
    *("numpy.ndarray", "numpy.dtype", "numpy.core.multiarray._reconstruct"),
    *("numpy.core.multiarray.scalar", "numpy.core.numeric._frombuffer"),
    *("_codecs.encode", "copyreg._reconstructor", "builtins.object", "builtins.set"),
    *("builtins.bytes", "builtins.bytearray"),
}
_SPARSE = re.compile(r"scipy\.sparse\.(?:_?(csc|csr|coo)\.)?(csc|csr|coo)_(matrix|array)")
_PLAIN_DTYPE = re.compile(r"[<>|=]?(b1|[iufSU]\d+|O8?)")


class _Record:
    """What a pickle asks to call, kept as data."""

    origin: ClassVar[str] = ""
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: object) -> _Record:
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __setstate__(self, state: object) -> None:
        self.state = state


class _OrderedDict(dict[Any, Any]):
    """Stands for collections.OrderedDict."""

    def __setstate__(self, state: object) -> None:
        pass


class _RecordingUnpickler(pickle.Unpickler):
    """Loads a pickle without calling anything that it names."""

    def find_class(self, module: str, name: str) -> type:
        origin = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        origin = re.sub(r"^__builtin__\.", "builtins.", origin)
        origin = re.sub(r"^copy_reg\.", "copyreg.", origin)
        if origin == "collections.OrderedDict":
            return _OrderedDict
        if sparse := _SPARSE.fullmatch(origin):
            origin = f"scipy.sparse.{sparse[2]}"
        elif origin not in _NAMEABLE and not re.fullmatch(r"chumpy(\.\w+)+", origin):
            asked = " ".join(f"{module}.{name}".split())
            raise InputError(
                f"asks to load {asked}, which was refused and not run; "
                "give a file from a source you trust"
            )
        # a class of its own for each use, so that a file cannot change what the next one gets
        return type(name, (_Record,), {"origin": origin})


def load_records(file: IO[bytes]) -> Any:
    """Load a pickle; arrays in it stay records until `evaluate` is called on them.

    Raises:
        InputError: the pickle names something that is not on the list; it was not run. The text
            is the end of a sentence that begins with the file's name. A damaged pickle raises
            whatever the unpickler does.
    """
    return _RecordingUnpickler(file, encoding="latin1").load()


def evaluate(value: Any) -> Any:
    """The array or text that a record describes; what is not a record comes back as it is.

    Raises:
        InputError: as in `load_records`, for a record of which no array can be made. A damaged
            record raises TypeError, ValueError, KeyError, IndexError, AttributeError or
            RecursionError.
    """
    if not isinstance(value, _Record):
        return value
    origin, args, state = value.origin, value.args, value.state
    if origin == "copyreg._reconstructor":  # pickle protocols 0 and 1: the class is an argument
        origin = args[0].origin
    if origin == "_codecs.encode" and args[1:] in ((), ("latin1",), ("latin-1",)):
        return args[0].encode("latin1")
    if origin in ("builtins.bytes", "builtins.bytearray"):  # protocols before 3 spell them so
        content = evaluate(args[0]) if args else b""
        return content.encode("latin1") if isinstance(content, str) else bytes(content)
    if origin == "numpy.core.multiarray._reconstruct":
        _, shape, dtype, fortran, raw = state
        return _array(raw, dtype, shape, "F" if fortran else "C")
    if origin == "numpy.core.multiarray.scalar":
        return _array(args[1], args[0], (), "C")
    if origin == "numpy.core.numeric._frombuffer":
        return _array(*args[:4])
    if origin.startswith("scipy.sparse."):
        return _dense(origin.rpartition(".")[2], state)
    if origin == "chumpy.ch.Ch":
        return evaluate(state["x"])
    if origin == "chumpy.reordering.Select":
        chosen = np.asarray(evaluate(state["a"])).ravel()[evaluate(state["idxs"])]
        shape = state.get("preferred_shape")
        return chosen if shape is None else chosen.reshape(evaluate(shape))
    raise InputError(f"is a {origin}, which cannot be turned into an array")


def evaluate_all(value: Any) -> Any:
    """The same for dicts, lists and object arrays of records, to the bottom; a new value.

    Raises:
        InputError: as in `evaluate`.
    """
    value = evaluate(value)
    if isinstance(value, dict):
        return {evaluate(key): evaluate_all(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [evaluate_all(item) for item in value]
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [evaluate_all(item) for item in value]
    return value


def load_npz_object(path: Path, name: str) -> Any:
    """One array of an npz file: numbers, or dicts and lists of them that were pickled into it.

    Raises:
        InputError: no such file or array, a damaged file, or one that asks for something else than
            arrays; nothing of it was run.
    """
    headers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        with zipfile.ZipFile(path) as archive:
            if f"{name}.npy" not in archive.namelist():
                found = ", ".join(n.removesuffix(".npy")[:30] for n in archive.namelist()[:8])
                raise InputError(f"has no {name} (it has {found or 'nothing'})")
            with archive.open(f"{name}.npy") as member:
                _, _, dtype = headers[np.lib.format.read_magic(member)](member)
                if dtype.hasobject:
                    return evaluate_all(load_records(member))
            with archive.open(f"{name}.npy") as member:
                return np.lib.format.read_array(member, allow_pickle=False)
    except InputError as error:
        raise InputError(f"{path} {error}") from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:  # a damaged archive can raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} cannot be read as npz: {reason}") from None


def _array(raw: Any, dtype: _Record, shape: tuple[int, ...], order: Any) -> Any:
    code = dtype.args[0]
    if not _PLAIN_DTYPE.fullmatch(code):
        raise InputError(f"is an array of {code}, not of plain numbers or text")
    if "O" in code:
        items = [evaluate(item) for item in raw]
        if any(isinstance(item, (np.ndarray, dict, list)) for item in items):
            objects = np.empty(len(items), dtype=object)
            objects[:] = items
            return items[0] if shape == () else objects.reshape(shape, order=order)
        return items[0] if shape == () else np.array(items).reshape(shape, order=order)
    kind = np.dtype(code)
    if dtype.state is not None and dtype.state[1] in ("<", ">"):
        kind = kind.newbyteorder(dtype.state[1])
    raw = evaluate(raw)
    data = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2 text is bytes
    return np.frombuffer(data, kind).reshape(shape, order=order)


def _dense(layout: str, state: Mapping[str, Any]) -> np.ndarray:
    """A sparse matrix filled out, with every index checked (scipy would trust them)."""
    shape = state["_shape"] if "_shape" in state else state["shape"]
    dense = np.zeros([int(evaluate(n)) for n in shape])
    if layout == "coo":
        rows, columns = state["coords"] if "coords" in state else (state["row"], state["col"])
        rows, columns = evaluate(rows), evaluate(columns)
    else:
        starts, rows = evaluate(state["indptr"]), evaluate(state["indices"])
        columns = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        if layout == "csr":
            rows, columns = columns, rows
    np.add.at(dense, (rows, columns), evaluate(state["data"]))
    return dense
