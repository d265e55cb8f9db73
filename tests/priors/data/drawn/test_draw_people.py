"""Pictures of made-up people: they show the people that the labels tell of."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from flowfit.models.body_files import find_body
from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.keypoints import BODY25
from flowfit.models.kinematics import joint_index
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.data.datasets.files import read_dataset
from flowfit.priors.data.drawn import backdrops
from flowfit.priors.data.drawn.appearance import Wardrobe, light, vertex_normals
from flowfit.priors.data.drawn.draw_people import Look, PeopleDrawer, project_to_crop
from flowfit.priors.data.drawn.picture_sets import PictureMaker, PictureSettings, make_picture_set
from flowfit.priors.data.drawn.rasterize import rasterize
from flowfit.priors.data.people.mocap import Mocap
from flowfit.priors.data.people.synthetic import PeopleMaker
from flowfit.priors.data.pictures.crops import crop_box


@pytest.fixture(scope="module")
def body():
    return find_body("open-low")


@pytest.fixture(scope="module")
def mocap():
    random = np.random.default_rng(0)
    return Mocap(0.2 * random.normal(size=(30, 24, 3)), np.zeros(30, int), ("one",), ("walk",))


@pytest.fixture(scope="module")
def maker(body, mocap):
    settings = PictureSettings(count=20, size=64, seed=3)
    return PictureMaker(body, body, mocap, settings)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make_people(body, mocap, count=12, seed=0):
    poses = axis_angle_to_matrix(torch.from_numpy(mocap.poses).float())
    return PeopleMaker(body, poses).draw(count, generator(seed))


def test_the_same_number_gives_the_same_pictures(maker):
    one, again, other = maker.part(3), maker.part(3), maker.part(4)
    assert torch.equal(one.images, again.images)
    assert torch.equal(one.people.keypoints, again.people.keypoints)
    assert not torch.equal(one.images, other.images)


def test_keypoints_lie_on_the_drawn_body(body, mocap):
    people = make_people(body, mocap)
    box = crop_box(people.keypoints, people.confidence)
    vertices = body.vertices(people.betas, people.rotations, people.transl)
    covered = rasterize(project_to_crop(vertices, people.camera, box, 128), body.faces, 128)[0] >= 0
    # joints inside limbs; the truth, not what the detector made of it
    names = [n for n in BODY25.names if n.endswith(("Knee", "Elbow", "Shoulder"))]
    points = body.keypoints(people.betas, people.rotations, BODY25, people.transl)
    place = project_to_crop(points, people.camera, box, 128)[:, BODY25.indices(names), :2]
    inside = ((place >= 0) & (place < 128)).all(-1)
    row, column = place[..., 1].clamp(0, 127).long(), place[..., 0].clamp(0, 127).long()
    hit = covered[torch.arange(len(covered))[:, None], row, column]
    assert inside.sum() > 40
    assert hit[inside].float().mean() > 0.97


def test_pictures_show_people_where_the_mesh_is(body, mocap):
    """With nothing behind or before them, what differs from the backdrop is the silhouette."""
    people = make_people(body, mocap, 4)
    drawer = PeopleDrawer(body, 64, look=Look(occluded=0.0))
    shown = drawer.draw(people, generator(1))
    box = shown.box
    vertices = body.vertices(people.betas, people.rotations, people.transl)
    away = people._replace(transl=people.transl + torch.tensor([1000.0, 0, 0]))
    # nobody in the same crop: the same random numbers paint the same backdrop
    keypoints = people.keypoints
    empty = drawer.draw(away._replace(keypoints=keypoints), generator(1))
    changed = (shown.images.int() - empty.images.int()).abs().amax(1) > 60
    covered = rasterize(project_to_crop(vertices, people.camera, box, 64), body.faces, 64)[0] >= 0
    for row in range(4):
        if changed[row].sum() > 50:
            assert (changed[row] & covered[row]).sum() / changed[row].sum() > 0.9


def test_outside_the_photograph_is_black(body, mocap):
    people = make_people(body, mocap, 8)
    corner = people.size / 2 - people.camera.center
    assert not corner.any()
    # the frame ends at the right side of each person's box
    box = crop_box(people.keypoints, people.confidence)
    people = people._replace(size=torch.stack((box.center[:, 0], people.size[:, 1]), -1))
    images = PeopleDrawer(body, 64).draw(people, generator()).images
    assert not images[..., 33:].any()
    assert images[..., :31].float().mean() > 5


def test_an_occluder_hides_the_keypoints_behind_it(body, mocap):
    people = make_people(body, mocap, 40)
    drawer = PeopleDrawer(body, 32, look=Look(occluded=1.0, hidden=1.0))
    covered = drawer.draw(people, generator()).people.confidence
    clear = PeopleDrawer(body, 32, look=Look(occluded=0.0)).draw(people, generator())
    assert torch.equal(clear.people.confidence, people.confidence)
    lost = (people.confidence > 0) & (covered == 0)
    assert 0.03 < lost.sum() / (people.confidence > 0).sum() < 0.7
    assert torch.equal(covered[~lost], people.confidence[~lost])


def test_clothes_follow_the_parts_of_the_body(body):
    wardrobe = Wardrobe(body)
    colours = wardrobe.colours(200, generator())
    assert colours.shape == (200, body.num_vertices, 3)
    assert colours.min() >= 0
    assert colours.max() <= 1
    head, foot = (body.surface.skinning[:, joint_index(n)] > 0.9 for n in ("head", "left_ankle"))
    face = head & ~wardrobe.hair
    hands = body.surface.skinning[:, joint_index("left_hand")] > 0.9
    plain = (colours[:, face].std(1) < 1e-4).all(-1)  # the others are painted all over
    assert plain.float().mean() > 0.8
    same_skin = (colours[plain][:, face][:, 0] - colours[plain][:, hands][:, 0]).abs().amax(-1)
    assert (same_skin < 1e-5).all()
    shod = (colours[plain][:, face][:, 0] - colours[plain][:, foot][:, 0]).abs().amax(-1)
    assert (shod > 0.02).float().mean() > 0.6
    # the scalp is above and behind, not the nose
    assert not wardrobe.hair[body.vertex_ids["nose"]]
    rest = body.surface.template
    assert wardrobe.hair[rest[:, 1].argmax()]


def test_normals_point_outwards_and_light_comes_from_above(body):
    vertices = body.vertices(torch.zeros(1, 10), torch.eye(3).expand(1, 24, 3, 3))
    normals = vertex_normals(vertices, body.faces)
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(1, body.num_vertices))
    nose, back = body.vertex_ids["nose"], int(vertices[0, :, 2].argmin())
    assert normals[0, nose, 2] > 0.5
    assert normals[0, back, 2] < -0.5
    up = torch.tensor([0.0, -1.0, 0.0]).expand(400, 1, 3)  # y points down
    above, below = (light(n, generator(2)).mean() for n in (up, -up))
    assert above > 1.2 * below


def test_backdrops_are_pictures(body):
    made = backdrops.backdrop(6, 40, generator())
    assert made.shape == (6, 3, 40, 40)
    assert made.min() >= 0
    assert made.max() <= 1
    assert made.std((-1, -2)).mean() > 0.05
    assert torch.equal(made, backdrops.backdrop(6, 40, generator()))
    noise = backdrops.smooth_noise(2, 40, 8, generator())
    assert (noise.diff(dim=-1).abs().max()) < 0.25  # smooth: a cell is five pixels


def test_a_set_on_disk_tells_the_truth_about_its_pictures(maker, body, tmp_path):
    path = make_picture_set(tmp_path / "set", maker, progress=False)
    people = read_dataset(path)
    assert len(people) == 20
    assert people.has_pose.all()
    size = maker.settings.file_size
    picture = cv2.imread(str(people.path(7)))
    assert picture.shape == (size, size, 3)
    made = maker.part(0)
    drawn = made.images[7].permute(1, 2, 0).numpy()[..., ::-1]
    assert np.abs(picture.astype(int) - drawn).mean() < 12  # JPEG
    # the written bodies, through the written cameras, are at the written keypoints
    camera = Camera(torch.tensor(people.focal).float(), torch.tensor(people.principal).float())
    rotations = axis_angle_to_matrix(torch.tensor(people.pose).float())
    points = body.keypoints(
        torch.tensor(people.betas).float(), rotations, BODY25, torch.tensor(people.transl).float()
    )
    pixels = camera.project(points)[0]
    box = made.box
    wanted = made.people.true_keypoints - (box.center - box.side[:, None] / 2)[:, None]
    wanted = wanted * (size / box.side)[:, None, None]
    torch.testing.assert_close(pixels[:16], wanted, atol=0.02, rtol=1e-3)
    assert people.side == pytest.approx(64)


def test_a_set_goes_on_where_it_was_stopped(maker, tmp_path, monkeypatch):
    whole = make_picture_set(tmp_path / "whole", maker, progress=False)
    part, calls = maker.part, []

    def stops(number, *rest):
        calls.append(number)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return part(number, *rest)

    monkeypatch.setattr(maker, "part", stops)
    with pytest.raises(KeyboardInterrupt):
        make_picture_set(tmp_path / "cut", maker, progress=False)
    assert not (tmp_path / "cut" / "people.npz").exists()
    cut = make_picture_set(tmp_path / "cut", maker, progress=False)
    assert calls == [0, 1, 1]
    with np.load(whole) as a, np.load(cut) as b:
        assert a.files == b.files
        assert all(np.array_equal(a[k], b[k]) for k in a.files)
    assert sorted(p.name for p in (tmp_path / "cut").iterdir()) == [
        "people.json", "people.npz", "pictures",
    ]  # fmt: skip


def test_a_set_of_other_settings_is_not_mixed_in(maker, body, mocap, tmp_path):
    make_picture_set(tmp_path, maker, progress=False)
    other = PictureMaker(body, body, mocap, replace(maker.settings, seed=9))
    with pytest.raises(InputError, match="other settings"):
        make_picture_set(tmp_path, other, progress=False)
    assert json.loads((tmp_path / "people.json").read_text())["seed"] == 3
