"""Where chains begin: a tensor, a law by name, or a user's function, always a pure function of chain ids and seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ebmcore.errors import InputError
from ebmcore.protocols import Noise, Support

LAWS = ("auto", "normal", "uniform")

InitFunction = Callable[[Tensor, Noise], Tensor]
"""(chain ids [n] int64, noise) -> positions [n, *shape]."""


def initial_position(
    init: str | Tensor | InitFunction, chains: range, rows: slice, like: Tensor, support: Support, noise: Noise
) -> Tensor:
    """Return fresh starting positions [n, *shape] of some chains.

    `"normal"` is N(0, 1) and `"uniform"` is uniform on [-1, 1), a coordinate each; `"auto"` is normal on the
    reals, fair coins for a binary support, and uniform classes for a categorical one.

    Args:
        init: A name, a tensor [chains, *shape] of the whole run, or a function of (chain ids, noise).
        chains: Ids of these chains.
        rows: Their rows in a tensor.
        like: An empty tensor [n, *shape] of the wanted dtype and device.
        support: The energy's.
        noise: The noise of these chains in the init stream.

    Raises:
        InputError: A function returned positions of another shape.
    """
    if isinstance(init, Tensor):
        return init[rows].to(device=like.device, dtype=like.dtype, copy=True).contiguous()
    if callable(init):
        position = init(torch.arange(chains.start, chains.stop, device=like.device), noise)
        if not isinstance(position, Tensor) or position.shape != like.shape:
            seen = list(position.shape) if isinstance(position, Tensor) else type(position).__name__
            raise InputError(
                f"the function given as `init` must return positions {list(like.shape)} for {len(like)} chain ids; "
                f"got {seen}. Axis 0 is the chain."
            )
        return position.to(device=like.device, dtype=like.dtype, copy=True).contiguous()
    if init == "uniform":
        return noise.uniform(like).mul_(2.0).sub_(1.0)
    if init == "normal" or support == "real":
        return noise.normal(like)
    if support == "binary":
        return (noise.uniform(like) < 0.5).to(like.dtype)
    classes = like.shape[-1]
    chosen = (noise.uniform(like[..., 0].contiguous()) * classes).long()
    return torch.nn.functional.one_hot(chosen, classes).to(like.dtype)


def check_init(init: Any) -> None:
    """Refuse an `init` that is none of the accepted forms.

    Raises:
        InputError: It is not a law's name, a floating tensor or a callable.
    """
    if isinstance(init, Tensor):
        if not init.is_floating_point():
            raise InputError(
                f"`init` must be a floating tensor [chains, *shape]; got {init.dtype}. Convert it with .float()."
            )
    elif not callable(init) and init not in LAWS:
        raise InputError(f"`init` must be a tensor, a function, or one of {', '.join(LAWS)}; got {init!r}. Use 'auto'.")
