from __future__ import annotations

import pytest
import torch

from flowfit.fitting.energy.normal_equations import (
    GaussNewton,
    _dual_step,
    _primal_step,
    damped_step,
)


def model(people=4, rows=6, numbers=12, free=3, seed=0):
    """A flow's model: most numbers held by the prior, the last few by nothing."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(people, *shape, generator=generator, dtype=torch.float64)

    diagonal = torch.ones(people, numbers, dtype=torch.float64) * 2.5
    diagonal[:, numbers - free :] = 0
    return GaussNewton(normal(numbers), normal(rows, numbers), diagonal)


def damped_by_hand(m, damping):
    scale = torch.diag_embed(m.hessian.diagonal(dim1=-2, dim2=-1))
    return -torch.linalg.solve(m.hessian + damping[:, None, None] * scale, m.gradient)


def test_the_hessian_is_what_the_parts_say():
    m = model()
    for i in range(4):
        by_hand = m.jacobian[i].T @ m.jacobian[i] + torch.diag(m.diagonal[i])
        torch.testing.assert_close(m.hessian[i], by_hand)
        torch.testing.assert_close(m.hessian_diagonal()[i], by_hand.diagonal())


@pytest.mark.parametrize("free", [0, 1, 3])
@pytest.mark.parametrize("damping", [1e-6, 1e-2, 10.0])
def test_both_systems_give_the_same_step(free, damping):
    m = model(free=free)
    added = damping * m.hessian_diagonal()
    primal = _primal_step(m, added)
    dual = _dual_step(m, added, (m.diagonal > 0).all(0))
    assert primal.solved.all()
    assert dual.solved.all()
    torch.testing.assert_close(dual.step, primal.step, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("held", [True, False])
def test_the_step_solves_the_damped_system(held):
    m = model(rows=6 if held else 20)
    if not held:
        m = m._replace(diagonal=torch.zeros_like(m.diagonal))
    damping = torch.tensor([0.1, 1.0, 0.01, 3.0], dtype=torch.float64)
    step, solved = damped_step(m, damping)
    assert solved.all()
    torch.testing.assert_close(step, damped_by_hand(m, damping), rtol=1e-4, atol=1e-5)


def test_the_predicted_fall_is_the_models():
    m, generator = model(), torch.Generator().manual_seed(3)
    step = torch.randn(4, 12, generator=generator, dtype=torch.float64)
    for i in range(4):
        by_hand = m.gradient[i] @ step[i] + 0.5 * step[i] @ m.hessian[i] @ step[i]
        torch.testing.assert_close(m.fall(step)[i], -by_hand)


def test_selected_numbers_move_as_if_the_others_were_held():
    m = model()
    columns = torch.tensor([0, 3, 11])
    got = damped_step(m.select(columns), torch.full((4,), 0.1, dtype=torch.float64)).step
    hessian = m.hessian[:, columns[:, None], columns]
    damped = hessian + 0.1 * torch.diag_embed(hessian.diagonal(dim1=-2, dim2=-1))
    expected = -torch.linalg.solve(damped, m.gradient[:, columns])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [4, 30])  # the small system, the whole system
def test_a_failure_stays_in_its_row(rows):
    m = model(rows=rows)
    damping = torch.full((4,), 1e-2, dtype=torch.float64)
    clean = damped_step(m, damping)
    assert clean.solved.all()
    jacobian, gradient = m.jacobian.clone(), m.gradient.clone()
    jacobian[1] = torch.nan
    gradient[2] = torch.inf
    got = damped_step(m._replace(jacobian=jacobian, gradient=gradient), damping)
    assert got.solved.tolist() == [True, False, False, True]
    assert not got.step[1:3].any()
    torch.testing.assert_close(got.step[[0, 3]], clean.step[[0, 3]], rtol=1e-12, atol=1e-12)


def test_a_number_that_nothing_depends_on_does_not_move():
    m = model(rows=30)
    jacobian, gradient = m.jacobian.clone(), m.gradient.clone()
    jacobian[..., 11], gradient[:, 11] = 0, 0
    got = damped_step(
        m._replace(jacobian=jacobian, gradient=gradient), torch.full((4,), 0.1).double()
    )
    assert got.solved.all()
    assert not got.step[:, 11].any()
