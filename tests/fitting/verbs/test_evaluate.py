"""`flowfit evaluate`: made-up pictures, dataset files, several views, and going on."""

import json
import pickle

import cv2
import numpy as np
import pytest
import torch

from flowfit import evaluate
from flowfit.fitting.cli.main import main
from flowfit.fitting.evaluation.people import SMPL, field_joints
from flowfit.fitting.evaluation.prohmr_views import averaged, energy_and_gradient, refined
from flowfit.fitting.evaluation.synthetic import SyntheticPeople, drawn_poses
from flowfit.fitting.evaluation.table import summarise
from flowfit.fitting.evaluation.ways import Way
from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.metrics import mpjpe, pa_mpjpe
from flowfit.models.rotations import matrix_to_axis_angle
from flowfit.priors.base import Pose
from flowfit.priors.data.datasets.files import write_dataset
from flowfit.priors.data.datasets.people import SCHEMA, build
from flowfit.priors.data.datasets.registry import LSP_JOINTS
from flowfit.priors.data.pictures.crops import crop_box
from flowfit.priors.load import load
from tests.picture_posteriors import write_image_posterior, write_prohmr_checkpoint


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(write_image_posterior(tmp_path_factory.mktemp("image")))


def source(body, **changes):
    how = {
        "sets": ("plain", "truncated"), "count": 5, "together": 4, "size": 48, "seed": 3,
        "dtype": torch.float64, "device": "cpu",
    }  # fmt: skip
    return SyntheticPeople(body, body, drawn_poses(0)[:50], None, **(how | changes))


def test_drawn_poses_stand_in_the_world():
    """Heads are above pelvises, y up, of nearly all."""
    poses = drawn_poses(0)
    up = poses[:, 0] @ torch.tensor([0.0, 1.0, 0.0])
    assert (up[:, 1] > 0).float().mean() > 0.8


def test_parts_repeat_and_differ(body):
    people = source(body)
    assert people.parts("plain") == 2
    first, last = people.part("plain", 0)[0], people.part("plain", 1)[0]
    assert len(first.names) == 4
    assert len(last.names) == 1
    again = source(body).part("plain", 0)[0]
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.truth, again.truth)
    for other in (source(body, seed=4).part("plain", 0)[0], people.part("truncated", 0)[0]):
        assert not torch.equal(first.truth, other.truth)
    assert first.images.shape == (4, 3, 48, 48)
    assert 0 <= first.images.min() < first.images.max() <= 1
    # true keypoints are without error and know no occluders; detected ones are near them
    both = (first.detected.confidence > 0) & (first.annotated.confidence > 0)
    apart = (first.detected.keypoints - first.annotated.keypoints).norm(dim=-1)[both]
    assert 0 < apart.median() < 0.05 * first.box.side.max()


def test_errors_are_the_fields(body, make_crowd):
    crowd = make_crowd(3)
    truth = SMPL.of(body, crowd.betas, crowd.rotations)
    generator = torch.Generator().manual_seed(0)
    found = truth + 0.03 * torch.randn(truth.shape, generator=generator, dtype=torch.float64)
    known = torch.ones(truth.shape[:2], dtype=torch.bool)
    errors = SMPL.errors(found, truth, known)
    places = SMPL.schema.indices(SMPL.names)
    root = SMPL.schema.index("pelvis")
    moved = found - found[:, [root]] + truth[:, [root]]
    wanted = 1000 * (moved - truth)[:, places].norm(dim=-1).mean(-1)
    assert torch.allclose(errors["mpjpe"], wanted)
    assert torch.allclose(errors["pa_mpjpe"], 1000 * pa_mpjpe(found[:, places], truth[:, places]))
    whole = 1000 * mpjpe(found, truth, root)
    assert not torch.allclose(errors["mpjpe"], whole)  # 14 joints, not 24


