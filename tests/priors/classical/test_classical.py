from __future__ import annotations

import io
import json
import os
import pickle
import struct
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from sklearn.mixture import GaussianMixture

from flowfit.models.errors import InputError
from flowfit.models.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from flowfit.priors.base import Pose
from flowfit.priors.classical.densities import GaussianPose, MaxMixturePose
from flowfit.priors.classical.files import read_mixture
from flowfit.priors.classical.joint_limits import ExponentialBending, HingeLimits
from flowfit.priors.classical.prior import RotationPrior
from flowfit.priors.data.people.mocap import read_mocap, read_sequence
from flowfit.priors.load import load
from flowfit.priors.registry import BUILT_IN
from tests.references import priors_twin as twin

UP = torch.nn.functional.normalize(torch.tensor([0.1, -0.9, 0.2], dtype=torch.float64), dim=0)

CLASSICAL = ("gmm", "gaussian")  # the built-in priors that hold rotations


def mixture(components=3, size=69, seed=0):
    """Means, covariances and weights of a random mixture of full Gaussians."""
    rng = np.random.default_rng(seed)
    means = 0.4 * rng.normal(size=(components, size))
    roots = rng.normal(size=(components, size, size)) / np.sqrt(size)
    covars = 0.05 * (roots @ roots.transpose(0, 2, 1) + 0.3 * np.eye(size))
    covars *= rng.uniform(0.5, 2, (components, 1, 1))  # so that the determinants differ
    return means, covars, rng.dirichlet(2 * np.ones(components))


def tensors(arrays):
    return [torch.from_numpy(np.asarray(a)) for a in arrays]


def poses(count, seed=0, size=0.4):
    """Bodies with random joints of moderate angle, any root."""
    generator = torch.Generator().manual_seed(seed)
    angles = size * torch.randn(count, 24, 3, generator=generator, dtype=torch.float64)
    angles[:, 0] *= 3
    betas = torch.randn(count, 10, generator=generator, dtype=torch.float64)
    return Pose(axis_angle_to_matrix(angles), betas)


def energy(term):
    return 0.5 * (term.residual**2).sum(-1)


def the(terms, name):
    (found,) = [t for t in terms if t.name == name]
    return found


# --- energies equal the slow twins ---


@pytest.mark.parametrize("size", [69, 72])
def test_gaussian_equals_the_twin(size):
    (mean,), (covariance,), _ = mixture(1, size)
    term = GaussianPose(*tensors((mean, covariance)))
    x = np.random.default_rng(1).normal(size=(4, size))
    got = energy(term.linearize(torch.from_numpy(x)))
    expected = [twin.gaussian_energy(row, mean, covariance) for row in x]
    np.testing.assert_allclose(got, expected, rtol=1e-9)


@pytest.mark.parametrize("size", [69, 72])
def test_max_mixture_equals_the_twin_up_to_a_constant(size):
    arrays = mixture(4, size)
    term = MaxMixturePose(*tensors(arrays))
    rng = np.random.default_rng(1)
    near = [m + 0.2 * rng.normal(size=size) for m in arrays[0] for _ in range(3)]
    x = np.concatenate((near, arrays[0], rng.normal(size=(4, size))))
    got = energy(term.linearize(torch.from_numpy(x))).numpy()
    expected = np.array([twin.max_mixture_energy(row, *arrays) for row in x])
    expected -= twin.least_constant(*arrays[1:])
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-8)
    best = term.component_energies(torch.from_numpy(x)).argmin(-1)
    assert len(best.unique()) > 1  # the minimum is over something
    assert got.min() >= 0


@pytest.mark.parametrize(("name", "dtype"), [(n, d) for n in CLASSICAL for d in ("32", "64")])
def test_built_in_energies_equal_the_twin(name, dtype):
    dtype = getattr(torch, "float" + dtype)
    prior = load(name, dtype=dtype, up=UP)
    means, covars, weights = read_mixture(BUILT_IN[name].path)
    pose = poses(3)
    latent = prior.encode(pose).to(dtype)
    got = energy(the(prior.terms(latent, jacobian=False), "pose")).double().numpy()
    for row in range(3):
        up = UP.numpy() if means.shape[1] == 72 else None
        x = twin.body_numbers(pose.rotations[row].numpy(), up)
        expected = twin.max_mixture_energy(x, means, covars, weights)
        expected -= twin.least_constant(covars, weights)
        assert got[row] == pytest.approx(expected, rel=1e-6 if dtype == torch.float64 else 2e-3)


