"""Pictures of made-up people: drawn, lit, in front of something, cropped as a reader would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from flowfit.models.body import Body
from flowfit.models.cameras import Camera
from flowfit.priors.data.drawn import backdrops
from flowfit.priors.data.drawn.appearance import Wardrobe, light, vertex_normals
from flowfit.priors.data.drawn.rasterize import rasterize
from flowfit.priors.data.people.synthetic import People
from flowfit.priors.data.pictures.crops import crop_box
from flowfit.priors.networks.encoders import Boxes

_FINER = 2  # pixels drawn for one of the picture, along each side


@dataclass(frozen=True)
class Look:
    """What happens to a picture; shares of the people.

    Attributes:
        occluded: something stands in front. hidden: share of the keypoints behind it that the
            detector does not find.
    """

    occluded: float = 0.3
    hidden: float = 0.7


class Pictures(NamedTuple):
    """Crops of B people, and what the detector found in them.

    Attributes:
        images: (B, 3, N, N) uint8, RGB; black outside the frame.
        people: their truth; the confidence is 0 where an occluder hides a keypoint.
        box: the crop, pixels of the whole picture.
    """

    images: Tensor
    people: People
    box: Boxes


class PeopleDrawer:
    """Draws people.

    Args:
        body: whose mesh is drawn. size: N, pixels of the crops. margin: their side in sides of
            `crop_box`, for training that shifts the crop. look: of the pictures.
    """

    def __init__(
        self, body: Body, size: int = 128, *, margin: float = 1.0, look: Look | None = None
    ) -> None:
        self.body, self.size, self.margin = body, size, margin
        self.look = Look() if look is None else look
        self.wardrobe = Wardrobe(body)

    def draw(self, people: People, generator: torch.Generator) -> Pictures:
        """Pictures of people; all that is random follows from the generator."""
        box = crop_box(people.keypoints, people.confidence)
        box = Boxes(box.center, box.side * self.margin)
        fine = self.size * _FINER
        vertices = self.body.vertices(people.betas, people.rotations, people.transl)
        points = project_to_crop(vertices, people.camera, box, fine)
        seen, weights = rasterize(points, self.body.faces, fine)
        normals = vertex_normals(vertices, self.body.faces)
        colours = self.wardrobe.colours(len(vertices), generator) * light(normals, generator)
        drawn, covered = _paint(seen, weights, colours, self.body.faces)

        count = len(vertices)
        picture = backdrops.backdrop(count, self.size, generator)
        picture = picture * (1 - covered) + drawn
        mask = torch.zeros(count, 1, self.size, self.size, dtype=torch.bool, device=picture.device)
        there = torch.rand(count, generator=generator, device=mask.device) < self.look.occluded
        rows = there.nonzero()[:, 0]
        hiding, mask[rows] = backdrops.occluders(len(rows), self.size, generator)
        picture[rows] = torch.where(mask[rows], hiding, picture[rows])
        picture = backdrops.as_a_camera_sees(picture, generator)
        picture = picture * self._in_frame(box, people.size)
        images = (picture * 255 + 0.5).to(torch.uint8)
        return Pictures(images, self._hide(people, mask, box, generator), box)

    def _in_frame(self, box: Boxes, size: Tensor) -> Tensor:
        """(B, 1, N, N) 1 inside the photograph, 0 outside."""
        steps = (torch.arange(self.size, device=size.device) + 0.5) / self.size - 0.5
        at = box.center[:, None] + box.side[:, None, None] * steps[:, None]  # (B, N, 2)
        inside = (at >= 0) & (at < size[:, None])
        return (inside[:, :, 1, None] & inside[:, None, :, 0])[:, None].to(box.side.dtype)

    def _hide(self, people: People, mask: Tensor, box: Boxes, generator: torch.Generator) -> People:
        place = (people.true_keypoints - box.center[:, None]) / box.side[:, None, None] + 0.5
        pixel = (place * self.size).floor().nan_to_num(-1).clamp(-1, self.size).long()
        inside = ((pixel >= 0) & (pixel < self.size)).all(-1)
        pixel = pixel.clamp(0, self.size - 1)
        behind = mask[:, 0].flatten(1).gather(1, pixel[..., 1] * self.size + pixel[..., 0])
        lost = torch.rand(behind.shape, generator=generator, device=behind.device)
        hidden = inside & behind & (lost < self.look.hidden)
        return people._replace(confidence=torch.where(hidden, 0, people.confidence))


def project_to_crop(points: Tensor, camera: Camera, box: Boxes, size: int) -> Tensor:
    """(B, N, 3): pixels x and y of a crop of `size` pixels, and depth, of (B, N, 3) metres."""
    pixels, _ = camera.project(points)
    corner = (box.center - box.side[:, None] / 2)[:, None]
    return torch.cat(((pixels - corner) * (size / box.side)[:, None, None], points[..., 2:]), -1)


def _paint(seen: Tensor, weights: Tensor, colours: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Colours (B, 3, N, N), black where nothing is, and cover (B, 1, N, N), averaged to N."""
    count, fine = seen.shape[:2]
    flat = (seen.flatten() >= 0).nonzero()[:, 0]
    picture = torch.div(flat, fine * fine, rounding_mode="floor")
    corners = faces.index_select(0, seen.flatten().index_select(0, flat))
    corners = corners + (picture * colours.shape[1])[:, None]
    table = colours.flatten(0, 1)
    share = weights.view(-1, 3).index_select(0, flat)
    colour = share[:, :1] * table.index_select(0, corners[:, 0])
    for corner in (1, 2):
        colour = colour + share[:, corner, None] * table.index_select(0, corners[:, corner])
    canvas = colours.new_zeros(count * fine * fine, 4)
    canvas.index_copy_(0, flat, torch.cat((colour.clamp(0, 1), torch.ones_like(colour[:, :1])), -1))
    canvas = canvas.view(count, fine, fine, 4).permute(0, 3, 1, 2)
    averaged = avg_pool2d(canvas, _FINER)
    return averaged[:, :3], averaged[:, 3:]
