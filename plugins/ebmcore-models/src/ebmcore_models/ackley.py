"""The Ackley function: a funnel, nearly flat far out, with a well at every point of a grid."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ebmcore_models.dot import dot


@dataclass(frozen=True)
class Ackley:
    """A funnel around 0 with ripples; d is the number of coordinates.

        U(x) = a (1 - exp(-b r)) + e - exp(m),    r = sqrt(sum_i x_i^2 / d),    m = sum_i cos(c x_i) / d
        dU/dx_i = (a b exp(-b r) x_i / r + c exp(m) sin(c x_i)) / d

    The global minimum is U(0) = 0. There U has a cusp: its gradient is given as 0.

    exp(-U/T) is not normalisable, at any T: U stays below a + e - 1/e however far out. It is no
    probability density, there are no exact moments, and a chain that runs long enough leaves the
    funnel for good. Keep chains within bounds, or take it as a landscape to find the minimum of.

    D. H. Ackley, "A connectionist machine for genetic hillclimbing" (1987). TorchEBM's AckleyModel
    is the same function with the same names and defaults (a = 20, b = 0.2, c = 2 pi).

    Positions have the shape (dim,), or any shape where `dim` is left out. U is in the dtype and on
    the device of x; nothing is kept between calls.
    """

    a: float = field(default=20.0, metadata={"ge": 0, "description": "depth of the funnel"})
    b: float = field(default=0.2, metadata={"gt": 0, "description": "1/b is the width of the funnel"})
    c: float = field(
        default=2.0 * math.pi, metadata={"gt": 0, "description": "wave number of the ripples: wells are 2 pi / c apart"}
    )
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
        return self._energy(_radius(x), self._depth((x * (0.5 * self.c)).sin_()))

    def gradient(self, x: Tensor) -> Tensor:
        """Return dU/dx [n, *shape] at x [n, *shape]."""
        return self.value_and_gradient(x)[1]

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U [n] and dU/dx [n, *shape] at x [n, *shape]."""
        d = math.prod(x.shape[1:])
        angle = x * (0.5 * self.c)
        sine = angle.sin()
        r, depth = _radius(x), self._depth(sine)
        # Below this the squares under r have underflowed; above it x / r is a direction.
        safe = r.clamp_min(torch.finfo(x.dtype).tiny ** 0.5)
        rows = (len(x), *[1] * (x.ndim - 1))
        pull = (r * -self.b).exp_().div_(safe).mul_(self.a * self.b / d).view(rows)
        # c/d exp(m) sin(c x) = 2 c/d exp(m) sin(c x / 2) cos(c x / 2)
        swing = (1.0 - depth).exp_().mul_(2.0 * self.c / d).view(rows)
        return self._energy(r, depth), torch.addcmul(x * pull, angle.cos_().mul_(sine), swing)

    def _depth(self, sine: Tensor) -> Tensor:
        # 1 - m, of the sines of c x / 2: cos(c x) = 1 - 2 sin^2(c x / 2) would lose its digits near 0.
        return dot(sine, sine).mul_(2.0 / math.prod(sine.shape[1:]))

    def _energy(self, r: Tensor, depth: Tensor) -> Tensor:
        # A result of expm1 is what its derivative is made of: autograd wants it unchanged.
        return (r * -self.b).expm1().mul(-self.a).add_(depth.neg().expm1(), alpha=-math.e)


def _radius(x: Tensor) -> Tensor:
    return dot(x, x).div_(math.prod(x.shape[1:])).sqrt_()
