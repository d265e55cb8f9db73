"""How made-up people look: skin, hair and clothes by part of the body, and the light on them.

Everything is told per vertex, so that it serves any body in the SMPL layout: what a vertex belongs
to follows from its skinning weights by the joints' names and from where it lies at rest.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowfit.models.body import Body
from flowfit.models.kinematics import joint_index

# colours of skin from light to dark, and of hair; RGB, 0 to 1
_SKIN = ((0.96, 0.80, 0.69), (0.88, 0.67, 0.53), (0.72, 0.50, 0.37), (0.50, 0.33, 0.23),
         (0.31, 0.20, 0.14))  # fmt: skip
_HAIR = ((0.08, 0.06, 0.05), (0.25, 0.16, 0.09), (0.45, 0.30, 0.15), (0.75, 0.60, 0.35),
         (0.55, 0.53, 0.50), (0.40, 0.15, 0.08))  # fmt: skip
_SHOULDER, _FOREARM, _SHIN = ("shoulder",), ("elbow",), ("knee",)
_WAVES = 3  # of a smooth pattern


class Wardrobe:
    """Which vertex belongs to which garment, for one body.

    Args:
        body: any in the SMPL layout.
    """

    def __init__(self, body: Body) -> None:
        surface = body.surface
        self.rest = surface.template
        owner = surface.skinning.argmax(-1)

        def owned(*names: str) -> Tensor:
            both = [n for name in names for n in _sides(name)]
            places = torch.tensor([joint_index(n) for n in both], device=owner.device)
            return torch.isin(owner, places)

        joints = body.joint_template
        self.along = self._along_limbs(joints)
        head = owned("head", "neck")
        self.hair = head & self._is_scalp(joints)
        self.trunk = owned("spine1", "spine2", "spine3", "collar")
        self.hips = owned("pelvis", "hip")
        self.upper_arm, self.forearm = owned("shoulder"), owned("elbow")
        self.pelvis, self.thigh = owned("pelvis"), owned("hip")
        self.shin, self.foot = owned("knee"), owned("ankle", "foot")

    def _along_limbs(self, joints: Tensor) -> dict[str, Tensor]:
        """How far down its limb each vertex lies at rest, 0 to 1, of upper arm, forearm, ..."""
        found = {}
        for name, end in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"),
                          ("knee", "ankle")):  # fmt: skip
            shares = []
            for side in ("left_", "right_"):
                a, b = joints[joint_index(side + name)], joints[joint_index(side + end)]
                shares.append(((self.rest - a) @ (b - a)) / ((b - a) @ (b - a)))
            left = self.rest[:, 0] > 0  # the body faces +z, its left is at +x
            found[name] = torch.where(left, shares[0], shares[1])
        return found

    def _is_scalp(self, joints: Tensor) -> Tensor:
        """Top, back and sides of the head: what is above or behind a slanted plane."""
        top = self.rest[:, 1].amax()
        head = joints[joint_index("head")]
        height = (self.rest[:, 1] - head[1]) / (top - head[1])
        ahead = (self.rest[:, 2] - head[2]) / (top - head[1])
        return (height > 0.78) | ((height > 0.15) & (height - 1.6 * ahead > 0.25))

    def colours(self, count: int, generator: torch.Generator) -> Tensor:
        """Albedo (B, V, 3) of so many people, dressed at random."""
        dtype, device = self.rest.dtype, self.rest.device

        def rand(*shape: int) -> Tensor:
            return torch.rand(count, *shape, generator=generator, dtype=dtype, device=device)

        def pick(table: tuple[tuple[float, float, float], ...]) -> Tensor:
            colours = torch.tensor(table, dtype=dtype, device=device)
            place = rand(1) * (len(table) - 1)
            low = place.long().clamp(max=len(table) - 2)[:, 0]
            mixed = torch.lerp(colours[low], colours[low + 1], place - low[:, None])
            return (mixed * (0.85 + 0.3 * rand(1)) + 0.03 * (rand(3) - 0.5)).clamp(0, 1)

        skin = pick(_SKIN)[:, None].expand(-1, len(self.rest), -1)
        colours = skin
        bald = rand(1, 1) < 0.1
        colours = torch.where(self.hair[:, None] & ~bald, pick(_HAIR)[:, None], colours)

        sleeve, leg = 2.2 * rand(1), 0.35 + 1.9 * rand(1)  # 1: to the elbow, the knee; 2: all
        bare_trunk = rand(1) < 0.06
        top = self.trunk[None] & ~bare_trunk
        top = top | (self.upper_arm & (self.along["shoulder"] < sleeve) & ~bare_trunk)
        top = top | (self.forearm & (self.along["elbow"] < sleeve - 1) & ~bare_trunk)
        bottom = self.pelvis[None] | (self.thigh & (self.along["hip"] < leg))
        bottom = bottom | (self.shin & (self.along["knee"] < leg - 1))
        shoes = self.foot[None] & (rand(1) < 0.85)
        upper, lower = self._cloth(count, generator), self._cloth(count, generator)
        one_piece = rand(1, 1) < 0.12
        lower = torch.where(one_piece, upper, lower)
        colours = torch.where(bottom[..., None], lower, colours)
        colours = torch.where(top[..., None], upper, colours)
        shoe = (rand(3) * rand(1) ** 0.5)[:, None]
        colours = torch.where(shoes[..., None], shoe, colours)
        # some people are painted all over with a smooth pattern, as no wardrobe would
        painted = rand(1, 1) < 0.1
        return torch.where(painted, self._cloth(count, generator), colours)

    def _cloth(self, count: int, generator: torch.Generator) -> Tensor:
        """Plain, striped, or with a smooth pattern: (B, V, 3)."""
        dtype, device = self.rest.dtype, self.rest.device

        def rand(*shape: int) -> Tensor:
            return torch.rand(count, *shape, generator=generator, dtype=dtype, device=device)

        def colour() -> Tensor:
            grey, bright = rand(1), rand(1)
            return (bright**0.6 * torch.lerp(rand(3), rand(1).expand(-1, 3), 0.6 * grey))[:, None]

        plain, other = colour(), colour()
        direction = torch.randn(count, _WAVES, 3, generator=generator, dtype=dtype, device=device)
        direction = direction * (8 * torch.exp(1.2 * rand(_WAVES, 1)))
        phase = 2 * math.pi * rand(_WAVES, 1)
        waves = (direction @ self.rest.T + phase).sin().mean(1)
        striped = rand(1) < 0.4
        stripes = torch.sign((60 * (0.4 + rand(1)) * self.rest[:, 1]).sin())
        strength = torch.where(striped, stripes, 2 * waves)
        share = torch.where(rand(1) < 0.5, 0, rand(1)) * 0.5 * (1 + strength.clamp(-1, 1))
        return torch.lerp(plain, other, share[..., None])


def _sides(name: str) -> tuple[str, ...]:
    try:
        joint_index(name)
    except KeyError:
        return (f"left_{name}", f"right_{name}")
    return (name,)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Outward unit normals (B, V, 3) of (B, V, 3) vertices."""
    count, corners = len(vertices), faces.flatten()
    a, b, c = vertices.index_select(1, corners).view(count, -1, 3, 3).unbind(2)
    facing = torch.linalg.cross(b - a, c - a)  # longer where the face is larger
    normals = torch.zeros_like(vertices)
    for corner in faces.T:
        normals.index_add_(1, corner, facing)
    return torch.nn.functional.normalize(normals, dim=-1)


