"""The Rosenbrock function: a curved, narrow valley."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ebmcore_models.dot import dot
from ebmcore_models.exact import check_temperature, generator, normals


@dataclass(frozen=True)
class Rosenbrock:
    """A valley along x_{i+1} = x_i^2.

        U(x) = sum_{i=1}^{d-1} b (x_{i+1} - x_i^2)^2 + (a - x_i)^2

    With r_i = x_{i+1} - x_i^2, 0 beyond the ends, dU/dx_i = 2 b r_{i-1} - 4 b r_i x_i + 2 (x_i - a),
    where the last term is absent for i = d. For a = 1 the global minimum is U(1, ..., 1) = 0.
    H. H. Rosenbrock, "An automatic method for finding the greatest or least value of a function",
    The Computer Journal 3 (1960). TorchEBM's RosenbrockModel is the same function with the same
    names and defaults (a = 1, b = 100).

    Positions have the shape (dim,). For dim = 2 the law is two Gaussians, one given the other:
    x_1 ~ N(a, T/2), x_2 ~ N(x_1^2, T/(2b)); `exact_moments` and `exact_draws` are there for dim = 2
    alone. U is in the units of the temperature, and in the dtype and on the device of x; nothing
    is kept between calls. The stiffest direction at x_1 has a curvature of about 2 b (1 + 4 x_1^2):
    Langevin steps must be well below its inverse.
    """

    a: float = field(default=1.0, metadata={"description": "mean of x_1; the minimum is at x_1 = a for dim = 2"})
    b: float = field(default=100.0, metadata={"gt": 0, "description": "stiffness of the valley's walls"})
    dim: int = field(default=2, metadata={"ge": 2, "description": "number of coordinates"})
    shape: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", (self.dim,))

    def __call__(self, x: Tensor) -> Tensor:
        """Return U [n] at x [n, dim]."""
        return self._energy(x[:, :-1], _residual(x))

    def gradient(self, x: Tensor) -> Tensor:
        """Return dU/dx [n, dim] at x [n, dim]."""
        return self._slope(x[:, :-1], _residual(x))

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U [n] and dU/dx [n, dim] at x [n, dim]."""
        residual = _residual(x)
        return self._energy(x[:, :-1], residual), self._slope(x[:, :-1], residual)

    @property
    def exact_moments(self) -> Callable[..., dict[str, np.ndarray]]:
        """(temperature=1.0) -> the moments under exp(-U/T), float64; for dim = 2, else absent.

        "mean" [2] is (a, a^2 + T/2), "variance" [2] is (T/2, 2 a^2 T + T^2/2 + T/(2b)), and
        "covariance" [2, 2] has a T off its diagonal. InputError if T > 0 does not hold.
        """
        self._only_in_two("exact_moments")
        return self._moments

    @property
    def exact_draws(self) -> Callable[..., Tensor]:
        """(n, *, temperature=1.0, seed) -> n independent draws from exp(-U/T); for dim = 2, else absent.

        They are [n, 2], float64, on the CPU, from a generator of their own. InputError if an argument
        is out of range.
        """
        self._only_in_two("exact_draws")
        return self._draws

    def _energy(self, head: Tensor, residual: Tensor) -> Tensor:
        off = head - self.a
        return dot(residual, residual).mul_(self.b).add_(dot(off, off))

    def _slope(self, head: Tensor, residual: Tensor) -> Tensor:
        wall = residual.mul_(2.0 * self.b)
        # 2 head (1 - wall) - 2a; the constant is a tensor of one element because addcmul wants one.
        lead = torch.addcmul(head.new_full((), -2.0 * self.a), head, 1.0 - wall, value=2.0)
        slope: Tensor = pad(lead, (0, 1))
        slope[:, 1:] += wall
        return slope

    def _only_in_two(self, name: str) -> None:
        if self.dim != 2:
            raise AttributeError(f"Rosenbrock has `{name}` for dim = 2 alone; got dim = {self.dim}.")

    def _moments(self, temperature: float = 1.0) -> dict[str, np.ndarray]:
        check_temperature(temperature)
        spread, thickness = temperature / 2.0, temperature / (2.0 * self.b)
        # For x ~ N(a, s): Var(x^2) = 4 a^2 s + 2 s^2, Cov(x, x^2) = 2 a s.
        across = 2.0 * self.a * spread
        square = 4.0 * self.a**2 * spread + 2.0 * spread**2 + thickness
        return {
            "mean": np.array([self.a, self.a**2 + spread]),
            "variance": np.array([spread, square]),
            "covariance": np.array([[spread, across], [across, square]]),
        }

    def _draws(self, n: int, *, temperature: float = 1.0, seed: int) -> Tensor:
        check_temperature(temperature)
        x = normals(n, self.shape, generator(seed))
        x[:, 0].mul_(math.sqrt(temperature / 2.0)).add_(self.a)
        x[:, 1].mul_(math.sqrt(temperature / (2.0 * self.b))).add_(x[:, 0] ** 2)
        return x


def _residual(x: Tensor) -> Tensor:
    head = x[:, :-1]
    return torch.addcmul(x[:, 1:], head, head, value=-1.0)