def test_unknown_joints_do_not_count(body, make_crowd):
    joints = field_joints(LSP_JOINTS)
    crowd = make_crowd(3)
    truth = joints.of(body, crowd.betas, crowd.rotations)
    known = truth.isfinite().all(-1)
    places = SCHEMA.indices(LSP_JOINTS)
    known[1, places[0]] = False
    known[2, places[2:]] = False
    found = truth.clone()
    found[:, places[0]] += 0.5
    errors = joints.errors(found, truth, known)
    assert errors["mpjpe"][0].item() == pytest.approx(1000 * 0.5 * 3**0.5 / 14)
    assert errors["mpjpe"][1].item() == pytest.approx(0, abs=1e-6)
    assert errors["mpjpe"][2].isnan()
    assert errors["pa_mpjpe"][2].isnan()


def test_a_failed_fit_is_counted():
    way = Way("keypoints", "flow")
    part = {
        "names": ["a", "b", "c"],
        "ways": {
            way.key: {
                "pa_mpjpe": [10.0, None, 30.0], "mpjpe": [1.0, None, 3.0],
                "turned": [50.0, None, 10.0], "failed": [0.0, 1.0, 0.0], "seconds": 3.0,
            }
        },
        "best_of": {},
        "nll": {},
        "views": {},
        "passed_over": [],
    }  # fmt: skip
    (row,) = summarise([part, part], [way])["rows"]
    assert row["people"] == 6
    assert row["failed"] == 2
    assert row["pa_mpjpe_mm"] == 20
    assert row["turned_share"] == 0.5
    assert row["cpu_ms"] == 1000


