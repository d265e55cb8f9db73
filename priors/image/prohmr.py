"""Opens checkpoints of the ProHMR release: the posterior in ProHMR's form.

The file is a Lightning checkpoint, a zip with a pickle that names classes which are not installed
(its callbacks). It is read by an unpickler that knows tensors only: Lightning's own classes become
inert records, any other name is refused, nothing is run.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import types
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowfit.models.errors import InputError
from flowfit.models.files import write_whole
from flowfit.models.kinematics import NUM_JOINTS
from flowfit.priors.networks.flow import ConditionalFlow
from flowfit.priors.networks.resnet import ResNet

BETAS, CAMERA = 10, 3
_MEAN_SCALE = 0.9  # of the head's camera before training: two metres fill that share of the crop
_FLOW = "flow.flow."
_HEAD = "flow.fc_head."
_BACKBONE = "backbone."
# buffers that the release saved and nothing reads, and parts that are not the posterior's
_NOT_READ = re.compile(
    r".*dummy_buffer$|.*_distribution\._log_z$|initialized$|(smpl|discriminator)\..*"
)
_TENSORS = {
    *("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"),
    *("collections.OrderedDict", "torch.Size", "torch.device"),
}
_INERT = ("pytorch_lightning.", "lightning.", "yacs.", "omegaconf.", "argparse.")


class ProHMRHead(nn.Module):
    """Camera and betas from the condition alone: linear, ReLU, linear, added to a mean."""

    init_cam: Tensor
    init_betas: Tensor

    def __init__(self, context: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(context, hidden), nn.ReLU(), nn.Linear(hidden, BETAS + CAMERA)
        )
        self.register_buffer("init_cam", torch.zeros(1, 1, CAMERA))
        self.register_buffer("init_betas", torch.zeros(1, 1, BETAS))

    def forward(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Betas (B, 10) and weak-perspective camera s, tx, ty (B, 3)."""
        offset = self.layers(context)
        betas, camera = offset[:, :BETAS], offset[:, BETAS:]
        return betas + self.init_betas[0], camera + self.init_cam[0]


class ProHMRPosterior(nn.Module):
    """ProHMR: image network, flow over the rotations (or joints), head.

    Attributes:
        backbone: None when the file holds features' posterior only. head: None for the 2D lifting.
    """

    def __init__(
        self, flow: ConditionalFlow, head: ProHMRHead | None, backbone: ResNet | None
    ) -> None:
        super().__init__()
        self.flow, self.head, self.backbone = flow, head, backbone

    def condition(self, images: Tensor) -> Tensor:
        """Features (B, 2048) of normalised crops (B, 3, 224, 224)."""
        if self.backbone is None:
            raise InputError("this checkpoint has no image network; give it features")
        return self.backbone(images)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mode's vectors (B, D), betas (B, 10) and camera (B, 3) of images."""
        context = self.condition(images)
        vectors = self.flow.decode(context.new_zeros(len(context), self.flow.features), context)[0]
        if self.head is None:
            raise InputError("this checkpoint has no head for shape and camera")
        return (vectors, *self.head(context))


@dataclass(frozen=True)
class Opened:
    """A checkpoint's posterior and what became of its entries.

    Attributes:
        posterior: in evaluation mode. left_over: entries that nothing here uses.
        sizes: what was inferred from the shapes.
    """

    posterior: ProHMRPosterior
    left_over: tuple[str, ...]
    sizes: dict[str, int]


def read_prohmr(path: Path, *, dtype: torch.dtype = torch.float32) -> Opened:
    """Open a released checkpoint; every size is inferred from the shapes.

    Raises:
        InputError: not such a file, damaged, naming code, or with entries missing.
    """
    state = _state_dict(path)
    flow_state = {k.removeprefix(_FLOW): v for k, v in state.items() if k.startswith(_FLOW)}
    flow_state = {k: v for k, v in flow_state.items() if not _NOT_READ.match(k)}
    sizes = _flow_sizes(path, flow_state)
    flow = ConditionalFlow(
        sizes["features"],
        sizes["context"],
        hidden=sizes["hidden"],
        steps=sizes["steps"],
        blocks=sizes["blocks"],
        batch_norm=bool(sizes["batch_norm"]),
    )
    head_state = {k.removeprefix(_HEAD): v for k, v in state.items() if k.startswith(_HEAD)}
    head = None
    if head_state:
        first = head_state.get("layers.0.weight")
        if first is None or first.ndim != 2:
            raise InputError(f"{path}: the head has no layers.0.weight")
        head = ProHMRHead(first.shape[1], first.shape[0])
    backbone_state = {
        k.removeprefix(_BACKBONE): v for k, v in state.items() if k.startswith(_BACKBONE)
    }
    backbone = _backbone_like(backbone_state) if "conv1.weight" in backbone_state else None
    _load(path, "flow", flow, flow_state)
    if head is not None:
        _load(path, "head", head, head_state)
    if backbone is not None:
        classifier = ("fc.weight", "fc.bias")
        _load(path, "backbone", backbone, _without(backbone_state, classifier))
    used = (_FLOW, _HEAD) + ((_BACKBONE,) if backbone is not None else ())
    left = tuple(sorted(k for k in state if not k.startswith(used) and not _NOT_READ.match(k)))
    posterior = ProHMRPosterior(flow, head, backbone).to(dtype).eval().requires_grad_(False)
    return Opened(posterior, left, sizes)


