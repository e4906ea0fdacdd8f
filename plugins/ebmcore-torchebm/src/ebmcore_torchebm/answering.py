"""Answers TorchEBM's calls for random numbers from ebmcore's `Noise`, and its calls of an energy from ebmcore's.

A TorchEBM sampler draws with `torch.randn_like`, `torch.rand` and `Tensor.normal_`, all chains in one tensor, from a
generator. Within `answered` each such call is one call of the `Noise` of the step: a number then depends on its
chain, its step and the order of the calls alone. A draw that has no row a chain, and any other random function of
torch, is refused: it could not be answered so that chains stay apart.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torchebm.core import BaseModel

from ebmcore.errors import SamplerError
from ebmcore.protocols import EnergyFunction, Noise

_REFUSED = frozenset(
    {
        torch.bernoulli, torch.multinomial, torch.normal, torch.poisson, torch.randint, torch.randint_like,
        torch.randperm, torch.nn.functional.dropout, Tensor.bernoulli_, Tensor.cauchy_, Tensor.exponential_,
        Tensor.geometric_, Tensor.log_normal_, Tensor.multinomial, Tensor.random_,
    }
)  # fmt: skip


def answered(noise: Noise, position: Tensor) -> AbstractContextManager[Any]:
    """Return a context in which torch's random numbers are those of a step's noise.

    Args:
        noise: The noise.
        position: Positions of the chains [n, *shape]; n, dtype and device count.
    """
    return _Answers(noise, position)


@final
class Energy(BaseModel):
    """The energy that a sampler of ebmcore is handed, U/T, as a TorchEBM model."""

    def __init__(self, energy: EnergyFunction) -> None:
        super().__init__(dtype=energy.dtype, device=energy.device)
        self._energy = energy

    def forward(self, x: Tensor) -> Tensor:
        """Return U(x)/T [n]."""
        return self._energy.value(x)

    def gradient(self, x: Tensor, model_kwargs: dict[str, Any] | None = None) -> Tensor:
        """Return dU/dx / T [n, *shape]."""
        return self._energy.gradient(x)


@final
class _Answers(TorchFunctionMode):
    def __init__(self, noise: Noise, position: Tensor) -> None:
        super().__init__()
        self._noise, self._n, self._dtype, self._device = noise, len(position), position.dtype, position.device

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func in (torch.randn_like, torch.rand_like):
            return self._draw(func, self._like(args[0].shape, given.get("dtype") or args[0].dtype))
        if func in (torch.randn, torch.rand):
            size = args if args else given["size"]
            shape = size[0] if size and not isinstance(size[0], int) else size
            return self._draw(func, self._like(torch.Size(shape), given.get("dtype") or self._dtype))
        if func in (Tensor.normal_, Tensor.uniform_):
            if len(args) > 1 or set(given) - {"generator"}:
                raise self._refusal(func)
            return args[0].copy_(self._draw(func, args[0]))
        if func in _REFUSED:
            raise self._refusal(func)
        return func(*args, **given)

    def _like(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self._device)

    def _draw(self, func: Callable[..., Any], like: Tensor) -> Tensor:
        if like.ndim == 0 or len(like) != self._n:
            raise SamplerError(
                f"a TorchEBM sampler must draw one row a chain, here {self._n}; got {list(like.shape)} of "
                f"torch.{func.__name__}. It cannot run in ebmcore."
            )
        normal = func in (torch.randn_like, torch.randn, Tensor.normal_)
        return self._noise.normal(like) if normal else self._noise.uniform(like)

    def _refusal(self, func: Callable[..., Any]) -> SamplerError:
        return SamplerError(
            f"a TorchEBM sampler must draw with randn, rand, normal_ or uniform_ on (0, 1); got {func.__name__}. "
            "It cannot run in ebmcore."
        )
