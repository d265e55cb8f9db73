from __future__ import annotations

import torch

from flowfit.fitting.energy.tangent import Pulled, Tangent, sketch

PEOPLE, POSE, LATENT = 3, 10, 7


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def pulled(true, rows):
    return Pulled(rows, rows @ true)


def test_rows_that_were_told_are_remembered():
    true, rows = normal(PEOPLE, POSE, LATENT), normal(PEOPLE, 4, POSE, seed=1)
    tangent = Tangent.learned(pulled(true, rows))
    torch.testing.assert_close(rows @ tangent.matrix, rows @ true, rtol=1e-3, atol=1e-3)


def test_enough_rows_are_the_whole_truth():
    true, tangent = normal(PEOPLE, POSE, LATENT), None
    for seed in range(60):
        told = pulled(true, normal(PEOPLE, 4, POSE, seed=100 + seed))
        tangent = Tangent.learned(told) if tangent is None else tangent.corrected(told)
    torch.testing.assert_close(tangent.matrix, true, rtol=1e-3, atol=1e-3)


def test_what_the_rows_do_not_touch_is_kept():
    before = normal(PEOPLE, POSE, LATENT)
    rows = normal(PEOPLE, 2, POSE, seed=1)
    rows[..., 5:] = 0
    after = Tangent(before).corrected(Pulled(rows, normal(PEOPLE, 2, LATENT, seed=2)))
    assert torch.equal(after.matrix[:, 5:], before[:, 5:])
    assert not torch.equal(after.matrix[:, :5], before[:, :5])


def test_a_bad_row_keeps_what_it_had():
    before, rows = normal(PEOPLE, POSE, LATENT), normal(PEOPLE, 3, POSE, seed=1)
    told = normal(PEOPLE, 3, LATENT, seed=2)
    clean = Tangent(before).corrected(Pulled(rows, told))
    bad = rows.clone()
    bad[1] = torch.nan
    after = Tangent(before).corrected(Pulled(bad, told))
    assert torch.equal(after.matrix[1], before[1])
    assert torch.equal(after.matrix[[0, 2]], clean.matrix[[0, 2]])


def test_rows_of_nothing_teach_nothing():
    before = normal(PEOPLE, POSE, LATENT)
    none = Pulled(torch.zeros(PEOPLE, 3, POSE).double(), torch.zeros(PEOPLE, 3, LATENT).double())
    assert torch.equal(Tangent(before).corrected(none).matrix, before)


def test_sketches_are_the_same_for_everybody():
    rows = normal(PEOPLE, 20, POSE)
    together = sketch(rows, 4)
    assert together.shape == (PEOPLE, 4, POSE)
    torch.testing.assert_close(sketch(rows[1:2], 4), together[1:2], rtol=1e-12, atol=1e-12)
    assert torch.equal(sketch(rows, 4), together)


def test_other_turns_mix_otherwise():
    rows = normal(PEOPLE, 20, POSE)
    first, second = sketch(rows, 4, 1), sketch(rows, 4, 2)
    assert torch.linalg.matrix_rank(torch.cat((first, second), 1))[0] == 8
    assert torch.equal(sketch(rows, 20, 5), rows)