def test_built_in_without_up_is_the_marginal():
    for name in CLASSICAL:
        prior = load(name, dtype=torch.float64)
        terms = prior.terms(prior.encode(poses(2)), jacobian=True)
        assert {t.name for t in terms} == {"pose", "limits", "shape"}
        assert not any(t.jacobian[..., :3].any() for t in terms)  # the root costs nothing


def test_hinge_limits_equal_the_twin():
    x = 2.5 * np.random.default_rng(0).normal(size=(200, 69))
    got = energy(HingeLimits().linearize(torch.from_numpy(x)))
    np.testing.assert_allclose(got, [twin.limits_energy(row) for row in x], rtol=1e-9, atol=1e-12)
    assert (got == 0).any()
    assert (got > 0).any()


def test_hinge_limits_cost_nothing_inside():
    x = torch.zeros(1, 69, dtype=torch.float64)
    x[0, [12 - 3, 15 - 3, 58 - 3]] = 2.0
    x[0, 55 - 3] = -2.0
    residual, jacobian = HingeLimits().linearize(x)
    assert not residual.any()
    assert not jacobian.any()
    assert HingeLimits().linearize(-x).residual.all()


def test_exponential_bending_equals_the_twin():
    x = np.random.default_rng(0).normal(size=(20, 69))
    got = energy(ExponentialBending().linearize(torch.from_numpy(x)))
    np.testing.assert_allclose(got, [twin.bending_energy(row) for row in x], rtol=1e-9)


def test_shape_and_upright_energies():
    pose = poses(4)
    prior = RotationPrior("a", [HingeLimits()], up=UP)
    terms = prior.terms(prior.encode(pose), jacobian=False)
    for row in range(4):
        assert float(energy(the(terms, "shape"))[row]) == pytest.approx(
            0.5 * sum(float(b) ** 2 for b in pose.betas[row])
        )
        leaning = pose.rotations[row, 0] @ torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
        angle = float(torch.arccos(leaning @ UP))
        # |a - b|^2 of unit vectors is 2 - 2 cos
        assert float(energy(the(terms, "upright"))[row]) == pytest.approx(1 - np.cos(angle))


# --- Jacobians through move ---


def priors_to_differentiate():
    full = mixture(3, 69)
    with_up = mixture(3, 72)
    return {
        "gaussian": RotationPrior("g", [GaussianPose(*(x[0] for x in tensors(full[:2])))]),
        "max mixture": RotationPrior("m", [MaxMixturePose(*tensors(full))], up=UP),
        "max mixture with up": RotationPrior("u", [MaxMixturePose(*tensors(with_up))], up=UP),
        "limits": RotationPrior("l", [HingeLimits(), ExponentialBending()], up=UP),
        "gmm": load("gmm", dtype=torch.float64),
        "gmm with up": load("gmm", dtype=torch.float64, up=UP),
        "gaussian with up": load("gaussian", dtype=torch.float64, up=UP),
    }


@pytest.mark.parametrize("name", priors_to_differentiate())
@pytest.mark.parametrize("size", [0.4, 1e-5, 1.2])
def test_jacobians_equal_finite_differences(name, size):
    prior = priors_to_differentiate()[name]
    latent = prior.encode(poses(2, seed=3, size=size))
    steps = 1e-6 * torch.eye(sum(prior.step_blocks.values()), dtype=torch.float64)
    for row in range(2):
        here = latent[row : row + 1].expand(len(steps), -1)
        plus = prior.terms(prior.move(here, steps), jacobian=False)
        minus = prior.terms(prior.move(here, -steps), jacobian=False)
        terms = prior.terms(latent, jacobian=True)
        assert [t.name for t in terms] == [t.name for t in plus]
        for term, high, low in zip(terms, plus, minus, strict=True):
            slope = (high.residual - low.residual).T / 2e-6
            scale = float(slope.abs().max()) + 1
            torch.testing.assert_close(term.jacobian[row], slope, rtol=0, atol=1e-7 * scale)


def test_no_jacobian_when_not_asked():
    prior = load("gmm", dtype=torch.float64, up=UP)
    latent = prior.encode(poses(2))
    with_slopes = prior.terms(latent, jacobian=True)
    for lean, full in zip(prior.terms(latent, jacobian=False), with_slopes, strict=True):
        assert lean.jacobian is None
        assert torch.equal(lean.residual, full.residual)
        assert full.jacobian.shape == (2, full.residual.shape[1], 82)


