"""The Rastrigin function: a parabola with a well at every whole number, in every coordinate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ebmcore_models.dot import dot
from ebmcore_models.exact import check_temperature

_NODES = 64
_TAIL = 60.0


@dataclass(frozen=True)
class Rastrigin:
    """A parabola and a cosine in every coordinate, all independent.

        U(x) = a d + sum_i (x_i^2 - a cos(2 pi x_i)) = sum_i (x_i^2 + 2 a sin^2(pi x_i))
        dU/dx_i = 2 x_i + 2 pi a sin(2 pi x_i)

    The global minimum is U(0) = 0; the barriers between neighbouring wells are about 2 a high.
    The second form is computed: the first loses the digits of a small U in those of a.
    L. A. Rastrigin, "Systems of extremal control" (1974). TorchEBM's RastriginModel is the same
    function with the same name and default (a = 10).

    Positions have the shape (dim,), or any shape where `dim` is left out. U is in the units of
    the temperature, and in the dtype and on the device of x; nothing is kept between calls.
    """

    a: float = field(default=10.0, metadata={"gt": 0, "description": "half the height of the barriers between wells"})
    dim: int | None = field(
        default=None, metadata={"ge": 1, "description": "number of coordinates; if left out, any shape"}
    )
    # Set where `dim` is, else absent: an energy without the attribute takes any shape.
    shape: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.dim is not None:
            object.__setattr__(self, "shape", (self.dim,))

    def __call__(self, x: Tensor) -> Tensor:
        """Return U [n] at x [n, *shape]."""
        wave = (x * math.pi).sin_()
        return dot(x, x).add_(dot(wave, wave), alpha=2.0 * self.a)

    def gradient(self, x: Tensor) -> Tensor:
        """Return dU/dx [n, *shape] at x [n, *shape]."""
        wave = (x * (2.0 * math.pi)).sin_()
        return torch.add(x, wave, alpha=math.pi * self.a).mul_(2.0)

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U [n] and dU/dx [n, *shape] at x [n, *shape]."""
        return self(x), self.gradient(x)

    def exact_moments(self, temperature: float = 1.0) -> dict[str, float]:
        """Return the moments of one coordinate under exp(-U/T); the coordinates are independent and alike.

        Gauss-Legendre quadrature with 64 nodes a well, over the part of x > 0 where U/T < 60 in one coordinate;
        relative error below 1e-12. Time and memory grow with the number of wells, 8 sqrt(T).

        Args:
            temperature: T > 0.

        Returns:
            "mean" (0 by symmetry), "variance" (E x^2) and "abs" (E |x|).

        Raises:
            InputError: `temperature` is not positive.
        """
        check_temperature(temperature)
        edge = math.sqrt(_TAIL * temperature)
        wells = np.arange(math.floor(edge + 0.5) + 1)
        # Within half a unit of a well x^2 is at least (well - 1/2)^2: what is left of the 60 T bounds the sine.
        left = np.maximum(_TAIL * temperature - np.maximum(wells - 0.5, 0.0) ** 2, 0.0)
        reach = np.arcsin(np.sqrt(np.minimum(left / (2.0 * self.a), 1.0))) / math.pi
        low = np.maximum(wells - reach, 0.0)
        width = np.maximum(np.minimum(wells + reach, edge) - low, 0.0)
        nodes, weights = np.polynomial.legendre.leggauss(_NODES)
        x = low[:, None] + width[:, None] * (nodes + 1.0) / 2.0
        energy = x**2 + 2.0 * self.a * np.sin(math.pi * (x - wells[:, None])) ** 2
        density = width[:, None] * weights * np.exp(-energy / temperature)
        density /= density.sum()
        return {"mean": 0.0, "variance": float((density * x**2).sum()), "abs": float((density * x).sum())}
