from __future__ import annotations

import os
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

import flowfit.models as models
from flowfit.models.body_files import available_bodies, find_body, read_body_file
from flowfit.models.errors import InputError
from flowfit.models.keypoints import SCHEMAS, SMPL_VERTEX_IDS
from tests.synthetic_smpl import dense, synthetic_smpl, write_chumpy_pickle, write_npz, write_pickle


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.delenv("FLOWFIT_BODY", raising=False)


def assert_same(body, model, num_betas=10):
    """The body holds the model's arrays."""
    full = dense(model)
    shapes = full["shapedirs"][..., :num_betas]
    for have, want in (
        (body.surface.template, full["v_template"]),
        (body.surface.shape_directions, shapes),
        (body.surface.pose_directions, full["posedirs"]),
        (body.surface.skinning, full["weights"]),
        (body.joint_template, full["J_regressor"] @ full["v_template"]),
        (body.joint_directions, np.einsum("jv,vcs->jcs", full["J_regressor"], shapes)),
    ):
        np.testing.assert_allclose(have.numpy(), want, rtol=0, atol=1e-14)
    assert body.faces.dtype == torch.int64
    np.testing.assert_array_equal(body.faces.numpy(), full["f"])


def refusal(path, **options):
    """The one line with which a file is refused."""
    with pytest.raises(InputError) as caught:
        read_body_file(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert path.name in text
    return text


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("layout", ["csc", "csr", "coo", "dense"])
def test_pickles_of_all_protocols(tmp_path, protocol, layout):
    model = synthetic_smpl(60)
    if layout == "dense":
        model = dense(model)
    else:
        model["J_regressor"] = model["J_regressor"].asformat(layout)
    path = write_pickle(tmp_path / "made.pkl", model, protocol)
    body = read_body_file(path, dtype=torch.float64)
    assert_same(body, model)
    assert body.name == "made"
    assert body.vertex_ids == dict(
        zip(model["keypoint_names"].tolist(), model["keypoint_vertex_ids"].tolist(), strict=True)
    )


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_python_2_pickle_with_chumpy(tmp_path, protocol):
    model = synthetic_smpl(60)
    path = write_chumpy_pickle(tmp_path / "old.pkl", model, protocol)
    assert b"chumpy.reordering" in path.read_bytes()
    assert b"numpy._core" not in path.read_bytes()
    assert_same(read_body_file(path, dtype=torch.float64), model)
    assert "chumpy" not in sys.modules


@pytest.mark.parametrize("sparse", [True, False])
def test_npz(tmp_path, sparse):
    model = synthetic_smpl(60, sparse=sparse)
    model["v_template"] = np.asfortranarray(model["v_template"])
    assert_same(read_body_file(write_npz(tmp_path / "a.npz", model), dtype=torch.float64), model)


def test_big_endian_and_object_arrays(tmp_path):
    model = dense(synthetic_smpl(60))
    model["v_template"] = model["v_template"].astype(">f8")
    written = {**model, "keypoint_names": model["keypoint_names"].astype(object)}
    for path in (write_pickle(tmp_path / "a.pkl", written), write_npz(tmp_path / "a.npz", written)):
        body = read_body_file(path, dtype=torch.float64)
        assert_same(body, model)
        assert set(body.vertex_ids) == set(model["keypoint_names"].tolist())


def test_ten_of_300_betas_and_float32(tmp_path):
    model = synthetic_smpl(60, 300)
    path = write_npz(tmp_path / "a.npz", model)
    body = read_body_file(path)
    assert body.num_betas == 10
    assert body.dtype == torch.float32
    assert_same(read_body_file(path, num_betas=300, dtype=torch.float64), model, 300)
    assert "300 betas" in refusal(path, num_betas=301)
    assert "not 0" in refusal(path, num_betas=0)


def test_smpl_numbering_and_names_by_file_name(tmp_path):
    model = synthetic_smpl(6890, landmarks=None)
    path = write_npz(tmp_path / "SMPL_MALE.npz", model)
    body = read_body_file(path)
    assert body.vertex_ids == SMPL_VERTEX_IDS
    assert body.name == "smpl-male"
    assert body.keypoint_model(SCHEMAS["prohmr44"]).available.all()
    assert read_body_file(path, name="mine").name == "mine"


def test_head_top_is_the_highest_vertex_of_the_midline(tmp_path):
    model = dense(synthetic_smpl(60, landmarks=None))
    model["v_template"][:, 0] += np.where(model["v_template"][:, 0] > 0, 1, -1)  # clear the middle
    head = model["J_regressor"][15] @ model["v_template"][:, 0]
    model["v_template"][[3, 7], 0] = head
    model["J_regressor"][15, [3, 7]] = 0
    model["v_template"][[3, 7], 1] = 0.5, 0.6
    model["v_template"][9] = 2.0  # higher, but off to the side
    head = model["J_regressor"][15] @ model["v_template"][:, 0]
    model["v_template"][[3, 7], 0] = head
    body = read_body_file(write_npz(tmp_path / "a.npz", model))
    assert body.vertex_ids == {"head_top": 7}


@pytest.mark.parametrize("drop", [True, False])
def test_absent_and_zero_pose_blend_shapes_are_none(tmp_path, drop):
    model = synthetic_smpl(60)
    model["posedirs"] *= 0
    if drop:
        del model["posedirs"]
    body = read_body_file(write_npz(tmp_path / "a.npz", model))
    assert body.surface.pose_directions is None


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *args):
        self.what = function, args

    def __reduce__(self):
        return self.what


