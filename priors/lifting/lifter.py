"""p(3D skeleton | 2D skeleton): lifting without a body model.

The probabilistic version of Martinez et al. (ICCV 2017) in ProHMR's supplementary material: a
residual network on 2D joints sets the condition of a flow over 48 numbers, the 16 joints of
Human3.6M around the pelvis. Inside, targets are standardised; outside, everything is in metres in
the camera's axes (x right, y down, z forward), the pelvis at the origin.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from flowfit.models.cameras import Camera
from flowfit.models.errors import InputError
from flowfit.models.keypoints import KeypointSchema
from flowfit.priors.lifting.input import INPUT_SCHEMAS, JOINTS, LIFTED, ROOT
from flowfit.priors.networks.encoders import KeypointEncoder, keypoint_boxes
from flowfit.priors.networks.flow import ConditionalFlow

NUMBERS = 3 * len(LIFTED)
_LIFTED_PLACES = JOINTS.indices(list(LIFTED))


class Skeletons(NamedTuple):
    """Skeletons of B people, S of each.

    Attributes:
        joints: (B, S, 17, 3) metres, camera axes, the pelvis at the origin.
        log_prob: (B, S) nats, the density over the 48 numbers in metres.
    """

    joints: Tensor
    log_prob: Tensor


class MartinezEncoder(nn.Module):
    """ProHMR's: linear, batch norm, ReLU, dropout; then residual blocks of two such layers.

    It is told the joints' places alone, in the box around them and standardised; where nothing was
    seen it is told the mean. Neither confidence nor camera is.

    Args:
        keypoints: K. context: C, the width of all its layers. blocks, dropout: of the network.
    """

    mean: Tensor
    spread: Tensor

    def __init__(
        self, keypoints: int, context: int = 1024, *, blocks: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__()

        def layer(inputs: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Linear(inputs, context), nn.BatchNorm1d(context), nn.ReLU(), nn.Dropout(dropout)
            )

        self.keypoints = keypoints
        self.enter = layer(2 * keypoints)
        self.blocks = nn.ModuleList(
            nn.Sequential(layer(context), layer(context)) for _ in range(blocks)
        )
        self.register_buffer("mean", torch.zeros(keypoints, 2))
        self.register_buffer("spread", torch.ones(keypoints, 2))

    def standardise(self, keypoints: Tensor, confidence: Tensor) -> None:
        """Take mean and spread (K, 2) of the joints' places from people (B, K, 2)."""
        place, seen = _in_box(keypoints, confidence), (confidence > 0)[..., None]
        count = seen.sum(0).clamp(min=1)
        mean = torch.where(seen, place, 0).sum(0) / count
        variance = torch.where(seen, (place - mean) ** 2, 0).sum(0) / count
        self.mean.copy_(mean)
        self.spread.copy_(variance.sqrt().clamp(min=1e-3))

    def forward(self, keypoints: Tensor, confidence: Tensor, camera: Camera) -> Tensor:
        """Condition (B, C) from (B, K, 2) pixels and (B, K) confidences."""
        place = (_in_box(keypoints, confidence) - self.mean) / self.spread
        place = torch.where((confidence > 0)[..., None], place, 0)
        context = self.enter(place.flatten(1))
        for block in self.blocks:
            context = context + block(context)
        return context


def _in_box(keypoints: Tensor, confidence: Tensor) -> Tensor:
    """Places (B, K, 2) from -1 to 1 in the box around what was seen."""
    box = keypoint_boxes(keypoints, confidence)
    return 2 * (keypoints - box.center[:, None]) / box.side[:, None, None]