# --- the true mixture ---


def test_log_density_equals_scipy_and_sklearn():
    means, covars, weights = mixture(4)
    term = MaxMixturePose(*tensors((means, covars, weights)))
    rng = np.random.default_rng(2)
    x = np.concatenate([m + 0.2 * rng.normal(size=(3, 69)) for m in means])
    each = [
        np.log(w) + scipy.stats.multivariate_normal(m, s).logpdf(x)
        for w, m, s in zip(weights, means, covars, strict=True)
    ]
    got = term.log_density(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(got, scipy.special.logsumexp(each, axis=0), rtol=1e-9)
    sk = GaussianMixture(4)
    sk.means_, sk.covariances_, sk.weights_ = means, covars, weights
    sk.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(covars))
    np.testing.assert_allclose(got, sk.score_samples(x), rtol=1e-9)


def test_the_two_mixtures_differ_but_by_less_than_log_of_the_components():
    arrays = mixture(4)
    term = MaxMixturePose(*tensors(arrays))
    x = torch.from_numpy(np.concatenate((arrays[0], np.zeros((1, 69)))))
    best = -energy(term.linearize(x)) - term._log_norm.min()
    excess = term.log_density(x) - best
    assert (excess >= 0).all()
    assert (excess <= np.log(4)).all()


# --- latents ---


def test_encode_decode_round_trip():
    prior = load("gmm", dtype=torch.float64)
    pose = poses(3)
    latent = prior.encode(pose)
    assert latent.shape == (3, 226)
    for got, expected in zip(prior.decode(latent), pose, strict=True):
        assert torch.equal(got, expected)
    again, pull_back = prior.linearize(latent)
    rows = torch.randn(3, 2, 82, dtype=torch.float64)
    assert torch.equal(pull_back(rows), rows)  # a step is the body's own motion
    assert torch.equal(again.rotations, pose.rotations)


def test_move_is_a_left_perturbation_and_leaves_the_latent_alone():
    prior = load("gmm", dtype=torch.float64)
    pose = poses(2)
    latent = prior.encode(pose)
    before = latent.clone()
    step = 0.3 * torch.randn(2, 82, dtype=torch.float64)
    moved = prior.decode(prior.move(latent, step))
    assert torch.equal(latent, before)
    torch.testing.assert_close(moved.betas, pose.betas + step[:, 72:])
    turned = axis_angle_to_matrix(step[:, :72].unflatten(-1, (24, 3))) @ pose.rotations
    torch.testing.assert_close(moved.rotations, turned)
    torch.testing.assert_close(prior.move(latent, torch.zeros_like(step)), latent)


def test_rows_see_no_difference():
    prior = load("gmm", dtype=torch.float64, up=UP)
    latent = prior.encode(poses(5))
    some = torch.tensor([3, 0, 3])
    whole = prior.terms(latent, jacobian=True)
    part = prior.rows(some).terms(latent[some], jacobian=True)
    for a, b in zip(whole, part, strict=True):
        torch.testing.assert_close(a.residual[some], b.residual, rtol=0, atol=1e-12)
        torch.testing.assert_close(a.jacobian[some], b.jacobian, rtol=0, atol=1e-12)


def test_a_row_of_nan_stays_alone():
    prior = load("gmm", dtype=torch.float64, up=UP)
    latent = prior.encode(poses(3))
    clean = prior.terms(latent, jacobian=True)
    latent[1] = torch.nan
    for a, b in zip(clean, prior.terms(latent, jacobian=True), strict=True):
        torch.testing.assert_close(a.residual[[0, 2]], b.residual[[0, 2]], rtol=0, atol=1e-12)
        torch.testing.assert_close(a.jacobian[[0, 2]], b.jacobian[[0, 2]], rtol=0, atol=1e-12)


def test_modes_are_the_means_the_heaviest_first():
    means, covars, weights = mixture(4)
    modes = RotationPrior("m", [HingeLimits(), MaxMixturePose(*tensors((means, covars, weights)))])
    pose = modes.modes()
    assert pose.rotations.shape == (4, 24, 3, 3)
    assert not pose.betas.any()
    torch.testing.assert_close(pose.rotations[:, 0], torch.eye(3).double().expand(4, 3, 3))
    got = matrix_to_axis_angle(pose.rotations[:, 1:]).flatten(1)
    by_hand = axis_angle_to_matrix(
        torch.from_numpy(means[np.argsort(-weights)]).unflatten(1, (23, 3))
    )
    torch.testing.assert_close(got, matrix_to_axis_angle(by_hand).flatten(1))