def test_quick_ends_with_json(weights, capsys):
    arguments = ["evaluate", "synthetic", "--quick", "--people", "3", "--prior", weights]
    assert main([*arguments, "--body", "open-low"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(last) == [
        "mean_pose", "image_mode", "image_keypoints_mode", "image_smplify", "image_fit",
    ]  # fmt: skip
    assert all(20 < value < 400 for value in last.values())


@pytest.fixture(scope="module")
def evaluated(weights, tmp_path_factory):
    """A whole evaluation of very few people, and the folder it wrote."""
    out = tmp_path_factory.mktemp("evaluated")
    mocap = out / "mocap"
    mocap.mkdir()
    poses = matrix_to_axis_angle(drawn_poses(1)[:40]).flatten(1).numpy()
    np.savez(mocap / "drawn.npz", poses=poses)
    how = {
        "prior": weights, "people": 2, "mocap": mocap, "body": "open-low", "samples": (1, 3),
        "sets": ("truncated",), "keypoints": ("detected",), "recipes": ("regression", "smplify"),
    }  # fmt: skip
    return evaluate("synthetic", out / "e", **how), out / "e", how


def test_tables(evaluated):
    done, out, _ = evaluated
    rows = {row["way"]: row for row in done.content["sets"]["truncated"]["rows"]}
    assert {
        "nothing/mean/detected", "image/regression/detected", "keypoints/regression/detected",
        "image+keypoints/regression/detected", "image/smplify/detected",
    } == set(rows)  # fmt: skip
    best = done.content["sets"]["truncated"]["best_of_pa_mpjpe_mm"]
    assert best["image"]["1"] == pytest.approx(rows["image/regression/detected"]["pa_mpjpe_mm"])
    assert best["image"]["3"] <= best["image"]["1"]
    assert json.loads((out / "evaluation.json").read_text())["sets"]
    assert "best of 3" in (out / "evaluation.md").read_text()
    nats = done.content["sets"]["truncated"]["nll_nats"]
    assert all(-1000 < value < 10_000 for value in nats.values())
    assert nats["keypoints"] < nats["image"]  # whose network is random
    told = rows["keypoints/regression/detected"]["pa_mpjpe_mm"]
    assert told < rows["nothing/mean/detected"]["pa_mpjpe_mm"]


def test_it_goes_on_and_does_not_mix(evaluated):
    done, out, how = evaluated
    (part,) = (out / "parts").glob("*.json")
    content = json.loads(part.read_text())
    content["ways"]["nothing/mean/detected"]["pa_mpjpe"] = [111.0] * 2
    part.write_text(json.dumps(content))
    again = evaluate("synthetic", out, **how)  # what is there is taken as it is
    assert again.content["sets"]["truncated"]["rows"][0]["pa_mpjpe_mm"] == 111
    part.write_text("cut off {")
    anew = evaluate("synthetic", out, **how)
    first, last = (e.content["sets"]["truncated"]["rows"] for e in (done, anew))
    assert [r["pa_mpjpe_mm"] for r in first] == [r["pa_mpjpe_mm"] for r in last]
    with pytest.raises(InputError, match="another seed"):
        evaluate("synthetic", out, **how, seed=1)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["synthetic"], "--mocap"),
        (["nope"], "no dataset 'nope'"),
        (["3dpw-test"], "3dpw_test.npz"),
        (["synthetic", "--quick", "--recipes", "nope"], "recipe 'nope'"),
        (["synthetic", "--quick", "--people", "0"], "1 or more"),
        (["synthetic", "--quick", "--prior", "gmm"], "looks at nothing"),
    ],
)
def test_mistakes_are_one_line(arguments, word, capsys, tmp_path):
    if "--prior" not in arguments:
        arguments = [*arguments, "--prior", "keypoint-flow"]
    assert main(["evaluate", *arguments, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert word in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.fixture
def dataset(tmp_path, body, make_crowd):
    """Two moments that two views each show, and somebody whose picture is missing."""
    crowd = make_crowd(5, noise=0.0)
    points = body.keypoints(crowd.betas, crowd.rotations, SCHEMA, crowd.transl)
    known = points.isfinite().all(-1)
    pixels = crowd.problem.camera.project(points.nan_to_num())[0] * known[..., None]
    confidence = known.double()
    for row in range(4):
        shade = np.full((480, 640, 3), 40 * row, np.uint8)
        cv2.imwrite(str(tmp_path / f"{row}.png"), shade)
    box = crop_box(pixels, confidence)
    people = build(
        "made", tmp_path, [f"{row}.png" for row in range(5)], box.center.numpy(), box.side.numpy(),
        {
            "keypoints": pixels.numpy(), "confidence": confidence.numpy(),
            "points": points.nan_to_num().numpy(), "points_confidence": confidence.numpy(),
            "pose": matrix_to_axis_angle(crowd.rotations).numpy(), "betas": crowd.betas.numpy(),
            "has_pose": np.ones(5, bool), "has_betas": np.ones(5, bool),
            "focal": np.full((5, 2), 800.0),
        },
    )  # fmt: skip
    write_dataset(tmp_path / "made.npz", people)
    return tmp_path / "made.npz"


def test_a_dataset_file(dataset, weights, capsys):
    done = evaluate(
        str(dataset), prior=weights, body="open-low", samples=(), recipes=("regression",)
    )
    assert done.content["missing_pictures"] == ["4.png"]
    (one,) = done.content["sets"].values()
    assert one["people"] == 4
    rows = {row["way"]: row for row in one["rows"]}
    assert rows["image/regression/detected"]["people"] == 4
    assert rows["keypoints/regression/annotated"]["pa_mpjpe_mm"] < 80


def test_a_list_of_views(dataset, tmp_path):
    with np.load(dataset) as data:
        arrays = {k: data[k] for k in data.files}
    arrays["scale"] = arrays["scale"] / 1.2  # the reader enlarges these boxes
    frames = [{k: v[rows] for k, v in arrays.items()} for rows in ([0, 1],)]
    (tmp_path / "made.pkl").write_bytes(pickle.dumps(frames))
    done = evaluate(
        str(tmp_path / "made.pkl"), prior="keypoint-flow", body="open-low", samples=(),
        recipes=("regression",), keypoints=("detected",),
    )  # fmt: skip
    (one,) = done.content["sets"].values()
    assert [view["how"] for view in one["views"]] == [
        "each alone", "averaged", "ProHMR's refinement",
    ]  # fmt: skip
    alone = one["views"][0]
    assert alone["people"] == 2
    row = next(r for r in one["rows"] if r["way"] == "keypoints/regression/detected")
    assert alone["pa_mpjpe_mm"] == pytest.approx(row["pa_mpjpe_mm"])


def test_views_show_one_body(body):
    people = source(body, sets=("views",), count=8).part("views", 0)[0]
    assert people.frame.tolist() == [0, 0, 0, 0]
    truth = people.truth[:, SMPL.schema.indices(SMPL.names)]
    for view in (1, 2, 3):
        assert pa_mpjpe(truth[view], truth[0]) < 1e-6
        turned = people.pose.rotations[view, 0] @ people.pose.rotations[0, 0].T
        assert turned[1, 1] == pytest.approx(1, abs=1e-5)  # about the picture's upright
    assert mpjpe(truth[2], truth[0], 0) > 0.1


def test_a_keypoint_posterior_alone(dataset):
    done = evaluate(
        str(dataset), prior="keypoint-flow", body="open-low", samples=(), people=2,
        recipes=("flow", "smplify"), keypoints=("annotated",),
    )  # fmt: skip
    (one,) = done.content["sets"].values()
    assert [r["way"].removesuffix("/annotated") for r in one["rows"]] == [
        "nothing/mean/detected", "keypoints/regression", "keypoints/flow", "keypoints/smplify",
    ]  # fmt: skip
    assert one["people"] == 2
    _, mode, fitted, _ = (row["pa_mpjpe_mm"] for row in one["rows"])
    assert fitted < mode
    assert fitted < 50


def test_prohmrs_checkpoint(dataset, tmp_path):
    done = evaluate(
        str(dataset), prior=str(write_prohmr_checkpoint(tmp_path)), body="open-low", samples=(1, 2),
        recipes=("smplify",), keypoints=("annotated",), people=1,
    )  # fmt: skip
    (one,) = done.content["sets"].values()
    assert [row["way"] for row in one["rows"]] == [
        "nothing/mean/detected", "image/regression/detected", "keypoints/regression/annotated",
        "image/smplify/annotated",
    ]  # fmt: skip
    assert one["nll_nats"]["image"] is None  # its flow knows no shapes
    assert "| picture |  |" in done.markdown


def test_averaged_views_share_their_body(make_crowd):
    crowd = make_crowd(3)
    pose = averaged(Pose(crowd.rotations, crowd.betas))
    assert torch.equal(pose.rotations[:, 0], crowd.rotations[:, 0])
    assert torch.allclose(pose.rotations[0, 1:], pose.rotations[2, 1:])
    same = Pose(crowd.rotations[:1].expand(3, -1, -1, -1), crowd.betas[:1].expand(3, -1))
    assert torch.allclose(averaged(same).rotations, same.rotations)


def test_refinement_lowers_prohmrs_energy_and_brings_views_together(make_crowd, body):
    crowd = make_crowd(2)
    model = load("keypoint-flow", dtype=torch.float64)
    problem = crowd.problem
    given = model.given(
        problem.schema, problem.keypoints, problem.confidence,
        Camera(problem.camera.focal.expand(2, 2), problem.camera.center.expand(2, 2)), body,
    )  # fmt: skip
    start = given.decode(given.start().latent)
    pose = refined(given)

    def spread(p):
        return (p.rotations[:, 1:] - p.rotations[:, 1:].mean(0)).square().sum()

    assert spread(pose) < 0.05 * spread(start)
    latent = given.encode(pose)
    before, _ = energy_and_gradient(given.flow, given.start().latent)
    after, gradient = energy_and_gradient(given.flow, latent)
    assert after < 0.2 * before
    # the gradient, against differences
    step = torch.randn(latent.shape, generator=torch.Generator().manual_seed(0)).double()
    ahead, behind = (energy_and_gradient(given.flow, latent + h * step)[0] for h in (1e-6, -1e-6))
    assert ((ahead - behind) / 2e-6).item() == pytest.approx(
        (gradient * step).sum().item(), rel=1e-3
    )
