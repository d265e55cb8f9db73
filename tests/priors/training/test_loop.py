"""The training loop by itself, with the smallest thing that can learn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from flowfit.models.errors import InputError
from flowfit.priors.training.config import Schedule
from flowfit.priors.training.loop import Learner, Trainer


@dataclass(frozen=True)
class Config(Schedule):
    steps: int = 8
    batch: int = 4
    rate: float = 0.1
    weight_decay: float = 0.0
    warmup: int = 0
    falling: float = 0.0
    clip: float = 0.0
    ema: float = 0.5
    seed: int = 1


class Line(Learner):
    """Learns that nothing has the slope 3; one step's numbers may be useless."""

    unit = "points"

    def __init__(self, useless=(), phase_ends=(), bias=True):
        torch.manual_seed(0)
        self.shown = {"error": ".1f"}
        self.model, self.device = nn.Linear(1, 1, bias=bias), torch.device("cpu")
        self.counter = nn.BatchNorm1d(1)  # something else that changes
        self.others, self.useless, self.phase_ends = {"counter": self.counter}, useless, phase_ends

    def losses(self, step):
        x = torch.randn(4, 1, generator=torch.Generator().manual_seed(step))
        error = ((self.model(x) - 3 * x) ** 2).mean()
        return error * (math.nan if step in self.useless else 1), {"error": error}

    def follow(self):
        self.counter.num_batches_tracked += 1
        return {"followed": 1.0}

    def validate(self, weights):
        return {"slope": float(weights["weight"])}

    def export(self, path, weights, facts):
        torch.save({**weights, **facts}, path)


def rows(trainer, **options):
    return list(trainer.train(progress=False, **options))


def test_it_learns_and_writes_what_it_found(tmp_path):
    trainer = Trainer(Config(steps=120), Line(), tmp_path)
    found = rows(trainer, save_every=20, validate_every=60)
    assert [row["error"] for row in found] == sorted((r["error"] for r in found), reverse=True)
    assert ["val_slope" in row for row in found] == [False, False, True, False, False, True]
    assert found[-1]["val_slope"] == pytest.approx(3, abs=0.1)
    assert found[-1]["points_per_second"] > 0
    assert (tmp_path / "log.csv").read_text().count("val_slope") == 2
    trainer.export(tmp_path / "made.pt", {"why": "a test"})
    made = torch.load(tmp_path / "made.pt", weights_only=True)
    assert torch.equal(made["weight"], trainer.average["weight"])
    assert made["steps"] == 120
    assert made["config"]["rate"] == 0.1
    assert made["why"] == "a test"


def test_a_batch_without_finite_gradients_moves_nothing(tmp_path):
    trainer = Trainer(Config(), Line(useless=(1,)), tmp_path)
    trainer.step()
    before = {k: v.clone() for k, v in trainer.learner.state().items()}
    assert math.isnan(trainer.step()["gradient"])
    assert all(torch.equal(v, before[k]) for k, v in trainer.learner.state().items())
    trainer.step()
    assert not torch.equal(trainer.learner.state()["weight"], before["weight"])


def test_terms_are_not_averaged_over_two_phases(tmp_path):
    found = rows(Trainer(Config(), Line(phase_ends=(3,)), tmp_path), save_every=5)
    steps = {int(line.split(",")[0]) for line in (tmp_path / "log.csv").read_text().split()[1:]}
    assert steps == {3, 5, 8}
    assert [row["followed"] for row in found] == [1.0, 1.0, 1.0]


def test_whatever_else_changes_is_resumed(tmp_path):
    trainer = Trainer(Config(), Line(), tmp_path)
    for _ in range(3):
        trainer.step()
    trainer.save_state()
    again = Trainer(Config(), Line(), tmp_path)
    assert again.resume()
    assert again.learner.counter.num_batches_tracked == 3
    with pytest.raises(InputError, match="it holds other weights"):
        Trainer(Config(), Line(bias=False), tmp_path).resume()
    begun = Line()
    begun.began_with = "another file"
    with pytest.raises(InputError, match="another configuration or start"):
        Trainer(Config(), begun, tmp_path).resume()
