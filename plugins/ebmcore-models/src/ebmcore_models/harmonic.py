"""The harmonic oscillator: one spring a coordinate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from ebmcore_models.dot import dot
from ebmcore_models.exact import check_temperature, generator, normals


@dataclass(frozen=True)
class Harmonic:
    """A spring of stiffness k in every coordinate, all independent.

        U(x) = k/2 * sum_i x_i^2,    dU/dx_i = k * x_i

    Under exp(-U/T) each coordinate is N(0, T/k). TorchEBM's HarmonicModel is the same function
    with the same name and default (k = 1).

    Positions have the shape (dim,), or any shape where `dim` is left out. U is in the units of
    the temperature, and in the dtype and on the device of x; nothing is kept between calls.
    """

    k: float = field(default=1.0, metadata={"gt": 0, "description": "stiffness of the springs"})
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
        return dot(x, x).mul_(0.5 * self.k)

    def gradient(self, x: Tensor) -> Tensor:
        """Return dU/dx [n, *shape] at x [n, *shape]."""
        return x * self.k

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U [n] and dU/dx [n, *shape] at x [n, *shape]."""
        return self(x), self.gradient(x)

    @property
    def slope(self) -> tuple[float, ...]:
        """The coefficients of dU/dx_i as a polynomial in x_i, lowest power first."""
        return 0.0, self.k

    def exact_moments(self, temperature: float = 1.0) -> dict[str, float]:
        """Return the moments of one coordinate under exp(-U/T); the coordinates are independent and alike.

        Args:
            temperature: T > 0.

        Returns:
            "mean" (0), "variance" (T/k) and "abs" (E |x| = sqrt(2 T / (pi k))).

        Raises:
            InputError: `temperature` is not positive.
        """
        check_temperature(temperature)
        variance = temperature / self.k
        return {"mean": 0.0, "variance": variance, "abs": math.sqrt(2.0 * variance / math.pi)}

    def exact_draws(self, n: int, *, temperature: float = 1.0, seed: int) -> Tensor:
        """Return n independent draws from exp(-U/T), [n, dim], float64, on the CPU.

        Args:
            n: Number of draws.
            temperature: T > 0.
            seed: Seed of a generator of their own.

        Raises:
            InputError: An argument is out of range, or the model was made without `dim`.
        """
        check_temperature(temperature)
        return normals(n, getattr(self, "shape", None), generator(seed)).mul_(math.sqrt(temperature / self.k))