def attacks(marker):
    return {
        "system": Call(os.system, f"touch {marker}"),
        "eval": Call(eval, f"open({str(marker)!r}, 'w')"),
        "exec": Call(exec, f"open({str(marker)!r}, 'w')"),
        "open": Call(open, str(marker), "w"),
        "getattr": Call(getattr, 1, "real"),
        "import": Call(__import__, "antigravity"),
        "numpy": Call(np.save, str(marker), 1),
        "path": Path(marker),
    }


@pytest.mark.parametrize("kind", sorted(attacks("")))
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_malicious_pickle_is_refused_and_not_run(tmp_path, kind, protocol):
    marker = tmp_path / "marker.npy"
    model = {**synthetic_smpl(30), "extra": attacks(marker)[kind]}
    text = refusal(write_pickle(tmp_path / "bad.pkl", model, protocol))
    assert "refused and not run" in text
    assert not marker.exists()


def test_malicious_npz_member_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "marker"
    bad = np.array(Call(os.system, f"touch {marker}"), dtype=object)
    path = write_npz(tmp_path / "bad.npz", {**synthetic_smpl(30), "J_regressor": bad})
    text = refusal(path)
    assert "system" in text
    assert "J_regressor" in text
    assert not marker.exists()
    # a member that no body needs is not even opened
    path = write_npz(tmp_path / "rest.npz", {**synthetic_smpl(30), "extra": bad})
    read_body_file(path)
    assert not marker.exists()


def _global(module, name):
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def test_allowed_names_build_nothing_real(tmp_path):
    marker = tmp_path / "marker"
    command = f"V'touch {marker}'\n".encode()
    streams = {
        # the reconstructor given a class that is not on the list
        "reconstructor": _global("copy_reg", "_reconstructor")
        + b"("
        + _global("subprocess", "Popen")
        + _global("__builtin__", "object")
        + b"NtR.",
        # a chumpy name that walks to another module
        "chumpy": _global("chumpy.os", "system") + b"(" + command + b"tR.",
        # a call on a result
        "call": _global("numpy", "dtype") + b"(V" + b"f8\n" + b"tR(" + command + b"tR.",
        # attributes set on a class that later files use
        "build": _global("chumpy.ch", "Ch") + b"}(Vorigin\nVnumpy.dtype\nub.",
        "set": _global("numpy", "ndarray") + b"(I1000000000000\ntR.",
    }
    path = tmp_path / "bad.pkl"
    for stream in streams.values():
        path.write_bytes(b"\x80\x02" + stream)
        refusal(path)
        assert not marker.exists()
    assert_same(
        read_body_file(
            write_chumpy_pickle(tmp_path / "good.pkl", synthetic_smpl(30)), dtype=torch.float64
        ),
        synthetic_smpl(30),
    )


def test_sparse_indices_out_of_range_are_refused(tmp_path):
    for place, value in (("indices", 24), ("indptr", 10**6)):
        model = synthetic_smpl(30)
        regressor = model["J_regressor"].copy()
        getattr(regressor, place)[-1] = value
        model["J_regressor"] = regressor
        assert "J_regressor is damaged" in refusal(write_pickle(tmp_path / "a.pkl", model))