def test_modes_without_a_density_are_the_rest_pose():
    pose = RotationPrior("l", [HingeLimits()]).modes()
    assert pose.rotations.shape == (1, 24, 3, 3)
    assert not pose.betas.any()


def test_a_term_that_uses_up_wants_to_know_it():
    with pytest.raises(ValueError, match="up"):
        RotationPrior("m", [MaxMixturePose(*tensors(mixture(2, 72)))])


def test_to_changes_the_number_type():
    prior = load("gmm", dtype=torch.float64, up=UP)
    single = prior.to(dtype=torch.float32, device="cpu")
    latent = prior.encode(poses(2))
    assert prior.modes().rotations.dtype == torch.float64
    assert single.modes().rotations.dtype == torch.float32
    terms = single.terms(latent.float(), jacobian=True)
    for a, b in zip(prior.terms(latent, jacobian=True), terms, strict=True):
        assert b.residual.dtype == b.jacobian.dtype == torch.float32
        torch.testing.assert_close(a.residual.float(), b.residual, rtol=1e-3, atol=1e-3)


# --- load ---


@pytest.mark.parametrize("name", CLASSICAL)
def test_built_in_names(name):
    prior = load(name)
    assert prior.name == name
    assert prior.step_blocks == {"root": 3, "pose": 69, "shape": 10}
    assert load(name, num_betas=16).step_blocks["shape"] == 16
    modes = prior.modes()
    assert modes.rotations.dtype == torch.float32
    assert len(modes.rotations) == (8 if name == "gmm" else 1)
    # what is likely is near what the limits allow
    residual = the(prior.terms(prior.encode(modes), jacobian=False), "limits").residual
    assert residual.abs().max() < 10


class _Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its str."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def _save_str_of_python_2(self, data: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(data)

    dispatch[bytes] = _save_str_of_python_2


def write_gmm_08(path, means, covars, weights):
    """As Python 2 wrote SMPLify's file."""
    stream = io.BytesIO()
    table = {"means": means, "covars": covars, "weights": weights}
    _Python2Pickler(stream, 2).dump(table)
    path.write_bytes(stream.getvalue().replace(b"cnumpy._core.", b"cnumpy.core."))
    return path


@pytest.mark.parametrize("components", [1, 8])
def test_gmm_08_of_python_2(tmp_path, components):
    arrays = mixture(components)
    path = write_gmm_08(tmp_path / "gmm_08.pkl", *arrays)
    for got, expected in zip(read_mixture(path), arrays, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-14)
    prior = load(str(path), dtype=torch.float64)
    assert prior.name == "gmm_08"
    pose = poses(1)
    got = energy(the(prior.terms(prior.encode(pose), jacobian=False), "pose"))
    x = twin.body_numbers(pose.rotations[0].numpy())
    expected = twin.max_mixture_energy(x, *arrays) - twin.least_constant(*arrays[1:])
    assert float(got) == pytest.approx(expected, rel=1e-9)


def test_npz_and_newer_pickles(tmp_path):
    means, covars, weights = arrays = mixture(3)
    np.savez(tmp_path / "a.npz", means=means, covars=covars, weights=5 * weights)
    table = {"means": means, "covars": covars, "weights": weights}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(table, protocol=5))
    for name in ("a.npz", "a.pkl"):
        for got, expected in zip(read_mixture(tmp_path / name), arrays, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-14)


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def refused(path, match):
    with pytest.raises(InputError, match=match) as caught:
        load(str(path))
    line = str(caught.value)
    assert "\n" not in line
    assert path.name in line
    return line


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_runs_code_is_refused_unrun(tmp_path, protocol):
    mark = tmp_path / "was_here"
    table = {"means": Evil(mark), "covars": 1, "weights": 1}
    (tmp_path / "gmm.pkl").write_bytes(pickle.dumps(table, protocol=protocol))
    assert "system" in refused(tmp_path / "gmm.pkl", "refused")
    assert not mark.exists()


def test_an_npz_with_objects_is_refused_unrun(tmp_path):
    mark = tmp_path / "was_here"
    _, covars, weights = mixture(2)
    evil = np.array([Evil(mark)], dtype=object)
    np.savez(tmp_path / "gmm.npz", means=evil, covars=covars, weights=weights)
    refused(tmp_path / "gmm.npz", "cannot be read")
    assert not mark.exists()


