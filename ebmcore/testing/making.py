"""What a plugin author's own unit tests need: the noise and the energy that the host would hand over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ebmcore.energy import BoundEnergy
from ebmcore.noise import INIT, STEP, CounterNoise
from ebmcore.reference import Reference


def noise(
    seed: int = 0,
    chains: int | range | Tensor = 8,
    t: int = 0,
    *,
    step: int | None = None,
    steps: int = 1,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    init: bool = False,
) -> CounterNoise:
    """Return the noise of some chains at one step, by the reference backend; a new one for each step.

    Args:
        seed: The run's seed, in [0, 2**63).
        chains: Their ids: a range or an int64 tensor [n], or n for 0 ... n - 1.
        t: Index of the step since the chains began.
        step: Index of the step in its stage; `t` by default.
        steps: Number of steps of the stage.
        dtype: The positions' dtype, float32 or float64.
        device: The positions' device.
        init: Give the numbers that the host gives to `init` and not those of a step.

    Raises:
        InputError: The seed is out of range.
        RunError: `t` is out of range.
    """
    return CounterNoise(
        Reference(),
        seed,
        range(chains) if isinstance(chains, int) else chains,
        dtype=dtype,
        device=torch.device(device),
        stream=INIT if init else STEP,
        t=t,
        step=t if step is None else step,
        steps=steps,
    )


def energy(
    f: Any,
    shape: int | Sequence[int],
    *,
    temperature: float = 1.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    condition: Mapping[str, Tensor] | None = None,
) -> BoundEnergy:
    """Return the energy that a sampler is handed: U/T, with values and gradients that are its own to overwrite.

    Args:
        f: U: a callable [n, *shape] -> [n], or an object with `gradient`.
        shape: Shape of one position; a whole number d means (d,).
        temperature: T > 0.
        dtype: float32 or float64.
        device: Where positions live.
        condition: Keyword arguments of `f` with one row a chain.
    """
    return BoundEnergy(
        f,
        shape=(shape,) if isinstance(shape, int) else tuple(shape),
        dtype=dtype,
        device=device,
        temperature=temperature,
        condition=condition,
    )
