"""Fixed-step solvers of an ordinary differential equation, unrolled: they train, export, quantise and lower.

Each takes (f, z, steps, h), z of any shape, and returns the state after `steps` steps of z' = h·steps·f(z, t) from
t = 0 to 1: with h = 1 / steps that is z' = f(z, t); with h = 1 every Euler step is one residual block. f(z, t,
call) also gets the number of its evaluation, from 0 through all steps and stages, for what is kept per evaluation
(BatchNorm's statistics).
"""

from collections.abc import Callable
from typing import Literal

from torch import Tensor

Field = Callable[[Tensor, float, int], Tensor]
Solver = Literal["euler", "midpoint", "heun", "rk4"]


def euler(f: Field, z: Tensor, steps: int, h: float) -> Tensor:
    """Return z after `steps` steps of order 1, one evaluation per step."""
    for k in range(steps):
        z = z.add(f(z, k / steps, k), alpha=h)
    return z


def midpoint(f: Field, z: Tensor, steps: int, h: float) -> Tensor:
    """Return z after `steps` steps of order 2: f in the middle of an Euler step, two evaluations per step."""
    for k in range(steps):
        first = f(z, k / steps, 2 * k)
        z = z.add(f(z.add(first, alpha=h / 2), (k + 0.5) / steps, 2 * k + 1), alpha=h)
    return z


def heun(f: Field, z: Tensor, steps: int, h: float) -> Tensor:
    """Return z after `steps` steps of order 2: the mean of f at a step's two ends, two evaluations per step."""
    for k in range(steps):
        first = f(z, k / steps, 2 * k)
        second = f(z.add(first, alpha=h), (k + 1) / steps, 2 * k + 1)
        z = z.add(first + second, alpha=h / 2)
    return z


def rk4(f: Field, z: Tensor, steps: int, h: float) -> Tensor:
    """Return z after `steps` steps of order 4, the classical Runge-Kutta method, four evaluations per step."""
    for k in range(steps):
        first = f(z, k / steps, 4 * k)
        second = f(z.add(first, alpha=h / 2), (k + 0.5) / steps, 4 * k + 1)
        third = f(z.add(second, alpha=h / 2), (k + 0.5) / steps, 4 * k + 2)
        fourth = f(z.add(third, alpha=h), (k + 1) / steps, 4 * k + 3)
        z = z.add(first + 2 * (second + third) + fourth, alpha=h / 6)
    return z


def solve(f: Field, z: Tensor, steps: int, h: float, solver: Solver) -> Tensor:
    """Return z after `steps` steps of the solver with this name."""
    match solver:
        case "euler":
            return euler(f, z, steps, h)
        case "midpoint":
            return midpoint(f, z, steps, h)
        case "heun":
            return heun(f, z, steps, h)
        case "rk4":
            return rk4(f, z, steps, h)


def stages(solver: Solver) -> int:
    """Return how often a step of the solver evaluates f."""
    match solver:
        case "euler":
            return 1
        case "midpoint" | "heun":
            return 2
        case "rk4":
            return 4


def times(steps: int, solver: Solver) -> list[float]:
    """Return t of each of f's evaluations, in the order of their numbers."""
    match solver:
        case "euler":
            nodes = [0.0]
        case "midpoint":
            nodes = [0.0, 0.5]
        case "heun":
            nodes = [0.0, 1.0]
        case "rk4":
            nodes = [0.0, 0.5, 0.5, 1.0]
    return [(k + node) / steps for k in range(steps) for node in nodes]
