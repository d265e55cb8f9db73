"""What the tests of image posteriors share: a small posterior, and people to show it."""

import torch

from flowfit.models.body_files import find_body
from flowfit.models.keypoints import BODY25
from flowfit.models.rotations import axis_angle_to_matrix
from flowfit.priors.data.drawn.draw_people import PeopleDrawer
from flowfit.priors.data.people.synthetic import PeopleMaker
from flowfit.priors.image.posterior import ImagePosterior, Seen
from flowfit.priors.keypoints.posterior import KeypointPosterior

SIZES = {"context": 8, "hidden": 16, "steps": 2, "blocks": 1, "width": 16, "depth": 1}
ENCODER = {"widths": (4, 4, 8, 8), "pyramid": 8, "fine": 8, "features": 4, "near": 4}
POINTS = {"shared": 8, "features": 3}
IMAGE_SIZE = 32


def make_posterior(seed=0, trained=True):
    """A posterior with random weights; with `trained`, also where they begin at zero."""
    torch.manual_seed(seed)
    keypoints = KeypointPosterior(len(BODY25), **SIZES)
    with torch.no_grad():
        for parameter in keypoints.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    posterior = ImagePosterior(
        keypoints, image_size=IMAGE_SIZE, fusion=16, blocks=2, encoder=ENCODER, points=POINTS
    )
    if trained:
        fusion = posterior.fusion
        for layer in (fusion.leave, fusion.trust, fusion.turns, fusion.closer[1]):
            torch.nn.init.normal_(layer.weight, std=0.1)
        torch.nn.init.normal_(posterior.mender.leave, std=0.1)
    return posterior.eval()


def make_seen(count=4, seed=0):
    """Made-up people, all with picture and keypoints; and who they are."""
    body = find_body("open-low")
    generator = torch.Generator().manual_seed(seed)
    poses = axis_angle_to_matrix(0.2 * torch.randn(20, 24, 3, generator=generator))
    people = PeopleMaker(body, poses).draw(count, generator)
    shown = PeopleDrawer(body, IMAGE_SIZE).draw(people, generator)
    seen = Seen(
        shown.images.float() / 255, torch.ones(count, dtype=torch.bool), shown.people.keypoints,
        shown.people.confidence, shown.people.camera, shown.box,
    )  # fmt: skip
    return seen, shown.people


def rows(seen, index):
    """Some of the people."""
    index = torch.as_tensor(index)
    return Seen(
        seen.images[index], seen.has_image[index], seen.keypoints[index], seen.confidence[index],
        seen.camera.rows(index), type(seen.box)(seen.box.center[index], seen.box.side[index]),
    )  # fmt: skip