def light(normals: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness (B, V, 3) of surfaces with normals (B, V, 3) in the camera's frame.

    A sky that is brighter above, one main lamp from the camera's half of the world and a weaker one
    from anywhere; each of its own tint.
    """
    count, dtype, device = len(normals), normals.dtype, normals.device

    def rand(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator, dtype=dtype, device=device)

    def direction(towards: tuple[float, float, float], spread: float) -> Tensor:
        noise = torch.randn(count, 3, generator=generator, dtype=dtype, device=device)
        mean = torch.tensor(towards, dtype=dtype, device=device)
        return torch.nn.functional.normalize(mean + spread * noise, dim=-1)

    def tint() -> Tensor:
        return 1 + 0.25 * (rand(1, 3) - 0.5)

    # y down: up is -y; the camera looks along +z, so a lamp beside it shines from -z
    sky = 0.3 + 0.35 * rand(1, 1) + (0.15 * rand(1, 1)) * -normals[..., 1:2]
    main = (normals @ direction((0.0, -0.8, -0.6), 0.7)[..., None]).clamp(min=0)
    fill = (normals @ direction((0.0, 0.0, 0.0), 1.0)[..., None]).clamp(min=0)
    return (
        sky * tint() + (0.4 + 0.5 * rand(1, 1)) * main * tint() + 0.25 * rand(1, 1) * fill * tint()
    )
