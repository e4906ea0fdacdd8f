"""The kit's own energies, with what is known of them exactly. No plugin is involved.

The coordinates of each are independent, and a chain's bits do not depend on its batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebmcore.protocols import Noise, Support

Floats = NDArray[np.float64]


class Target(Protocol):
    """An energy whose law is known."""

    shape: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Return U [n]."""
        ...

    def exact(self, like: Tensor, noise: Noise) -> Tensor:
        """Return exact draws of exp(-U/T) [n, *shape], T being the target's own `temperature`."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """U(x) = sum_i k_i (x_i - m_i - centre)^2 / 2, with k_i in 0.5 ... 1.5 and m_i in -1 ... 1.

    `centre` [n] is an optional condition, one number a chain.
    """

    shape: tuple[int, ...] = (3,)

    def __call__(self, x: Tensor, *, centre: Tensor | None = None) -> Tensor:
        return self.value_and_gradient(x, centre=centre)[0]

    def gradient(self, x: Tensor, *, centre: Tensor | None = None) -> Tensor:
        """Return dU/dx [n, *shape]."""
        return self._off(x, centre) * self.stiffness(x)

    def value_and_gradient(self, x: Tensor, *, centre: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return U [n] and dU/dx [n, *shape]."""
        off = self._off(x, centre)
        gradient = off * self.stiffness(x)
        return (0.5 * off * gradient).reshape(len(x), math.prod(self.shape)).sum(1), gradient

    def stiffness(self, like: Tensor) -> Tensor:
        """Return k [*shape]."""
        return self._spread(0.5, 1.5, like)

    def mean(self, like: Tensor) -> Tensor:
        """Return m [*shape]."""
        return self._spread(1.0, -1.0, like)

    def exact(self, like: Tensor, noise: Noise, temperature: float = 1.0) -> Tensor:
        """Return exact draws of exp(-U/T) [n, *shape]."""
        return noise.normal(like) * (temperature / self.stiffness(like)).sqrt() + self.mean(like)

    def _off(self, x: Tensor, centre: Tensor | None) -> Tensor:
        off = x - self.mean(x)
        return off if centre is None else off - centre.reshape(-1, *(1,) * len(self.shape))

    def _spread(self, first: float, last: float, like: Tensor) -> Tensor:
        count = math.prod(self.shape)
        values = torch.linspace(first, last, count) if count > 1 else torch.tensor([0.5 * (first + last) + 0.25])
        return values.to(like.device, like.dtype).reshape(self.shape)


@dataclass(frozen=True)
class Well:
    """U(x) = sum_i (x_i^2 / 4 - 1)^2: minima at -2 and 2 with curvature 2, and a barrier of 1 between them."""

    shape: tuple[int, ...] = (2,)

    def __call__(self, x: Tensor) -> Tensor:
        return (0.25 * x * x - 1.0).square().reshape(len(x), math.prod(self.shape)).sum(1)

    def gradient(self, x: Tensor) -> Tensor:
        """Return dU/dx [n, *shape]."""
        return x * (0.25 * x * x - 1.0)

    def exact(self, like: Tensor, noise: Noise) -> Tensor:
        """Return exact draws, by the inverse of the distribution function."""
        grid, density = self._quadrature()
        below = np.concatenate([[0.0], np.cumsum(density)])[:-1] + 0.5 * density
        uniform = noise.uniform(like).double().cpu().numpy()
        return torch.as_tensor(np.interp(uniform, below, grid)).to(like.device, like.dtype)

    def moments(self) -> dict[str, float]:
        """Return E |x|, E x^2 and E x^4 of a coordinate, by quadrature."""
        grid, density = self._quadrature()
        return {
            "E |x|": float(density @ abs(grid)),
            "E x^2": float(density @ grid**2),
            "E x^4": float(density @ grid**4),
        }

    @staticmethod
    def _quadrature() -> tuple[Floats, Floats]:
        grid = np.linspace(-7.0, 7.0, 20_001)
        density = np.exp(-((grid**2 / 4 - 1) ** 2))
        return grid, density / density.sum()


