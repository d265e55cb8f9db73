import cv2
import numpy as np
import pytest
import torch

from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from flowfit.priors.data.datasets.people import SCHEMA, build
from flowfit.priors.data.datasets.registry import mix
from flowfit.priors.data.pictures.augment import PARTS, PictureAugmentation, apply
from flowfit.priors.data.pictures.batches import PictureReader
from flowfit.priors.data.pictures.crops import crop_box, to_crop
from flowfit.priors.data.pictures.labels import labels_of, mirrored, turned

WIDTH, HEIGHT, COUNT = 160, 120, 6
SIZE = (WIDTH, HEIGHT)
ONE = SCHEMA.index("RWrist")


@pytest.fixture(scope="module")
def people(body, tmp_path_factory):
    """Bodies with their keypoints; in each picture a disc on the right wrist."""
    root = tmp_path_factory.mktemp("pictures")
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    rotations = axis_angle_to_matrix(0.2 * normal(COUNT, 24, 3))
    rotations[:, 0] = (
        torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)) @ rotations[:, 0]
    )
    betas, transl = normal(COUNT, 10), torch.tensor([0.2, -0.1, 4.0]) + 0.1 * normal(COUNT, 3)
    camera = Camera(
        torch.full((COUNT, 2), 150.0, dtype=torch.float64),
        torch.tensor([[84.0, 55.0]], dtype=torch.float64).expand(COUNT, 2),
    )
    points = body.keypoints(betas, rotations, SCHEMA, transl)
    known = points.isfinite().all(-1)
    pixels, _ = camera.project(points.nan_to_num())
    confidence = known.double()
    pixels = pixels * known[..., None]
    for row in range(COUNT):
        x, y = pixels[row, ONE].tolist()
        across, down = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
        disc = 255 * ((across - x) ** 2 + (down - y) ** 2 <= 5.0**2)
        cv2.imwrite(str(root / f"{row}.png"), np.repeat(disc[..., None], 3, -1).astype(np.uint8))
    box = crop_box(pixels, confidence)
    return build(
        "test",
        root,
        [f"{row}.png" for row in range(COUNT)],
        box.center.numpy(),
        box.side.numpy(),
        {
            "keypoints": pixels.numpy(),
            "confidence": confidence.numpy(),
            "points": points.nan_to_num().numpy(),
            "points_confidence": confidence.numpy(),
            "pose": matrix_to_axis_angle(rotations).numpy(),
            "betas": betas.numpy(),
            "has_pose": np.ones(COUNT, bool),
            "has_betas": np.ones(COUNT, bool),
            "focal": camera.focal.numpy(),
            "principal": camera.center.numpy(),
            "transl": transl.numpy(),
        },
    )


def labelled(people):
    return labels_of(people, np.tile(SIZE, (len(people), 1)), torch.float64)


def explained(labels, body, atol):
    """The bodies' keypoints lie where the labels have them, in the picture and in space."""
    points = body.keypoints(labels.betas, labels.rotations, SCHEMA, labels.transl).nan_to_num()
    pixels, _ = labels.camera.project(points)
    seen = labels.confidence > 0
    assert seen.any(-1).all()
    assert torch.allclose(pixels[seen], labels.keypoints[seen], atol=atol)
    root = SCHEMA.index("lsp:Neck")
    one, other = (p - p[:, [root]] for p in (points, labels.points))
    assert torch.allclose(one[seen], other[seen], atol=atol / 40)


def test_labels_are_explained_by_the_bodies(people, body):
    explained(labelled(people), body, 1e-4)


def test_turned_labels_are_explained_by_turned_bodies(people, body):
    degrees = torch.tensor([0.0, 10, -35, 90, 179, -120], dtype=torch.float64)
    changed = turned(labelled(people), degrees, body)
    explained(changed, body, 1e-4)
    moved = (changed.keypoints - labelled(people).keypoints).norm(dim=-1).amax(-1)
    assert (moved[1:] > 5).all()


