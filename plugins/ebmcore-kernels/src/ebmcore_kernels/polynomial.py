"""The gradient backend `polynomial`: energies that are a sum over coordinates of one polynomial, as machine code."""

from __future__ import annotations

import math
from dataclasses import dataclass
from struct import Struct
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor

from ebmcore.errors import EnergyError
from ebmcore.protocols import HasSlope
from ebmcore_kernels.compiled import CompiledGradient
from ebmcore_kernels.native import address, has_fma, native

TAKEN = 4
"""The kernel takes coefficients by so many."""

MOST = 64
"""Coefficients: of a higher power float32 has nothing left to tell."""

_WORDS = Struct("7q").pack


@final
@dataclass(frozen=True)
class Polynomial:
    """dU/dx of an energy that says its `slope` (`ebmcore.protocols.HasSlope`), in float32 or float64 on a CPU with fma.

    With the noise backend `numba`, steps of unadjusted Langevin then run in the first cache, many in one call.
    Horner's rule differs from the energy's own formula by rounding; bits do not depend on how chains are cut.
    """

    closed_forms: ClassVar[bool] = True

    def build(
        self, energy: Any, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, /
    ) -> SlopeGradient | None:
        """Return x [n, *shape] -> (U [n], dU/dx [n, *shape]), or None: no `slope`, no value, or not on such a CPU."""
        if not isinstance(energy, HasSlope) or not callable(energy) or device.type != "cpu" or not has_fma():
            return None
        if dtype not in (torch.float32, torch.float64) or _coefficients(energy.slope) is None:
            return None
        return SlopeGradient(energy, dtype)


@final
class SlopeGradient:
    """The kernel on one energy; several threads may call it at once."""

    def __init__(self, energy: HasSlope, dtype: torch.dtype) -> None:
        self._energy: Any = energy
        name = "gradient32" if dtype == torch.float32 else "gradient64"
        self._kernel, self._address = native("polynomial_kernel", name), address("polynomial_kernel", name)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return U [n], by the energy itself, and dU/dx [n, *shape] at `x` [n, *shape]."""
        x = x.detach().contiguous()
        gradient = torch.empty_like(x)
        kernel = self.compiled(len(x), x[0].numel())
        self._kernel(_WORDS(x.data_ptr(), 0, gradient.data_ptr(), len(x), *kernel.words))
        return self._energy(x), gradient

    def compiled(self, n: int, d: int) -> CompiledGradient:
        """Return the kernel for strides of n chains of d coordinates."""
        # Read anew, as an energy's weights are.
        table = _coefficients(self._energy.slope)
        if table is None:
            raise EnergyError(
                f"`slope` must be a tuple of 1 to {MOST} finite numbers; got {self._energy.slope!r}. Mend the energy."
            )
        return CompiledGradient(self._address, (d, table.ctypes.data, len(table)), None, table)


def _coefficients(slope: object) -> np.ndarray[tuple[int], np.dtype[np.float64]] | None:
    """Return them as the kernel takes them, or None where it cannot: an attribute of that name may be anything."""
    if not isinstance(slope, tuple) or not 0 < len(slope) <= MOST:
        return None
    if not all(isinstance(each, int | float) and math.isfinite(each) for each in slope):
        return None
    return np.array([0.0] * (-len(slope) % TAKEN) + list(reversed(slope)), np.float64)
