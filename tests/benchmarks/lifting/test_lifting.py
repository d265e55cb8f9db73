"""What `benchmarks.lifting.lifting` measures, on a few people and a small lifter."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from benchmarks.lifting.lifting import (
    CURVES_OF,
    condition,
    curves,
    made_up,
    set_errors,
    slope,
    training_skeletons,
)
from benchmarks.lifting.lifting_page import markdown, plot
from flowfit.models.body_files import find_body
from flowfit.models.metrics import pa_mpjpe
from flowfit.priors.lifting.lifter import Lifter
from tests.priors.training.test_keypoints import make_mocap

SMALL = {"context": 8, "hidden": 8, "width": 8, "depth": 1, "steps": 1, "blocks": 1}


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    body, lifter = find_body("open-low"), Lifter(**SMALL).eval()
    seen = made_up(CURVES_OF, body, make_mocap(), 2, 0)
    pool = training_skeletons(body, make_mocap(1), 500, 0)
    return body, lifter, seen, pool


def test_the_best_of_more_is_never_worse_and_the_mode_comes_first(parts):
    _, lifter, seen, pool = parts
    found = curves(lifter, seen, pool, 0)
    for curve in found["curves"].values():
        errors = list(curve.values())
        assert all(later <= sooner for sooner, later in pairwise(errors))
    mode = lifter.mode(condition(lifter, seen)).joints[:, 0]
    expected = 1000 * pa_mpjpe(mode, seen.joints).mean().item()
    for name in ("posterior", "Gaussian, 1 cm", "Gaussian, 20 cm"):
        assert found["curves"][name]["1"] == pytest.approx(expected, rel=1e-4)
    assert found["curves"]["training set"]["1"] != pytest.approx(expected, rel=1e-4)
    for levels in found["coverage"].values():
        assert levels["0.5"] <= levels["0.8"] <= levels["0.95"]


def test_the_slope_is_that_of_the_line():
    doublings = torch.arange(13.0)
    line = slope(60 - 1.5 * doublings)
    assert line["mm_a_doubling"] == pytest.approx(-1.5, abs=1e-5)
    assert line["r_squared"] == pytest.approx(1, abs=1e-5)
    assert slope(60 - doublings**3)["r_squared"] < 0.95


def test_the_page_and_the_plot_are_made(parts, tmp_path):
    pytest.importorskip("matplotlib")
    body, lifter, seen, pool = parts
    content = {
        "people_a_set": 2,
        "sampled": 2,
        "sets": {CURVES_OF: set_errors(seen, body, lifter, lifter)},
        **curves(lifter, seen, pool, 0),
        "speed": {
            "people": 2,
            "modes_a_second": 1.0,
            "samples_each": 100,
            "samples_a_second": 1.0,
            "people_with_samples_a_second": 1.0,
        },
    }
    methods = content["sets"][CURVES_OF]
    assert methods["mode"] == methods["plain regressor"]
    text = markdown(content)
    assert f"{methods['mode']['mpjpe_mm']:.1f} / {methods['mode']['pa_mpjpe_mm']:.1f}" in text
    plot(content, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000
