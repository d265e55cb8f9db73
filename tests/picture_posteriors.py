"""Small image posteriors with random weights, as files: this project's and ProHMR's."""

from __future__ import annotations

from pathlib import Path

import torch

from flowfit.priors.image.files import save_image_posterior
from flowfit.priors.image.posterior import ImagePosterior
from flowfit.priors.image.prohmr import ProHMRHead
from flowfit.priors.keypoints.files import load_posterior
from flowfit.priors.networks.flow import ConditionalFlow
from flowfit.priors.networks.resnet import ResNet
from flowfit.priors.weights_file import weights_file

CONTEXT = 128  # features of a ResNet-50 with 4 channels where the paper has 64

SIZES = {
    "image_size": 64,
    "fusion": 16,
    "encoder": {"widths": [4, 4, 8, 8], "pyramid": 8, "fine": 8, "features": 4},
}


def write_image_posterior(folder: Path, *, seed: int = 0) -> Path:
    """An image posterior whose answer depends on the picture and on the keypoints."""
    base = weights_file("keypoint_flow.safetensors")
    torch.manual_seed(seed)
    posterior = ImagePosterior(load_posterior(base)[0], **SIZES)
    # the last layer begins at zero, and then the picture would make no difference
    torch.nn.init.normal_(posterior.fusion.leave.weight, std=0.05)
    path = folder / "small.safetensors"
    save_image_posterior(path, posterior.state_dict(), SIZES, base, {"schema": "body25"})
    return path


def write_prohmr_checkpoint(folder: Path) -> Path:
    """A file in ProHMR's layout with random weights; its bodies are near the rest pose."""
    torch.manual_seed(0)
    backbone = ResNet(50, width=4)
    flow = ConditionalFlow(144, CONTEXT, hidden=16, steps=2, blocks=1, batch_norm=True)
    head = ProHMRHead(CONTEXT, 16)
    rest = torch.eye(3)[:, :2].T.flatten().repeat(24)
    rest[:6] = torch.tensor([1.0, 0, 0, 0, -1, 0])  # upright before an OpenCV camera
    with torch.no_grad():
        head.init_cam += torch.tensor([0.9, 0.02, 0.1])
        for module in flow.modules():
            if hasattr(module, "log_scale") and hasattr(module, "initialized"):
                module.initialized.fill_(True)
                module.log_scale.fill_(0.5)
        first = flow._transform._transforms[0]
        first.shift.copy_(-rest * first.log_scale.exp())
    state = {f"backbone.{k}": v for k, v in backbone.state_dict().items()}
    state |= {f"flow.flow.{k}": v for k, v in flow.state_dict().items()}
    state |= {f"flow.fc_head.{k}": v for k, v in head.state_dict().items()}
    state["initialized"] = torch.tensor(True)
    path = folder / "checkpoint.pt"
    torch.save({"state_dict": state, "epoch": 1}, path)
    return path