@dataclass(frozen=True)
class Spins:
    """U(x) = -sum_ij J x_i x_j - sum_i h_i x_i over neighbours of a ring of binary sites, J = 0.8, h_i in -0.5 ... 0.7.

    It is a polynomial of x: off the corners it has values and gradients too.
    """

    shape: tuple[int, ...] = (4,)
    support: ClassVar[Support] = "binary"

    def __call__(self, x: Tensor) -> Tensor:
        flat = x.reshape(len(x), math.prod(self.shape))
        return -(0.8 * flat * flat.roll(1, 1) + self._fields(flat) * flat).sum(1)

    def gradient(self, x: Tensor) -> Tensor:
        """Return dU/dx [n, *shape]."""
        flat = x.reshape(len(x), math.prod(self.shape))
        return -(0.8 * (flat.roll(1, 1) + flat.roll(-1, 1)) + self._fields(flat)).reshape(x.shape)

    def states(self, like: Tensor) -> Tensor:
        """Return all positions [2^sites, *shape]."""
        corners = torch.tensor(list(product((0.0, 1.0), repeat=math.prod(self.shape))))
        return corners.to(like.device, like.dtype).reshape(-1, *self.shape)

    def exact(self, like: Tensor, noise: Noise) -> Tensor:
        """Return exact draws, by enumeration."""
        return _enumerated(self, self.states(like), noise)

    def _fields(self, flat: Tensor) -> Tensor:
        return torch.linspace(-0.5, 0.7, flat.shape[1]).to(flat.device, flat.dtype)


@dataclass(frozen=True)
class Potts:
    """U(x) = -sum_i h_i . x_i - 0.7 sum_i x_i . x_(i+1) over one-hot sites, classes last."""

    shape: tuple[int, ...] = (2, 3)
    support: ClassVar[Support] = "categorical"

    def __call__(self, x: Tensor) -> Tensor:
        sites = self._sites(x)
        return (
            -(0.7 * sites * sites.roll(1, 1) + self._fields(sites) * sites)
            .reshape(len(x), math.prod(self.shape))
            .sum(1)
        )

    def gradient(self, x: Tensor) -> Tensor:
        """Return dU/dx [n, *shape]."""
        sites = self._sites(x)
        return -(0.7 * (sites.roll(1, 1) + sites.roll(-1, 1)) + self._fields(sites)).reshape(x.shape)

    def states(self, like: Tensor) -> Tensor:
        """Return all positions [classes^sites, *shape]."""
        classes = self.shape[-1]
        chosen = torch.tensor(list(product(range(classes), repeat=math.prod(self.shape[:-1]))))
        one_hot = torch.nn.functional.one_hot(chosen, classes)
        return one_hot.to(like.device, like.dtype).reshape(-1, *self.shape)

    def exact(self, like: Tensor, noise: Noise) -> Tensor:
        """Return exact draws, by enumeration."""
        return _enumerated(self, self.states(like), noise)

    def _sites(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), math.prod(self.shape[:-1]), self.shape[-1])

    def _fields(self, sites: Tensor) -> Tensor:
        count = sites.shape[1] * sites.shape[2]
        return torch.linspace(-0.5, 0.7, count).to(sites.device, sites.dtype).reshape(sites.shape[1:])


def probabilities(target: Spins | Potts, states: Tensor) -> Tensor:
    """Return exp(-U) of each state over its sum, float64."""
    return (-target(states.double())).softmax(0)


def _enumerated(target: Spins | Potts, states: Tensor, noise: Noise) -> Tensor:
    below = probabilities(target, states).cumsum(0)
    chosen = torch.searchsorted(below, noise.uniform_per_chain().double())
    return states[chosen.clamp(max=len(states) - 1)]
