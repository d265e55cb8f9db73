"""A made-up model in SMPL's file format, and writers for the dialects it comes in."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy.sparse

from flowfit.models.keypoints import VERTEX_LANDMARKS

# written out, so that a mistake in the project's table is seen
SMPL_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)


def synthetic_smpl(
    vertices: int = 120,
    betas: int = 10,
    *,
    seed: int = 0,
    sparse: bool = True,
    landmarks: Sequence[str] | None = VERTEX_LANDMARKS,
) -> dict[str, Any]:
    """Arrays under SMPL's keys: random, with pose blend shapes, valid in every way."""
    rng = np.random.default_rng(seed)
    weights = np.zeros((vertices, 24))
    regressor = np.zeros((24, vertices))
    for row in weights:
        row[rng.choice(24, 4, replace=False)] = rng.dirichlet(np.ones(4))
    for row in regressor:
        row[rng.choice(vertices, 10, replace=False)] = rng.dirichlet(np.ones(10))
    tree = np.array([SMPL_PARENTS, range(24)]).astype(np.int64)
    model = {
        "v_template": rng.uniform((-0.8, -1.0, -0.2), (0.8, 0.7, 0.2), (vertices, 3)),
        "f": rng.integers(0, vertices, (2 * vertices, 3)).astype(np.uint32),
        "shapedirs": 0.01 * rng.normal(size=(vertices, 3, betas)),
        "posedirs": 0.01 * rng.normal(size=(vertices, 3, 207)),
        "J_regressor": scipy.sparse.csc_matrix(regressor) if sparse else regressor,
        "weights": weights,
        "kintree_table": tree.astype(np.uint32),  # the root's parent becomes 2**32 - 1
    }
    if landmarks is not None:
        model["keypoint_names"] = np.array(list(landmarks))
        model["keypoint_vertex_ids"] = rng.choice(vertices, len(landmarks), replace=False)
    return model


def dense(model: dict[str, Any]) -> dict[str, Any]:
    """The same with a dense regressor."""
    regressor = model["J_regressor"]
    full = regressor.toarray() if scipy.sparse.issparse(regressor) else regressor
    return {**model, "J_regressor": full}


def write_npz(path: Path, model: dict[str, Any]) -> Path:
    """A sparse regressor becomes a pickled 0-d object array, as in the official .npz."""
    np.savez(path, **model)
    return path


def write_pickle(path: Path, model: dict[str, Any], protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(model, protocol=protocol))
    return path


class _Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its str."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def _save_str_of_python_2(self, data: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(data)

    dispatch[bytes] = _save_str_of_python_2


@contextmanager
def _fake_chumpy() -> Iterator[tuple[type, type]]:
    names = ("chumpy", "chumpy.ch", "chumpy.reordering")
    assert not set(names) & set(sys.modules), "a real chumpy is here"
    ch = type("Ch", (), {"__module__": "chumpy.ch"})
    select = type("Select", (), {"__module__": "chumpy.reordering"})
    for name in names:
        sys.modules[name] = types.ModuleType(name)
    sys.modules["chumpy.ch"].Ch = ch  # type: ignore[attr-defined]
    sys.modules["chumpy.reordering"].Select = select  # type: ignore[attr-defined]
    try:
        yield ch, select
    finally:
        for name in names:
            del sys.modules[name]


def write_chumpy_pickle(path: Path, model: dict[str, Any], protocol: int = 2) -> Path:
    """As Python 2 with chumpy wrote it: some arrays are Ch, shapedirs a Select of a larger Ch."""
    with _fake_chumpy() as (ch, select):

        def wrap(array: np.ndarray) -> Any:
            made = ch()
            made.__dict__.update(x=array, _dirty_vars={"x"}, _itr=None, _depends_on_deps=False)
            return made

        shapes = model["shapedirs"]
        larger = np.concatenate((shapes, np.ones_like(shapes)), -1)
        places = np.arange(larger.size).reshape(larger.shape)[..., : shapes.shape[-1]]
        chosen = select()
        chosen.__dict__.update(
            a=wrap(larger), idxs=places.ravel(), preferred_shape=shapes.shape, _dirty_vars=set()
        )
        wrapped = {k: wrap(model[k]) for k in ("v_template", "weights", "posedirs")}
        stream = io.BytesIO()
        everything = {**model, **wrapped, "shapedirs": chosen, "bs_type": "lrotmin"}
        _Python2Pickler(stream, protocol).dump(everything)
    data = stream.getvalue()
    for new, old in ((b"numpy._core.", b"numpy.core."), (b"scipy.sparse._", b"scipy.sparse.")):
        data = data.replace(b"c" + new, b"c" + old)  # the module names of that time
    path.write_bytes(data)
    return path
