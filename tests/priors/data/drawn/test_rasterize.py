"""The z-buffer against a slow twin, against geometry, and against the drawing engines."""

import numpy as np
import pytest
import torch

from flowfit.fitting.drawing.render import Shape, available_engine, render
from flowfit.models.body_files import find_body
from flowfit.models.kinematics import JOINT_NAMES
from flowfit.priors.data.drawn.rasterize import rasterize
from tests.references import raster_twin

WORKING = available_engine()[0]


def random_triangles(count, size, seed):
    generator = torch.Generator().manual_seed(seed)
    middles = size * (1.4 * torch.rand(count, 1, 2, generator=generator) - 0.2)
    corners = middles + 0.3 * size * torch.randn(count, 3, 2, generator=generator)
    depth = 1 + 3 * torch.rand(count, 3, 1, generator=generator)
    points = torch.cat((corners, depth), -1).flatten(0, 1)
    return points, torch.arange(3 * count).view(count, 3)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_slow_twin(seed):
    points, faces = random_triangles(12, 24, seed)
    seen, weights = rasterize(points[None].double(), faces, 24)
    slow_seen, slow_weights = raster_twin.rasterize(points.double().numpy(), faces.numpy(), 24)
    same = seen[0].numpy() == slow_seen
    assert (slow_seen >= 0).sum() > 50
    assert same.mean() > 0.99  # only on edges, which are widened by a thousandth of a pixel
    np.testing.assert_allclose(weights[0].numpy()[same], slow_weights[same], atol=1e-6)


def test_what_is_nearer_hides_what_is_farther():
    square = torch.tensor([[4.0, 4], [4, 28], [28, 28], [28, 4]])
    far = torch.cat((square, torch.full((4, 1), 3.0)), -1)
    near = torch.cat((square / 2 + 8, torch.full((4, 1), 2.0)), -1)
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    for points, order in ((torch.cat((far, near)), (0, 2)), (torch.cat((near, far)), (2, 0))):
        seen = rasterize(points[None], faces, 32)[0][0]
        assert (seen[10:22, 10:22] // 2 == order[1] // 2).all()
        assert (seen[4:10, 4:28] // 2 == order[0] // 2).all()
        assert (seen[:4] == -1).all()


def test_a_slanting_triangle_passes_through_an_upright_one():
    """Depth is compared in each pixel, not triangle by triangle."""
    upright = [[0.0, 0, 2], [0, 32, 2], [32, 32, 2], [32, 0, 2]]
    slanting = [[0.0, 0, 1], [0, 32, 1], [32, 32, 4], [32, 0, 4]]
    points = torch.tensor([upright + slanting])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    seen, weights = rasterize(points, faces, 32)
    # 1/z runs evenly over the picture: from 1 to 1/4, so it is 1/2 after two thirds
    assert (seen[0, :, :21] >= 2).all()
    assert (seen[0, :, 22:] < 2).all()
    depth = (weights[0] * points[0, faces[seen[0]], 2]).sum(-1)
    assert depth[5, 10] == pytest.approx(1 / (1 - 0.75 * 10.5 / 32), rel=1e-5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 32, 32))


def test_triangles_that_face_away_or_lie_behind_are_not_drawn():
    facing = torch.tensor([[[8.0, 8, 2], [8, 24, 2], [24, 24, 2]]])
    assert (rasterize(facing, torch.tensor([[0, 1, 2]]), 32)[0] >= 0).sum() > 100
    assert (rasterize(facing, torch.tensor([[0, 2, 1]]), 32)[0] == -1).all()
    behind = facing * torch.tensor([1.0, 1, -1])
    assert (rasterize(behind, torch.tensor([[0, 1, 2]]), 32)[0] == -1).all()


def test_pictures_do_not_mix():
    points, faces = random_triangles(40, 32, 5)
    others = points + torch.tensor([3.0, -2.0, 0.5])
    alone = rasterize(points[None], faces, 32)
    together = rasterize(torch.stack((others, points, others)), faces, 32)
    assert torch.equal(together[0][1], alone[0][0])
    torch.testing.assert_close(together[1][1], alone[1][0])


def posed_body(turn=0.0):
    """The low body upright before a camera of 300 pixels, turned about the vertical."""
    body = find_body("open-low")
    rotations = torch.eye(3).expand(1, 24, 3, 3).clone()
    cos, sin = float(np.cos(turn)), float(np.sin(turn))
    about = torch.tensor([[cos, 0, sin], [0, 1.0, 0], [-sin, 0, cos]])
    rotations[:, 0] = torch.diag(torch.tensor([1.0, -1, -1])) @ about
    vertices = body.vertices(torch.zeros(1, 10), rotations, torch.tensor([[0.0, -0.3, 3.0]]))
    return body, vertices


def to_pixels(vertices, focal=200.0, middle=80.0):
    xy = vertices[..., :2] / vertices[..., 2:] * focal + middle
    return torch.cat((xy, vertices[..., 2:]), -1)


@pytest.mark.parametrize(("turn", "right_is"), [(0.0, "left_"), (np.pi, "right_")])
def test_the_side_of_the_body_that_is_seen_is_the_right_one(turn, right_is):
    """Of a person who faces the camera the left arm is on the picture's right."""
    body, vertices = posed_body(turn)
    seen = rasterize(to_pixels(vertices), body.faces, 160)[0][0]
    owner = body.surface.skinning.argmax(-1)
    names = [JOINT_NAMES[int(owner[body.faces[f, 0]])] for f in seen[:, 110:][seen[:, 110:] >= 0]]
    assert len(names) > 20
    assert all(n.startswith(right_is) for n in names)


def test_a_face_is_seen_from_the_front_only():
    nose = find_body("open-low").vertex_ids["nose"]
    for turn, expected in ((0.0, True), (np.pi, False)):
        body, vertices = posed_body(turn)
        seen = rasterize(to_pixels(vertices), body.faces, 160)[0][0]
        touching = (body.faces == nose).any(-1).nonzero()[:, 0]
        assert bool(torch.isin(seen, touching).any()) == expected


@pytest.mark.skipif(WORKING != "pyrender", reason="no OpenGL")
@pytest.mark.parametrize("turn", [0.0, 0.8])
def test_silhouette_and_depth_are_pyrenders(turn):
    body, vertices = posed_body(turn)
    points = to_pixels(vertices, 400.0, 160.0)
    seen, weights = rasterize(points, body.faces, 320)
    shape = Shape(vertices[0].double().numpy(), body.faces.numpy(), (0.5, 0.5, 0.5))
    camera = {"width": 320, "height": 320, "focal": (400.0, 400.0), "center": (160.0, 160.0)}
    theirs = render([shape], engine="pyrender", **camera)
    ours = seen[0].numpy() >= 0
    inside = theirs.coverage > 0.5
    assert (ours & inside).sum() / (ours | inside).sum() > 0.98
    depth = (weights[0] * points[0, body.faces[seen[0]], 2]).sum(-1).numpy()
    both = ours & (theirs.coverage > 0.99)
    assert np.median(np.abs(depth[both] - theirs.depth[both])) < 2e-3
    assert np.mean(np.abs(depth[both] - theirs.depth[both]) < 0.02) > 0.98
