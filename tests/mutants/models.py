"""Wrong energies: a quadratic with one fault each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from tests.mutants import Mutant


@dataclass(frozen=True)
class Quadratic:
    """Right, as it stands."""

    shape: ClassVar[tuple[int, ...]] = (3,)

    def __call__(self, x):
        return 0.5 * x.square().sum(-1) + 0.1 * x.pow(4).sum(-1)

    def gradient(self, x):
        return x + 0.4 * x.pow(3)

    @property
    def slope(self):
        return 0.0, 1.0, 0.0, 0.4


class OtherSlope(Quadratic):
    slope = (0.4, 0.0, 1.0, 0.0)


class OtherSign(Quadratic):
    def gradient(self, x):
        return -super().gradient(x)


class Mismatch(Quadratic):
    def gradient(self, x):
        return x + 0.2 * x.pow(3)


class Detached(Quadratic):
    gradient = None

    def __call__(self, x):
        return 0.5 * x.square().sum(-1) + 0.1 * x.detach().pow(4).sum(-1)


class Truncated(Quadratic):
    def __call__(self, x):
        return super().__call__(x.float()).to(x.dtype)


class Promotes(Quadratic):
    def __call__(self, x):
        return super().__call__(x).double()


class Summed(Quadratic):
    def __call__(self, x):
        return super().__call__(x).sum()


class ColumnOfValues(Quadratic):
    def __call__(self, x):
        return super().__call__(x)[:, None]


class Normalises(Quadratic):
    gradient = None

    def __call__(self, x):
        return super().__call__(x - x.mean(0))


class Overwrites(Quadratic):
    def gradient(self, x):
        return x.add_(0.4 * x.pow(3))


class Random(Quadratic):
    def __call__(self, x):
        return super().__call__(x) + 0.01 * torch.randn(len(x), dtype=x.dtype)


class Counts(nn.Module):
    shape = (3,)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return 0.5 * x.square().sum(-1)


class Both(Quadratic):
    def value_and_gradient(self, x):
        return self(x), 2 * self.gradient(x)


class IgnoresCondition(Quadratic):
    def __call__(self, x, *, centre=None):
        return super().__call__(x)

    def gradient(self, x, *, centre=None):
        return super().gradient(x)


class GradientIgnoresCondition(Quadratic):
    def __call__(self, x, *, centre):
        return super().__call__(x - centre[:, None])

    def gradient(self, x, *, centre):
        return super().gradient(x)


class ListShape(Quadratic):
    shape: ClassVar = [3]


@dataclass(frozen=True)
class Silent(Quadratic):
    stiffness: float = field(default=1.0)


CENTRE = {"condition": {"centre": torch.linspace(-1, 1, 7)}}

RIGHT = [Quadratic()]

MUTANTS = [
    Mutant("model", make(), wrong, caught, *rest)
    for make, wrong, caught, *rest in [
        (OtherSign, "gradient of the other sign", "gradient"),
        (OtherSlope, "a slope with the highest power first", "slope"),
        (Mismatch, "gradient of another function than the value", "gradient"),
        (Detached, "x.detach() between x and U", "gradient"),
        (Truncated, "float64 truncated to float32", "gradient"),
        (Promotes, "values in float64 for float32 positions", "dtypes"),
        (Summed, "values summed over the chains", "shapes"),
        (ColumnOfValues, "values [n, 1]", "shapes"),
        (Normalises, "x minus the mean of the batch", "chains_are_independent"),
        (Overwrites, "gradient computed in x's own memory", "input_is_left_alone"),
        (Random, "noise in the energy", "repeats"),
        (Counts, "a buffer that counts calls", "input_is_left_alone"),
        (Both, "value_and_gradient gives twice the gradient", "value_and_gradient"),
        (IgnoresCondition, "a condition that is ignored", "conditions_count", CENTRE),
        (GradientIgnoresCondition, "a condition that the gradient ignores", "gradient", CENTRE),
        (ListShape, "a shape that is a list", "callable"),
        (Silent, "a setting without a description", "settings_are_described"),
    ]
]