def test_unknown_chumpy_and_self_reference(tmp_path):
    model = synthetic_smpl(30)
    path = write_chumpy_pickle(tmp_path / "a.pkl", model)
    path.write_bytes(path.read_bytes().replace(b"chumpy.ch\nCh\n", b"chumpy.ch\nMatVecMult\n"))
    assert "MatVecMult" in refusal(path)
    loop = b"\x80\x02}(Vshapedirs\nc" + b"chumpy.ch\nCh\n)\x81q\x01}Vx\nh\x01sbu."
    path.write_bytes(loop)
    assert "shapedirs is damaged" in refusal(path)


def test_wrong_files(tmp_path):
    path = tmp_path / "a.pkl"
    assert "cannot be read" in refusal(path)
    for junk in (b"", b"hello\n", b"\x80\x04\x95", b"PK\x03\x04junk", os.urandom(200)):
        path.write_bytes(junk)
        assert "not an SMPL body file" in refusal(path)
    path.write_bytes(pickle.dumps([1, 2]))
    assert "no table of arrays" in refusal(path)
    path.write_bytes(pickle.dumps({"poses": 1, "trans\nx": 2}))
    text = refusal(path)
    assert "shapedirs" in text
    assert "keys: poses, trans x" in text
    assert "smpl.is.tue.mpg.de" in text
    assert "cannot be read" in refusal(tmp_path)
    whole = write_npz(tmp_path / "b.npz", synthetic_smpl(30)).read_bytes()
    (tmp_path / "b.npz").write_bytes(whole[: len(whole) // 2])
    refusal(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        ("v_template", lambda a: a[:, :2], "v_template has shape (30, 2)"),
        ("v_template", lambda a: a[1:], "weights has shape (30, 24), expected (29, 24)"),
        ("v_template", lambda a: a * np.nan, "v_template holds NaN"),
        ("posedirs", lambda a: a[..., :9], "posedirs has shape"),
        ("posedirs", lambda a: a + np.inf, "posedirs holds NaN"),
        ("shapedirs", lambda a: a[0], "shapedirs has shape"),
        ("shapedirs", lambda a: a[..., :0], "has 0 betas"),
        ("shapedirs", lambda a: a[..., :7], "has 7 betas"),
        ("shapedirs", lambda a: "text", "shapedirs holds something else"),
        ("J_regressor", lambda a: a[:, 1:], "J_regressor has shape (24, 29)"),
        ("weights", lambda a: a * 0.9, "weights do not sum to 1"),
        ("f", lambda a: a + 10, "f names vertices outside 0 to 29"),
        ("f", lambda a: a + 0.5, "f names vertices outside 0 to 29"),
        ("keypoint_vertex_ids", lambda a: a - 10, "keypoint_vertex_ids names vertices outside"),
        ("keypoint_vertex_ids", lambda a: a[1:], "keypoint_vertex_ids has shape"),
        ("kintree_table", lambda a: a[:, ::-1], "not the tree of SMPL's joints"),
        ("kintree_table", lambda a: np.where(a == 12, 11, a), "not the tree of SMPL's joints"),
        ("kintree_table", lambda a: np.where(a > 99, 0, a), "not the tree of SMPL's joints"),
        ("kintree_table", lambda a: np.zeros((2, 55)), "an SMPL-X model of 55 joints"),
        ("kintree_table", lambda a: np.zeros((2, 52)), "an SMPL+H model of 52 joints"),
    ],
)
def test_each_fault_is_named(tmp_path, key, change, said):
    model = dense(synthetic_smpl(30))
    model[key] = change(model[key])
    for path in (write_npz(tmp_path / "a.npz", model), write_pickle(tmp_path / "a.pkl", model)):
        assert said in refusal(path)


def test_parent_of_the_root_in_any_number_type(tmp_path):
    for kind in (np.int32, np.int64, np.uint32, np.uint64, np.float64):
        model = synthetic_smpl(30)
        model["kintree_table"] = model["kintree_table"].astype(np.int32).astype(kind)
        read_body_file(write_npz(tmp_path / "a.npz", model))


def test_built_in_bodies():
    body, low = find_body("open"), find_body("open-low")
    assert find_body() is body
    assert (body.name, low.name) == ("open", "open-low")
    assert (body.num_vertices, low.num_vertices) == (12308, 2499)
    assert body.surface.pose_directions is None
    assert body.height == pytest.approx(1.69, abs=0.01)
    torch.testing.assert_close(body.joint_template, low.joint_template, rtol=0, atol=0.002)
    top = body.surface.template[body.vertex_ids["head_top"]]
    assert top[1] == body.surface.template[:, 1].max()
    assert abs(top[0]) < 0.005
    stored = np.load(Path(models.__file__).parent / "data" / "open_body.npz")
    regressed = stored["J_regressor"] @ stored["v_template"]
    np.testing.assert_allclose(body.joint_template.numpy(), regressed, atol=1e-6)


@pytest.mark.parametrize("schema", ["body25", "coco17", "coco18", "halpe26", "h36m17", "lsp14"])
def test_built_in_body_has_all_keypoints(schema):
    assert find_body("open-low").keypoint_model(SCHEMAS[schema]).available.all()


def test_environment_variable(tmp_path, monkeypatch):
    path = write_npz(tmp_path / "SMPL_NEUTRAL.npz", synthetic_smpl(30))
    monkeypatch.setenv("FLOWFIT_BODY", str(path))
    assert find_body().name == "smpl-neutral"
    assert find_body("open").name == "open"
    assert available_bodies()[2:] == [("smpl-neutral", str(path))]
    monkeypatch.setenv("FLOWFIT_BODY", "open-low")
    assert find_body().name == "open-low"
    monkeypatch.setenv("FLOWFIT_BODY", str(tmp_path / "none.pkl"))
    with pytest.raises(InputError, match="FLOWFIT_BODY"):
        find_body()
    assert available_bodies() == [("open", "built in"), ("open-low", "built in")]
    monkeypatch.setenv("FLOWFIT_BODY", "")
    assert find_body().name == "open"


@pytest.mark.parametrize("folder", ["", "smpl", "models", "smpl/models"])
@pytest.mark.parametrize(
    ("file", "gender"),
    [
        ("SMPL_NEUTRAL.pkl", "neutral"),
        ("basicModel_neutral_lbs_10_207_0_v1.0.0.pkl", "neutral"),
        ("basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl", "neutral"),
        ("basicmodel_m_lbs_10_207_0_v1.0.0.pkl", "male"),
        ("basicModel_f_lbs_10_207_0_v1.0.0.pkl", "female"),
        ("SMPL_FEMALE.npz", "female"),
    ],
)
def test_folder_search(tmp_path, folder, file, gender):
    place = tmp_path / folder / file
    place.parent.mkdir(parents=True, exist_ok=True)
    write = write_npz if file.endswith("npz") else write_pickle
    write(place, synthetic_smpl(30))
    assert find_body(str(tmp_path), gender=gender).name == f"smpl-{gender}"
    other = "male" if gender != "male" else "female"
    with pytest.raises(InputError, match=f"holds no {other} SMPL file; .*smpl_{other}.pkl"):
        find_body(tmp_path, gender=other)


def test_folder_in_the_environment_lists_what_it_holds(tmp_path, monkeypatch):
    write_npz(tmp_path / "SMPL_MALE.npz", synthetic_smpl(30))
    shutil.copy(tmp_path / "SMPL_MALE.npz", tmp_path / "SMPL_FEMALE.npz")
    monkeypatch.setenv("FLOWFIT_BODY", str(tmp_path))
    assert [name for name, _ in available_bodies()] == [
        *("open", "open-low"),
        *("smpl-male", "smpl-female"),
    ]
    assert find_body(gender="female").name == "smpl-female"


def test_unknown_body_and_gender(tmp_path):
    with pytest.raises(InputError, match="no body 'opne'"):
        find_body("opne")
    with pytest.raises(InputError, match="gender"):
        find_body(tmp_path, gender="x")


def test_scipy_sparse_arrays_too(tmp_path):
    model = synthetic_smpl(30)
    model["J_regressor"] = scipy.sparse.csr_array(model["J_regressor"])
    body = read_body_file(write_pickle(tmp_path / "a.pkl", model), dtype=torch.float64)
    assert_same(body, model)


def test_plain_lists_too(tmp_path):
    model = dense(synthetic_smpl(30))
    lists = {key: value.tolist() for key, value in model.items()}
    path = write_pickle(tmp_path / "a.pkl", lists)
    assert_same(read_body_file(path, dtype=torch.float64), model)
    lists["v_template"][0][0] = 10**400
    assert "something else than numbers" in refusal(write_pickle(tmp_path / "a.pkl", lists))
