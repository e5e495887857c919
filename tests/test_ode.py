"""Solvers: their orders, their agreement with torchdiffeq, their gradients, the numbers of their evaluations."""

import math

import pytest
import torch
from tools import need
from torch import nn

from limbeck.nets.ode import Solver, solve, stages, times

SOLVERS: list[tuple[Solver, int]] = [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)]
ORACLES: list[tuple[Solver, str]] = [("euler", "euler"), ("midpoint", "midpoint"), ("heun", "heun2")]


class Field(nn.Module):
    """A smooth nonlinear f(z, t) of three channels."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, dtype=torch.float64, generator=seeded()))

    def forward(self, z, t, call=0):
        return torch.tanh(z @ self.weight + t) - 0.3 * t * z


def seeded():
    return torch.Generator().manual_seed(0)


def states():
    return torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("solver", "order"), SOLVERS)
def test_the_error_falls_with_the_order_of_the_solver(solver, order):
    start = states()
    exact = start * math.exp(1.5)  # z' = (1 + t) z

    def error(steps):
        z = solve(lambda z, t, call: (1 + t) * z, start, steps, 1 / steps, solver)
        return math.log2((z - exact).abs().max().item())

    slopes = [error(steps) - error(2 * steps) for steps in (8, 16, 32)]
    assert slopes == pytest.approx([order] * 3, abs=0.2)


@pytest.mark.parametrize(("solver", "oracle"), ORACLES)
def test_states_and_gradients_are_those_of_torchdiffeq(solver, oracle):
    need("torchdiffeq")
    import torchdiffeq

    f, start = Field(), states().requires_grad_()
    ours = solve(f, start, 5, 1 / 5, solver)
    grid = torch.linspace(0, 1, 6, dtype=torch.float64)
    theirs = torchdiffeq.odeint(lambda t, z: f(z, t), start, grid, method=oracle)[-1]
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    inputs = (start, f.weight)
    for mine, other in zip(
        torch.autograd.grad(ours.square().sum(), inputs),
        torch.autograd.grad(theirs.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


def test_rk4_is_torchdiffeqs_on_a_linear_field_and_near_it_on_another():
    # torchdiffeq's rk4 is the 3/8 rule: on a linear field all methods of four stages and order four are the same
    need("torchdiffeq")
    import torchdiffeq

    f, start = Field(), states()
    grid = torch.linspace(0, 1, 6, dtype=torch.float64)
    with torch.no_grad():
        ours = solve(lambda z, t, call: z @ f.weight, start, 5, 1 / 5, "rk4")
        theirs = torchdiffeq.odeint(lambda t, z: z @ f.weight, start, grid, method="rk4")[-1]
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        ours = solve(f, start, 5, 1 / 5, "rk4")
        theirs = torchdiffeq.odeint(lambda t, z: f(z, t), start, grid, method="rk4")[-1]
        torch.testing.assert_close(ours, theirs, rtol=0, atol=(1 / 5) ** 4)


@pytest.mark.parametrize(("solver", "order"), SOLVERS)
def test_gradients_are_finite_differences(solver, order):
    f = Field()
    assert torch.autograd.gradcheck(lambda z: solve(f, z, 3, 1 / 3, solver), states().requires_grad_())


@pytest.mark.parametrize(("solver", "order"), SOLVERS)
def test_evaluations_are_numbered_in_the_order_of_times(solver, order):
    made = []

    def f(z, t, call):
        made.append((call, t))
        return z

    solve(f, states(), 3, 1.0, solver)
    assert made == list(enumerate(times(3, solver)))
    assert len(made) == 3 * stages(solver)


def test_euler_steps_of_size_one_are_residual_blocks():
    f, z = Field(), states()
    first = z + f(z, 0.0)
    assert torch.equal(solve(f, z, 2, 1.0, "euler"), first + f(first, 0.5))