def _backbone_like(state: Mapping[str, Tensor]) -> ResNet:
    width = len(state["conv1.weight"])
    if any(".conv3." in k for k in state):
        return ResNet(50, width)
    return ResNet(34 if any(k.startswith("layer3.2.") for k in state) else 18, width)


def build_prohmr(
    *,
    hidden: int = 1024,
    steps: int = 4,
    blocks: int = 2,
    depth: int = 50,
    width: int = 64,
) -> ProHMRPosterior:
    """ProHMR's posterior before any training, in training mode.

    Args:
        hidden: of the flow and the head. steps, blocks: of the flow. depth, width: of the ResNet,
            whose features are the condition (2,048 of a ResNet-50).
    """
    backbone = ResNet(depth, width)
    context = backbone.features
    head = ProHMRHead(context, hidden)
    with torch.no_grad():
        head.init_cam[..., 0] = _MEAN_SCALE
        last = head.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.xavier_uniform_(last.weight, gain=0.02)  # begins at the mean
    flow = ConditionalFlow(NUM_JOINTS * 6, context, hidden=hidden, steps=steps, blocks=blocks)
    return ProHMRPosterior(flow, head, backbone)


def save_prohmr(path: Path, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a posterior's weights as the release has them, and a JSON beside, whole or not at all.

    Args:
        state: of a `ProHMRPosterior`. facts: training data, configuration, licence, ...

    Raises:
        InputError: a file cannot be written.
    """
    prefixes = {"flow.": _FLOW, "head.": _HEAD, "backbone.": _BACKBONE}
    named = {
        prefixes[f"{k.partition('.')[0]}."] + k.partition(".")[2]: v.detach().cpu().contiguous()
        for k, v in state.items()
    }
    buffer = io.BytesIO()
    torch.save({"state_dict": named}, buffer)
    write_whole(path, buffer.getvalue())
    write_whole(path.with_suffix(".json"), (json.dumps(dict(facts), indent=1) + "\n").encode())


def read_backbone(path: Path) -> dict[str, Tensor] | None:
    """Weights of an image network alone, with torchvision's names; None where it is no such file.

    Raises:
        InputError: no such file.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint file")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # the released checkpoints name classes, and are read elsewhere
        return None
    if not isinstance(loaded, dict) or "conv1.weight" not in loaded:
        return None
    return _without(loaded, ("fc.weight", "fc.bias"))


def _without(state: Mapping[str, Tensor], names: tuple[str, ...]) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if k not in names}


def _load(path: Path, part: str, module: nn.Module, state: Mapping[str, Tensor]) -> None:
    wanted = module.state_dict()
    missing = sorted(wanted.keys() - state.keys())
    extra = sorted(state.keys() - wanted.keys())
    if missing or extra:
        found = [f"{len(missing)} missing ({missing[0]}, ...)"] if missing else []
        found += [f"{len(extra)} unknown ({extra[0]}, ...)"] if extra else []
        raise InputError(f"{path}: its {part} does not fit ProHMR's: {', '.join(found)}")
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise InputError(
                f"{path}: {part} entry {name} has shape {tuple(tensor.shape)}, "
                f"not {tuple(wanted[name].shape)}"
            )
    module.load_state_dict(dict(state))


def _flow_sizes(path: Path, state: Mapping[str, Tensor]) -> dict[str, int]:
    layers = {int(m[1]) for k in state if (m := re.match(r"_transform\._transforms\.(\d+)\.", k))}
    try:
        features = state["_transform._transforms.0.shift"].shape[0]
        net = "_transform._transforms.2.transform_net."
        hidden, inputs = state[net + "initial_layer.weight"].shape
        kept = len(state["_transform._transforms.2.identity_features"])
    except (KeyError, ValueError, IndexError):
        raise InputError(
            f"{path} is not a ProHMR checkpoint: it has no flow of ActNorm, LU and coupling layers"
        ) from None
    blocks = {int(m[1]) for k in state if (m := re.match(re.escape(net) + r"blocks\.(\d+)\.", k))}
    return {
        "features": features,
        "context": inputs - kept,
        "hidden": hidden,
        "steps": len(layers) // 3,
        "blocks": len(blocks),
        "batch_norm": int(any("batch_norm_layers" in k for k in state)),
    }


class _Inert:
    """Stands for an object of a class that is not needed."""

    def __init__(self, *args: object, **named: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _TensorUnpickler(pickle.Unpickler):
    """Knows tensors; torch's reader adds the storages."""

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _TENSORS:
            return super().find_class(module, name)
        if full.startswith(_INERT):
            return _Inert
        raise InputError(
            f"names {full}, which is no tensor; it was not run and the file is refused"
        )


def _state_dict(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint file")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is no torch checkpoint (a zip file), or it is cut off")
    reader = types.SimpleNamespace(Unpickler=_TensorUnpickler, load=None, __name__="restricted")
    try:
        # not unrestricted: torch takes the unpickler above, which knows tensors and nothing else
        loaded = torch.load(path, map_location="cpu", pickle_module=reader, weights_only=False)
    except InputError as error:
        raise InputError(f"{path} {error}") from None
    except Exception as error:  # a damaged file can raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} cannot be read: {reason}") from None
    state = loaded.get("state_dict") if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path} is no Lightning checkpoint: it has no state_dict of tensors")
    bad = [k for k, v in state.items() if v.is_floating_point() and not bool(v.isfinite().all())]
    if bad:
        raise InputError(f"{path}: {bad[0]} has NaN or infinite values")
    return {str(k): v for k, v in state.items()}
