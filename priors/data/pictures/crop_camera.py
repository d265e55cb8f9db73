"""The camera that looks at the middle of a crop: the same person there looks the same anywhere."""

from __future__ import annotations

import torch
from torch import Tensor

from flowfit.models.cameras import Camera
from flowfit.priors.networks.encoders import Boxes


def ray(box: Boxes, camera: Camera) -> Tensor:
    """(B, 3) direction of the crop's middle, its depth 1."""
    plane = (box.center - camera.center) / camera.focal
    return torch.cat((plane, torch.ones_like(plane[:, :1])), -1)


def turn_to_crop(box: Boxes, camera: Camera) -> Tensor:
    """(B, 3, 3): from the frame of a camera that looks at the crop's middle to the picture's."""
    ahead = torch.nn.functional.normalize(ray(box, camera), dim=-1)
    x, y, z = ahead.unbind(-1)
    # the shortest rotation from (0, 0, 1)
    share = 1 / (1 + z)
    rows = (
        *(1 - share * x * x, -share * x * y, x),
        *(-share * x * y, 1 - share * y * y, y),
        *(-x, -y, z),
    )
    return torch.stack(rows, -1).unflatten(-1, (3, 3))