def broken_mixtures():
    means, covars, weights = mixture(3)
    nan = means.copy()
    nan[1, 5] = np.nan
    infinite = covars.copy()
    infinite[0, 0, 0] = np.inf
    flat = covars.copy()
    flat[2] = -np.eye(69)
    negative = np.array([0.5, 0.7, -0.2])
    return {
        "narrow": (means[:, :63], covars[:, :63, :63], weights, "do not fit"),
        "wide": (*mixture(3, 75), "do not fit"),
        "counts": (means[:2], covars, weights, "do not fit"),
        "scalar": (np.float64(1.0), covars, weights, "do not fit"),
        "flat": (means.ravel(), covars, weights, "do not fit"),
        "diagonal": (means, covars[:, 0], weights, "do not fit"),
        "empty": (means[:0], covars[:0], weights[:0], "mixture"),
        "nan": (nan, covars, weights, "NaN"),
        "infinite": (means, infinite, weights, "NaN or infinite"),
        "not positive definite": (means, flat, weights, "positive definite"),
        "negative weight": (means, covars, negative, "weight not positive"),
        "text": (np.array(["a"]), covars, weights, "not numbers"),
    }


@pytest.mark.parametrize("kind", broken_mixtures())
@pytest.mark.parametrize("ending", ["npz", "pkl"])
def test_broken_mixtures_are_refused_in_one_line(tmp_path, kind, ending):
    means, covars, weights, match = broken_mixtures()[kind]
    table = {"means": means, "covars": covars, "weights": weights}
    path = tmp_path / f"gmm.{ending}"
    if ending == "npz":
        np.savez(path, **table)
    else:
        path.write_bytes(pickle.dumps(table, protocol=2))
    refused(path, match)


@pytest.mark.parametrize("ending", ["npz", "pkl"])
@pytest.mark.parametrize("content", [b"", b"no such thing", b"PK\x03\x04 cut", b"\x80\x02}q\x00("])
def test_damaged_files_are_refused_in_one_line(tmp_path, ending, content):
    path = tmp_path / f"gmm.{ending}"
    path.write_bytes(content)
    refused(path, "cannot be read|holds no")


def test_cut_files_are_refused_in_one_line(tmp_path):
    means, covars, weights = mixture(2)
    np.savez_compressed(tmp_path / "a.npz", means=means, covars=covars, weights=weights)
    write_gmm_08(tmp_path / "a.pkl", means, covars, weights)
    for name in ("a.npz", "a.pkl"):
        path = tmp_path / name
        data = path.read_bytes()
        for share in (0.2, 0.6, 0.99):
            path.write_bytes(data[: int(share * len(data))])
            refused(path, "cannot be read")
    # damage inside: the zip's own checksum finds it
    broken = bytearray(data)
    np.savez_compressed(tmp_path / "a.npz", means=means, covars=covars, weights=weights)
    broken = bytearray((tmp_path / "a.npz").read_bytes())
    broken[300:340] = bytes(40)
    (tmp_path / "a.npz").write_bytes(broken)
    refused(tmp_path / "a.npz", "cannot be read")


def test_other_content_is_refused_in_one_line(tmp_path):
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    refused(tmp_path / "list.pkl", "no named arrays")
    (tmp_path / "other.pkl").write_bytes(pickle.dumps({"v_template": 1, "weights": 2}))
    assert "means, covars" in refused(tmp_path / "other.pkl", "is not a pose mixture")
    np.savez(tmp_path / "other.npz", poses=np.zeros(3))
    refused(tmp_path / "other.npz", "it has poses")
    refused(tmp_path / "missing.pkl", "built in are keypoint-flow")
    np.save(tmp_path / "single.npy", np.zeros(3))
    (tmp_path / "single.npy").rename(tmp_path / "single.npz")
    refused(tmp_path / "single.npz", "single.npz")


# --- motion capture ---


