"""The noise backend `triton`: ebmcore's random numbers on a GPU, fused with the update that uses them.

Triton is imported when the first number is made, so that the backend may be installed where it is not.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ebmcore.errors import InputError
from ebmcore.protocols import Key

_NUMBERS, _BITS = struct.Struct("=3d"), struct.Struct("=3q")


@dataclass(frozen=True)
class Triton:
    """Threefry-2x32-20 and Box-Muller in one kernel with the update, compiled for the GPU at the first use.

    The integers are the reference's; normals are within 4 units in the last place of it, in float32, and the
    same bits however the chains are cut. The step counter of the key may lie in the GPU's memory: it is read
    when the kernel runs, so that steps can be captured as a CUDA graph and replayed with another counter.
    """

    devices: ClassVar[tuple[str, ...]] = ("cuda",)

    def fill_(self, out: Tensor, kind: Literal["normal", "uniform"], key: Key, chains: range | Tensor, /) -> Tensor:
        """Overwrite `out` [n, *any], float32 or float64, with the numbers of `key` for the n chains; return it.

        Args:
            out: The numbers' place, of any strides.
            kind: `"normal"` for N(0, 1), `"uniform"` for [0, 1) in multiples of 2**-24.
            key: What the numbers are for; `key.t` may be a tensor of one integer on `out`'s device.
            chains: The n ids, a range or an int64 tensor [n] on `out`'s device; repeats allowed.

        Raises:
            InputError: Triton is not installed, or a range's ids times the elements of a chain pass 2**63.
        """
        if out.numel() == 0:
            return out
        if not out.is_contiguous():
            return out.copy_(self.fill_(torch.empty(out.shape, dtype=out.dtype, device=out.device), kind, key, chains))
        kernels = _kernels()
        grid, place, constants = _place(out, key, chains, kernels.PAIRS)
        with torch.cuda.device_of(out):  # type: ignore[no-untyped-call]
            kernels.fill[grid](out, *place, NORMAL=kind == "normal", **constants)
        return out

    def perturb_(
        self,
        x: Tensor,
        scale: float | Tensor,
        key: Key,
        chains: range | Tensor,
        /,
        *,
        decay: float | Tensor = 1.0,
        drift: Tensor | None = None,
        drift_scale: float | Tensor = 0.0,
    ) -> Tensor:
        """Overwrite `x` [n, *any] with decay*x + drift_scale*drift + scale*z; return it.

        decay*x is rounded, then each further product with its sum once, whether a factor is a number or a tensor.

        Raises:
            InputError: As `fill_`.
        """
        if x.numel() == 0:
            return x
        if not x.is_contiguous():
            packed = x.contiguous()
            self.perturb_(packed, scale, key, chains, decay=decay, drift=drift, drift_scale=drift_scale)
            return x.copy_(packed)
        if drift is not None:
            drift = drift.contiguous()
        kernels = _kernels()
        grid, place, constants = _place(x, key, chains, kernels.PAIRS)
        factors = (scale, decay, drift_scale)
        with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
            if any(isinstance(factor, Tensor) for factor in factors):
                tables = [_table(factor, x) for factor in factors]
                strided = [part for table in tables for part in (table, *table.stride())]
                kernels.perturb_by_tensors[grid](x, drift, *place, *strided, **constants)
            else:
                kernels.perturb[grid](x, drift, *place, *_BITS.unpack(_NUMBERS.pack(*factors)), **constants)
        return x


@cache
def _kernels() -> Any:
    try:
        from ebmcore_kernels import triton_kernels
    except ImportError as error:
        raise InputError(
            f"noise backend triton must have Triton; got {error}. Install it with pip install 'ebmcore-kernels[cuda]'."
        ) from error
    return triton_kernels


def _place(out: Tensor, key: Key, chains: range | Tensor, pairs: int) -> tuple[tuple[int], tuple[Any, ...], Any]:
    """Return the kernels' grid, arguments from `ids` to `call`, and constants."""
    n, count = out.shape[0], out.numel()
    d = count // n
    t = key.t if isinstance(key.t, Tensor) else _signed(key.t)
    words = (_signed(key.seed[0]), _signed(key.seed[1]), _signed(key.call))
    if isinstance(chains, range) and chains.step == 1:
        ids, first = None, chains.start * d
        if chains.stop * d >= 2**63:
            raise InputError(
                f"chain ids times elements a chain must stay < 2**63; got ids up to {chains.stop} times {d}. "
                "Number the chains from a smaller id."
            )
        total = (count + first % 2 + 1) // 2
    else:
        if isinstance(chains, range):
            chains = torch.arange(chains.start, chains.stop, chains.step, device=out.device)
        ids, first = chains.contiguous(), 0
        total = n * ((d + 1) // 2)
    # Without fusion: ptxas would contract a product and a sum where it likes.
    constants = {"PAIRS": pairs, "SKIP": first % 2, "enable_fp_fusion": False}
    return (-(-total // pairs),), (ids, t, first // 2, count, d, *words), constants


def _signed(word: int) -> int:
    """Return the 32-bit integer with the bits of a word: Triton takes a larger one for 64 bits."""
    return word - (word >> 31 << 32)


def _table(factor: float | Tensor, x: Tensor) -> Tensor:
    """Return a factor as rows and columns of `x`'s elements and dtype, copied only where strides cannot say it."""
    if not isinstance(factor, Tensor):
        factor = torch.full((1,) * x.ndim, factor, dtype=x.dtype, device=x.device)
    elif factor.ndim == 1:
        factor = factor.view(-1, *(1,) * (x.ndim - 1))
    return factor.to(x.dtype).expand(x.shape).reshape(x.shape[0], -1)
