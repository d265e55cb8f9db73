"""Features read at points of a picture."""

import pytest
import torch

from flowfit.models.keypoints import BODY25, COCO17
from flowfit.priors.image.points import PointReader, sample


def test_a_sample_is_the_pixel_it_lies_on_and_between_pixels_their_mean():
    features = torch.arange(16.0).view(1, 1, 4, 4)
    # x and y in crop sides; the middle of the pixel in row 1 and column 2 is (0.125, -0.125)
    place = torch.tensor([[[0.125, -0.125], [0.0, 0.0], [0.25, -0.375], [5.0, 0.0]]])
    found = sample(features, place)
    assert found.shape == (1, 4, 1)
    torch.testing.assert_close(found[0, :, 0], torch.tensor([6.0, 7.5, 2.5, 0.0]))


def test_a_sample_teaches_the_features_around_it_and_no_others():
    features = torch.zeros(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    sample(features, torch.tensor([[[0.125, -0.125]]], dtype=torch.float64)).sum().backward()
    expected = torch.zeros(4, 4, dtype=torch.float64)
    expected[1, 2] = 1
    torch.testing.assert_close(features.grad[0, 1], expected)
    place = torch.tensor([[[0.07, -0.2], [0.31, 0.05]]], dtype=torch.float64)
    random = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: sample(f, place), (random,))


@pytest.mark.parametrize("schema", [BODY25, COCO17], ids=lambda s: s.name)
def test_the_points_are_the_keypoints_and_the_middles_of_the_bones(schema):
    reader = PointReader(schema, 3)
    keypoints = torch.rand(2, len(schema), 2)
    points = reader.places(keypoints)
    assert points.shape == (2, len(schema) + len(schema.edges), 2)
    torch.testing.assert_close(points[:, : len(schema)], keypoints)
    shin = [set(e) for e in schema.edges].index({"LKnee", "LAnkle"})
    ends = keypoints[:, schema.indices(["LKnee", "LAnkle"])]
    torch.testing.assert_close(points[:, len(schema) + shin], ends.mean(1))


def test_what_is_read_has_a_shape_and_a_gradient_and_depends_on_the_place():
    torch.manual_seed(0)
    reader = PointReader(BODY25, 5, shared=6, features=4).double()
    maps = [torch.randn(2, 2, 8, 8).double(), torch.randn(2, 3, 4, 4).double()]
    for one in maps:
        one.requires_grad_()
    keypoints = (torch.rand(2, 25, 2).double() - 0.5).requires_grad_()
    given, sure = torch.ones(2, 25, dtype=torch.bool), torch.ones(2, 25).double()
    found = reader(maps, keypoints, given, sure)
    assert found.shape == (2, reader.points, 4)
    found.sum().backward()
    assert all(one.grad.abs().sum() > 0 for one in maps)
    assert all(p.grad.abs().sum() > 0 for p in reader.parameters())
    assert keypoints.grad is None  # where to look is not learned here
    with torch.no_grad():
        elsewhere = reader(maps, keypoints.roll(1, 1), given, sure)
        own = reader(maps, keypoints, ~given, sure)
    assert (elsewhere - found).abs().max() > 1e-3
    assert (own - found).abs().max() > 1e-3
    assert not [name for name in reader.state_dict() if name in ("starts", "ends")]
