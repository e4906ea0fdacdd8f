"""What `exact_moments` and `exact_draws` of all models share: their arguments' checks, their random numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from ebmcore.errors import InputError


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that is not positive.

    Raises:
        InputError: `temperature` is not > 0.
    """
    if not temperature > 0:
        raise InputError(f"`temperature` must be > 0; got {temperature}. Choose a positive number such as 1.0.")


def generator(seed: int) -> torch.Generator:
    """Return a generator of its own on the CPU: torch's global one is left alone.

    Raises:
        InputError: `seed` is not a whole number, 0 <= seed < 2**63.
    """
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError(f"`seed` must be a whole number >= 0 and < 2**63; got {seed!r}. Choose one such as 0.")
    return torch.Generator().manual_seed(seed)


def normals(n: int, shape: tuple[int, ...] | None, source: torch.Generator) -> Tensor:
    """Return independent standard normals [n, *shape], float64, on the CPU.

    Args:
        n: Number of draws, >= 1.
        shape: The model's, None if it takes any.
        source: Where they come from.

    Raises:
        InputError: `n` is not a positive whole number, or the model does not say its shape.
    """
    if not isinstance(n, int) or n < 1:
        raise InputError(f"`n` must be a whole number >= 1; got {n!r}. Choose how many draws to make, such as 1000.")
    if shape is None:
        raise InputError("`dim` must be set for exact draws; got a model of any shape. Make it with dim, such as 2.")
    return torch.randn(n, *shape, generator=source, dtype=torch.float64)
