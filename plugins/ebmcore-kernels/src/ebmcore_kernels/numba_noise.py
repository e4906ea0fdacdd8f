"""The noise backend `numba`: ebmcore's random numbers on a CPU, fused with the update that uses them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ebmcore.errors import InputError
from ebmcore.protocols import Key
from ebmcore_kernels.compiled import HasCompiled
from ebmcore_kernels.native import has_fma, native
from ebmcore_kernels.striding import Stride

_WORDS = Struct("8q3d").pack
_FILL_WORDS = Struct("10q").pack


@dataclass(frozen=True)
class Numba:
    """Threefry-2x32-20 and Box-Muller, compiled once and cached on disk; it releases the interpreter while it runs.

    The integers are the reference's; normals are within 4 units in the last place of it, in float32, and the
    same bits on every CPU with hardware fma, however the chains are cut.
    """

    devices: ClassVar[tuple[str, ...]] = ("cpu",)

    def __post_init__(self) -> None:
        """Refuse a CPU that would have to emulate fma, which is fifty times slower than the reference's way.

        Raises:
            InputError: The CPU has no fused multiply-add.
        """
        if not has_fma():
            raise InputError("noise backend numba must have a CPU with fma; got one without. Use noise = 'reference'.")

    def fill_(self, out: Tensor, kind: Literal["normal", "uniform"], key: Key, chains: range | Tensor, /) -> Tensor:
        """Overwrite `out` [n, *any], float32 or float64, with the numbers of `key` for the n chains; return it.

        Raises:
            InputError: A chain's id times the elements of a chain pass 2**64.
        """
        if out.numel() == 0:
            return out
        if not out.is_contiguous():
            return out.copy_(self.fill_(torch.empty(out.shape, dtype=out.dtype), kind, key, chains))
        n, d = out.shape[0], out.numel() // out.shape[0]
        ids, first = None, 0
        if isinstance(chains, range) and chains.step == 1:
            first = _first(chains, d)
        else:
            ids = torch.tensor(chains) if isinstance(chains, range) else chains.contiguous()
        fill = native("kernels", "fill32" if out.dtype == torch.float32 else "fill64")
        where = (kind == "normal", out.data_ptr(), 0 if ids is None else ids.data_ptr(), first, n, d)
        fill(_FILL_WORDS(*where, *key.seed, int(key.t), key.call))
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

        With plain factors and consecutive chains the products and sums are fused, each rounded once; with
        tensors as factors they are rounded one by one.
        """
        # The class first, since isinstance(number, Tensor) costs 80 ns.
        if (scale.__class__ is not float or decay.__class__ is not float or drift_scale.__class__ is not float) and any(
            isinstance(factor, Tensor) for factor in (scale, decay, drift_scale)
        ):
            return self._in_parts(x, scale, key, chains, decay, drift, drift_scale)
        if not isinstance(chains, range) or chains.step != 1 or not x.is_contiguous():
            return self._in_parts(x, scale, key, chains, decay, drift, drift_scale)
        count = x.numel()
        if count == 0:
            return x
        other = None if drift is None else drift.contiguous()
        perturb = native("kernels", "perturb32" if x.dtype == torch.float32 else "perturb64")
        drift_at = 0 if other is None else other.data_ptr()
        where = (x.data_ptr(), drift_at, _first(chains, count // len(chains)), count)
        perturb(_WORDS(*where, *key.seed, int(key.t), key.call, scale, decay, drift_scale))
        return x

    def stride(
        self,
        gradient: Callable[[Tensor], tuple[Tensor, Tensor]],
        chains: range | Tensor,
        scale: float,
        /,
        *,
        decay: float = 1.0,
        drift_scale: float = 0.0,
    ) -> Stride | None:
        """Return what takes several steps at a time for a gradient that machine code can call, else None."""
        if not isinstance(gradient, HasCompiled) or not isinstance(chains, range) or chains.step != 1:
            return None
        return Stride(self, gradient, chains, scale, decay, drift_scale)

    def _in_parts(
        self,
        x: Tensor,
        scale: float | Tensor,
        key: Key,
        chains: range | Tensor,
        decay: float | Tensor,
        drift: Tensor | None,
        drift_scale: float | Tensor,
    ) -> Tensor:
        z = self.fill_(torch.empty(x.shape, dtype=x.dtype), "normal", key, chains)
        z.mul_(_factor(scale, x))
        x.mul_(_factor(decay, x))
        if drift is not None:
            x.add_(drift * _factor(drift_scale, x))
        return x.add_(z)


def _first(chains: range, elements: int) -> int:
    """Return the number of the first element; a signed 64-bit number holds it, as the compiled code takes it."""
    if chains.stop * elements >= 2**63:
        raise InputError(
            f"chain ids times elements a chain must stay < 2**63; got ids up to {chains.stop} times {elements}. "
            "Number the chains from a smaller id."
        )
    return chains.start * elements


def _factor(factor: float | Tensor, x: Tensor) -> float | Tensor:
    """Return a factor that broadcasts to `x` chain by chain, in its dtype."""
    if not isinstance(factor, Tensor):
        return factor
    return (factor.view(-1, *(1,) * (x.ndim - 1)) if factor.ndim == 1 else factor).to(x.dtype)
