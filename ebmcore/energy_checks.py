"""What is asked of an energy before its first step: a wrong one is refused, not sampled."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from ebmcore.energy import BoundEnergy, has_value
from ebmcore.errors import EbmcoreWarning, EnergyError
from ebmcore.protocols import HasGradient, HasValueAndGradient

RELATIVE = 1e-3
"""Two evaluations of one chain may differ by this part of the largest result: far above the rounding of a
matmul in another batch, far below what a batch statistic does."""


def check_energy(energy: BoundEnergy, x: Tensor, *, gradient: bool) -> None:
    """Evaluate `energy` at a few positions and refuse one that breaks the contract.

    Args:
        energy: The energy, with the conditions of the rows of `x`.
        x: At least two positions [n, *shape].
        gradient: Whether the sampler will ask for gradients.

    Raises:
        EnergyError: Wrong shape, scalar (summed) result, no gradient, an exception inside, or
            chains that influence each other.

    Warns:
        EbmcoreWarning: The same positions gave two different results: the samples can not be repeated.
    """
    model = energy.model
    check_mode(model)
    first = _evaluate(energy, x, gradient)
    again = _evaluate(energy, x, gradient)
    if not _agree(first, again):
        warnings.warn(
            "the energy should be a fixed function of x; got two different results at the same positions. "
            "Its samples cannot be repeated: call .eval() on a model with dropout, and draw no random numbers in it.",
            EbmcoreWarning,
            stacklevel=2,
        )
        return
    head, tail = torch.arange(1, device=x.device), torch.arange(1, len(x), device=x.device)
    alone = [
        torch.cat(pair)
        for pair in zip(
            _evaluate(energy.select(head), x[:1], gradient),
            _evaluate(energy.select(tail), x[1:], gradient),
            strict=True,
        )
    ]
    if not _agree(first, alone):
        raise EnergyError(
            "an energy must depend on its own chain alone; got results that change when other chains leave the batch. "
            "Normalise over axes of one position only (not axis 0), and call .eval() on a model with batch statistics."
        )


def check_mode(model: Any) -> None:
    """Refuse batch norm in training mode before it is called: it mixes chains, and each call changes its buffers."""
    if not isinstance(model, nn.Module):
        return
    for name, module in model.named_modules():
        # The base class of all batch norms is private in torch, and the public ones do not share another.
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise EnergyError(
                f"batch norm must be in evaluation mode, or chains influence each other; got training mode in "
                f"'{name or type(module).__name__}'. Call .eval() on the energy first."
            )


def check_model(model: Any) -> None:
    """Refuse what cannot be an energy at all.

    Raises:
        EnergyError: `model` is neither callable nor has a gradient.
    """
    if not has_value(model) and not isinstance(model, HasGradient | HasValueAndGradient):
        raise EnergyError(
            f"an energy must be callable, [n, *shape] -> [n], or have gradient(x); got {type(model).__name__}. "
            "Pass a function, an nn.Module, or an object with gradient(x)."
        )


def _evaluate(energy: BoundEnergy, x: Tensor, gradient: bool) -> list[Tensor]:
    try:
        if not gradient:
            return [energy.value(x)]
        if has_value(energy.model):
            return list(energy.value_and_gradient(x))
        return [energy.gradient(x)]
    except EnergyError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines() or [""]
        raise EnergyError(
            f"the energy must accept positions {list(x.shape)} in {str(x.dtype).removeprefix('torch.')} on {x.device}; "
            f"it raised {type(error).__name__}: {reason[0]}. Check `shape`, its conditions and its device."
        ) from error


def _agree(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(
        torch.allclose(x, y, rtol=RELATIVE, atol=RELATIVE * _scale(x), equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )


def _scale(x: Tensor) -> float:
    finite = x[x.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 1.0