def sequence(path, frames=5, width=72, value=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    poses = np.random.default_rng(frames).normal(size=(frames, width))
    if value is not None:
        poses[2, 7] = value
    np.savez(path, poses=poses, trans=np.zeros((frames, 3)))
    return path


@pytest.mark.parametrize("width", [72, 156, 165])
def test_mocap_widths(tmp_path, width):
    path = sequence(tmp_path / "a.npz", width=width)
    got = read_sequence(path)
    assert got.shape == (5, 24, 3)
    raw = np.load(path)["poses"]
    np.testing.assert_array_equal(got[:, :22].reshape(5, 66), raw[:, :66])
    if width == 72:
        np.testing.assert_array_equal(got.reshape(5, 72), raw)
    else:
        assert not got[:, 22:].any()


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"width": 63}, "shape"),
        ({"frames": 0}, "no frames"),
        ({"value": np.nan}, "frame 2"),
        ({"value": np.inf}, "frame 2"),
    ],
)
def test_mocap_that_cannot_be_used(tmp_path, how, match):
    path = sequence(tmp_path / "a.npz", **how)
    with pytest.raises(InputError, match=match) as caught:
        read_mocap(path)
    assert "\n" not in str(caught.value)
    assert "a.npz" in str(caught.value)


def test_mocap_files_that_are_something_else(tmp_path):
    np.savez(tmp_path / "other.npz", trans=np.zeros(3))
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.savez(tmp_path / "flat.npz", poses=np.zeros(72))
    np.savez(tmp_path / "words.npz", poses=np.array([["a"] * 72]))
    np.savez(tmp_path / "objects.npz", poses=np.array([{}], dtype=object))
    cut = sequence(tmp_path / "cut.npz", frames=200)
    cut.write_bytes(cut.read_bytes()[:1000])
    for name in ("other", "text", "empty", "flat", "words", "objects", "cut", "missing"):
        with pytest.raises(InputError) as caught:
            read_sequence(tmp_path / f"{name}.npz")
        assert "\n" not in str(caught.value)
        assert f"{name}.npz" in str(caught.value)
    np.save(tmp_path / "bare.npy", np.zeros((3, 72)))
    (tmp_path / "bare.npy").rename(tmp_path / "bare.npz")
    with pytest.raises(InputError, match=r"bare\.npz"):
        read_sequence(tmp_path / "bare.npz")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="no AMASS files"):
        read_mocap(tmp_path / "nothing")


def test_mocap_folder_and_its_actions(tmp_path):
    for name, frames in (("walk/a", 3), ("walk/b", 4), ("run/c", 5)):
        sequence(tmp_path / f"{name}.npz", frames)
    mocap = read_mocap(tmp_path)
    assert len(mocap) == 12
    assert mocap.names == ("c", "a", "b")
    assert mocap.actions == ("run", "walk", "walk")
    assert mocap.sequence.tolist() == [0] * 5 + [1] * 3 + [2] * 4
    raw = np.load(tmp_path / "walk/b.npz")["poses"]
    np.testing.assert_array_equal(mocap.poses[mocap.sequence == 2].reshape(4, 72), raw)


@pytest.mark.parametrize("wrapped", [False, True])
def test_index_names_the_actions(tmp_path, wrapped):
    for name in ("x/a", "x/b", "x/c"):
        sequence(tmp_path / f"{name}.npz")
    records = [{"file": "x/a.npz", "action": "sit"}, {"file": "x/b.npz", "action": "dance"}]
    content = {"sequences": records} if wrapped else records
    (tmp_path / "index.json").write_text(json.dumps(content))
    assert read_mocap(tmp_path).actions == ("sit", "dance", "x")


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '[{"file": "a"}]', '{"sequences": 3}'])
def test_a_broken_index_is_as_none(tmp_path, text):
    sequence(tmp_path / "x/a.npz")
    (tmp_path / "index.json").write_text(text)
    assert read_mocap(tmp_path).actions == ("x",)


def test_balanced_weights(tmp_path):
    for name, frames in (("walk/a", 60), ("walk/b", 40), ("run/c", 4), ("sit/d", 1)):
        sequence(tmp_path / f"{name}.npz", frames)
    mocap = read_mocap(tmp_path)
    weights = mocap.balanced_weights()
    assert weights.shape == (105,)
    assert weights.sum() == pytest.approx(1)
    actions = np.array(mocap.actions)[mocap.sequence]
    shares = [weights[actions == a].sum() for a in ("sit", "run", "walk")]
    # half way between frames (1 : 4 : 100) and equal: the square roots
    np.testing.assert_allclose(np.array(shares) / shares[0], [1, 2, 10])
    for a, b in pairwise(np.flatnonzero(actions == "walk")):
        assert weights[a] == pytest.approx(weights[b])


def test_the_development_mocap(shared):
    mocap = read_mocap(sorted((shared / "mocap" / "test").glob("*.npz"))[:3])
    assert len(mocap.names) == 3
    assert np.isfinite(mocap.poses).all()
    assert mocap.balanced_weights().sum() == pytest.approx(1)