class Lifter(nn.Module):
    """Flow posterior over 3D skeletons, conditioned on 2D ones.

    Args:
        schema: what it is told, a name in `INPUT_SCHEMAS`.
        encoder: "martinez", ProHMR's, or "keypoints", which also knows confidences, what is
            missing, and where the person is in the picture of which camera.
        context, hidden, steps, blocks: sizes of the flow. width, depth: of the encoder; ProHMR's
            is as wide as its context.
        dropout, batch_norm, conditional_scale, activation: see `ConditionalFlow`.
    """

    mean: Tensor
    spread: Tensor

    def __init__(
        self,
        schema: str = "h36m17+face",
        encoder: str = "keypoints",
        *,
        context: int = 160,
        hidden: int = 128,
        steps: int = 4,
        blocks: int = 2,
        width: int = 256,
        depth: int = 4,
        dropout: float = 0.0,
        batch_norm: bool = False,
        conditional_scale: bool = True,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        if schema not in INPUT_SCHEMAS:
            raise InputError(f"no lifting from {schema!r}; there are {', '.join(INPUT_SCHEMAS)}")
        self.schema: KeypointSchema = INPUT_SCHEMAS[schema]
        self.encoder: MartinezEncoder | KeypointEncoder
        if encoder == "martinez":
            if width != context:
                raise InputError(f"ProHMR's encoder has one width, not {width} and {context}")
            self.encoder = MartinezEncoder(len(self.schema), context, blocks=depth, dropout=dropout)
        elif encoder == "keypoints":
            self.encoder = KeypointEncoder(len(self.schema), context, width=width, blocks=depth)
        else:
            raise InputError(f"no lifting encoder {encoder!r}; there are martinez, keypoints")
        self.flow = ConditionalFlow(
            NUMBERS,
            context,
            hidden=hidden,
            steps=steps,
            blocks=blocks,
            dropout=dropout,
            batch_norm=batch_norm,
            conditional_scale=conditional_scale,
            activation=activation,
        )
        self.register_buffer("mean", torch.zeros(NUMBERS))
        self.register_buffer("spread", torch.ones(NUMBERS))

    @property
    def started(self) -> bool:
        """Whether the flow's ActNorms have taken their scales from a batch."""
        return all(bool(norm.initialized) for norm, _, _ in self.flow.steps)

    def standardise(self, keypoints: Tensor, confidence: Tensor, joints: Tensor) -> None:
        """Take means and spreads from people: (B, K, 2), (B, K), (B, 17, 3)."""
        numbers = joints[:, _LIFTED_PLACES].flatten(1)
        self.mean.copy_(numbers.mean(0))
        # one spread for a joint's axis; a joint that never moves would divide by nothing
        self.spread.copy_(numbers.std(0).clamp(min=1e-2))
        if isinstance(self.encoder, MartinezEncoder):
            self.encoder.standardise(keypoints, confidence)

    def condition(self, keypoints: Tensor, confidence: Tensor, camera: Camera) -> Tensor:
        """Condition (B, C) of people (B, K, 2) pixels, (B, K), in the schema's order."""
        return self.encoder(keypoints, confidence, camera)

    def numbers(self, joints: Tensor) -> Tensor:
        """The flow's own numbers (..., 48) of skeletons (..., 17, 3), wherever their root is."""
        root = JOINTS.index(ROOT)
        relative = joints[..., _LIFTED_PLACES, :] - joints[..., root : root + 1, :]
        return (relative.flatten(-2) - self.mean) / self.spread

    def skeletons(self, latent: Tensor, context: Tensor) -> Skeletons:
        """Skeletons of latents (B, S, 48)."""
        numbers, log_prob = self.flow.decode(latent, context)
        relative = (numbers * self.spread + self.mean).unflatten(-1, (len(LIFTED), 3))
        joints = relative.new_zeros(*relative.shape[:-2], len(JOINTS), 3)
        joints[..., _LIFTED_PLACES, :] = relative
        return Skeletons(joints, log_prob - self.spread.log().sum())

    def mode(self, context: Tensor) -> Skeletons:
        """The skeletons at z = 0, one of each."""
        return self.skeletons(context.new_zeros(len(context), 1, NUMBERS), context)

    def sample(self, context: Tensor, noise: Tensor) -> Skeletons:
        """Random skeletons from standard normal noise: (S, 48) for everybody, or (B, S, 48)."""
        return self.skeletons(noise.expand(len(context), *noise.shape[-2:]), context)

    def log_prob(self, joints: Tensor, context: Tensor) -> Tensor:
        """Log density (B,) or (B, S) of skeletons (B, 17, 3) or (B, S, 17, 3), nats."""
        found = self.flow.encode(self.numbers(joints), context).log_prob
        return found - self.spread.log().sum()
