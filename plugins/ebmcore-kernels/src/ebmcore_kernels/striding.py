"""Several steps in one call: gradient and noise in turns over a few chains at a time, which stay in the first cache."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, final

import numpy as np
import torch
from torch import Tensor

from ebmcore.protocols import Key
from ebmcore_kernels.compiled import CompiledGradient, HasCompiled
from ebmcore_kernels.native import native

if TYPE_CHECKING:
    from ebmcore_kernels.numba_noise import Numba

_WORDS = Struct("12q3d").pack

Words = np.ndarray[tuple[int], np.dtype[np.int64]]

NUMBERS = 2048
"""Coordinates of the chains that go through all steps together: with drift and noise beside them 24 KiB in float32."""


@final
class Stride:
    """x <- decay*x + drift_scale*dU/dx + scale*z for consecutive chains, any number of steps a call; for one thread.

    Args:
        noise: Takes the steps one by one where the gradient must be called from Python.
        gradient: x [n, *shape] -> (U [n], dU/dx [n, *shape]).
        chains: Their ids.
        scale: Standard deviation of the noise.
        decay: Factor on x.
        drift_scale: Factor on the gradient.
    """

    def __init__(
        self, noise: Numba, gradient: HasCompiled, chains: range, scale: float, decay: float, drift_scale: float
    ) -> None:
        self._noise, self._gradient, self._chains = noise, gradient, chains
        self._scale, self._decay, self._drift_scale = scale, decay, drift_scale
        self._room = torch.empty(0)

    def __call__(self, x: Tensor, key: Key, steps: int, /) -> Tensor:
        """Overwrite `x` [n, *any] with where it is after `steps` steps, from that of `key` on; return it."""
        n, d = len(x), x[0].numel()
        kernel = self._gradient.compiled(n, d)
        if kernel is None or not x.is_contiguous() or self._chains.stop * d >= 2**63:
            return self._one_by_one(x, key, steps)
        rows = min(n, kernel.rows or 2 * max(1, NUMBERS // (2 * d)))
        given = self._given(kernel, rows, d, x.dtype)
        stride = native("kernels", "stride32" if x.dtype == torch.float32 else "stride64")
        where = (x.data_ptr(), n, d, self._chains.start * d, steps, rows, kernel.function, given.ctypes.data)
        factors = (self._scale, self._decay, self._drift_scale)
        stride(_WORDS(*where, *key.seed, int(key.t), key.call, *factors))
        return x

    def _given(self, kernel: CompiledGradient, rows: int, d: int, dtype: torch.dtype) -> Words:
        if self._room.numel() < rows * (d + 1) or self._room.dtype != dtype:
            self._room = torch.empty(rows * (d + 1), dtype=dtype)
        drift = self._room.data_ptr()
        values = drift + rows * d * self._room.element_size()
        return np.array([0, values, drift, 0, *kernel.words], np.int64)

    def _one_by_one(self, x: Tensor, key: Key, steps: int) -> Tensor:
        factors = {"decay": self._decay, "drift_scale": self._drift_scale}
        for step in range(steps):
            now = key._replace(t=key.t + step)
            self._noise.perturb_(x, self._scale, now, self._chains, drift=self._gradient(x)[1], **factors)
        return x