def test_mirrored_labels_are_explained_by_mirrored_bodies(people, body):
    which = torch.tensor([True, False] * 3)
    labels = labelled(people)
    changed = mirrored(labels, which, body)
    explained(changed, body, 0.4)  # the built-in body's two sides differ by millimetres
    assert torch.equal(changed.keypoints[1], labels.keypoints[1])
    left = SCHEMA.index("LWrist")
    assert torch.allclose(changed.keypoints[0, left, 0], WIDTH - labels.keypoints[0, ONE, 0])
    twice = mirrored(changed, which, body)
    assert torch.allclose(twice.rotations, labels.rotations)
    assert torch.allclose(twice.transl, labels.transl, atol=1e-9)


def test_the_picture_follows_the_keypoints(people, body):
    """Where the labels have the wrist after every change, there the picture's disc is."""
    augmentation = PictureAugmentation(turn=60, turned=1, noise=0, crop=0, colour=0, scale=0.2)
    reader = PictureReader(body.to(dtype=torch.float32), 96, augmentation, threads=2)
    batch = reader.read(people, torch.Generator().manual_seed(3))
    assert batch.rows == tuple(range(COUNT))
    labels = batch.labels
    explained(
        type(labels)(
            *(
                v.double() if isinstance(v, torch.Tensor) and v.is_floating_point() else v
                for v in labels._replace(camera=labels.camera.to(dtype=torch.float64))
            )
        ),
        body,
        0.5,
    )
    wrist = to_crop(labels.keypoints, labels.box, 96)
    left = SCHEMA.index("LWrist")
    flips = 0
    for row in range(COUNT):
        bright = batch.images[row, 0].numpy()
        across, down = np.meshgrid(*(np.arange(96) + 0.5,) * 2)
        middle = np.array([(across * bright).sum(), (down * bright).sum()]) / bright.sum()
        near = [np.abs(wrist[row, place].numpy() - middle).max() for place in (ONE, left)]
        flips += near[1] < near[0]
        assert min(near) < 1.0
    assert 0 < flips < COUNT  # mirrored: the left wrist is where the right one was


def test_extreme_crops_cut_and_hide(people, body):
    labels = labelled(people)
    generator = torch.Generator().manual_seed(0)
    changes = PictureAugmentation(0, 0, 0, 0, 0, 0, 1.0, 0).draw(labels, generator)
    assert (changes.part >= 0).all()
    for place, name in enumerate(PARTS):
        changed = apply(changes._replace(part=torch.full((COUNT,), place)), labels, body).labels
        assert (changed.box.side < labels.box.side).all(), name
        inside = (changed.keypoints - changed.box.center[:, None]).abs().amax(-1)
        seen = changed.confidence > 0
        assert (inside <= changed.box.side[:, None] / 2)[seen].all()
        assert not seen[:, SCHEMA.index("RAnkle")].any()
        assert seen[:, SCHEMA.index("Nose")].all()


def test_a_seed_makes_batches_repeat(people, body):
    reader = PictureReader(body.to(dtype=torch.float32), 32, PictureAugmentation())
    mixture = mix({"a": people}, {"a": 1.0})
    first, again, other = (next(reader.batches(mixture, 4, seed)) for seed in (1, 1, 2))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels.keypoints, again.labels.keypoints)
    assert not torch.equal(first.labels.keypoints, other.labels.keypoints)


def test_bad_pictures_are_passed_over(people, body, tmp_path):
    import dataclasses

    for row in range(COUNT):
        (tmp_path / f"{row}.png").write_bytes((people.root / f"{row}.png").read_bytes())
    (tmp_path / "2.png").write_bytes(b"no picture")
    moved = dataclasses.replace(people, root=tmp_path)
    whole = PictureReader(body, 32).read(people)
    batch = PictureReader(body, 32).read(moved)
    assert batch.rows == (0, 1, 3, 4, 5)
    assert [name for name, _ in batch.bad] == ["2.png"]
    assert torch.equal(batch.images, whole.images[list(batch.rows)])
    with pytest.raises(InputError, match="no picture can be read"):
        PictureReader(body, 32).read(moved.rows([2]))


def test_without_a_camera_the_diagonal_is_assumed(people):
    bare = build("bare", people.root, people.pictures, people.center, people.side, {}, None)
    labels = labelled(bare)
    assert torch.allclose(labels.camera.focal, torch.full((COUNT, 2), 200.0, dtype=torch.float64))
    assert labels.camera.center[0].tolist() == [80, 60]
    assert not labels.has_pose.any()
    assert not labels.has_transl.any()
