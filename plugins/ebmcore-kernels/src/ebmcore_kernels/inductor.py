"""The gradient backend `inductor`: torch.compile over an energy's value and gradient."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebmcore.errors import InputError

Both = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Inductor:
    """Value and gradient of any energy that torch.compile takes whole, compiled once for all numbers of chains.

    Compiling takes some ten seconds and a C++ compiler; it pays for long runs of small networks. Matrix products
    round as torch's do, so that the bits depend on the chunk size.
    """

    compiles: ClassVar[bool] = True

    def build(self, energy: Any, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, /) -> Both | None:
        """Return x [n, *shape] -> (U [n], dU/dx [n, *shape]), compiled by the time it returns; None without a value.

        Raises:
            InputError: torch cannot compile the energy here.
        """
        if not callable(energy):
            return None

        def total(x: Tensor) -> tuple[Tensor, Tensor]:
            u = energy(x)
            return u.sum(), u

        def both(x: Tensor) -> tuple[Tensor, Tensor]:
            gradient, u = torch.func.grad(total, has_aux=True)(x)
            return u, gradient

        # torch counts what it has compiled for a code object, and gives up after some: each energy gets its own.
        both.__code__ = both.__code__.replace()
        compiled = torch.compile(both, dynamic=True, fullgraph=True)

        def run(x: Tensor) -> tuple[Tensor, Tensor]:
            if len(x) > 1:
                with torch.no_grad():
                    u, gradient = compiled(x)
                return u, gradient
            # torch compiles anew for a single row, and for none.
            u, gradient = run(torch.cat([x, x.new_zeros((2, *shape))]))
            return u[: len(x)], gradient[: len(x)]

        with warnings.catch_warnings():
            # torch's own modules warn of each other while they are loaded.
            warnings.simplefilter("ignore")
            try:
                run(torch.zeros((7, *shape), dtype=dtype, device=device))
                run(torch.zeros((64, *shape), dtype=dtype, device=device))
            except Exception as error:
                reason = next(filter(None, str(error).splitlines()), type(error).__name__)
                raise InputError(
                    f"gradient backend 'inductor' must be able to compile the energy; got {type(error).__name__}: "
                    f"{reason[:200]}. Install a C++ compiler, or use gradient = 'auto'."
                ) from error
        return run
