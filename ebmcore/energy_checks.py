"""What is asked of an energy before its first step: a wrong one is refused, not sampled."""

from __future__ import annotations

import inspect
import os
import traceback
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ebmcore.energy import BoundEnergy, has_value
from ebmcore.errors import EbmcoreWarning, EnergyError
from ebmcore.protocols import HasGradient, HasValueAndGradient

RELATIVE = 1e-3
"""Two evaluations of one chain may differ by this part of the largest result: far above the rounding of a
matmul in another batch, far below what a batch statistic does."""

_NOT_THEIRS = tuple(os.path.dirname(file) + os.sep for file in (str(torch.__file__), __file__))
"""Folders in which a user does not look for a fault."""


def check_energy(energy: BoundEnergy, x: Tensor, *, gradient: bool) -> bool:
    """Evaluate `energy` at a few positions and refuse one that breaks the contract; return whether it is fixed.

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
    # Another batch rounds differently by some units of the last place, which are larger in half precision.
    part = max(RELATIVE, 4 * torch.finfo(energy.compute).eps)
    if not _agree(first, again, part):
        warnings.warn(
            "the energy should be a fixed function of x; got two different results at the same positions. "
            "Its samples cannot be repeated: call .eval() on a model with dropout, and draw no random numbers in it.",
            EbmcoreWarning,
            stacklevel=2,
        )
        return False
    head, tail = torch.arange(1, device=x.device), torch.arange(1, len(x), device=x.device)
    alone = [
        torch.cat(pair)
        for pair in zip(
            _evaluate(energy.select(head), x[:1], gradient),
            _evaluate(energy.select(tail), x[1:], gradient),
            strict=True,
        )
    ]
    if not _agree(first, alone, part):
        raise EnergyError(
            "an energy must depend on its own chain alone; got results that change when other chains leave the batch. "
            "Normalise over axes of one position only (not axis 0), and call .eval() on a model with batch statistics."
        )
    return True


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


def check_keyword(model: Any, name: str, what: str) -> None:
    """Refuse a condition that an energy does not take.

    Args:
        model: The energy.
        name: The condition's name.
        what: What messages call it: "condition", "shared".

    Raises:
        EnergyError: No parameter of the energy has that name.
    """
    call = model.forward if isinstance(model, nn.Module) else model
    for method in (call, getattr(model, "gradient", None), getattr(model, "value_and_gradient", None)):
        if not callable(method):
            continue
        try:
            parameters = inspect.signature(method).parameters.values()
        except (TypeError, ValueError):  # some functions in C tell nothing
            continue
        taken = [one.name for one in parameters if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)][1:]
        if name not in taken and not any(one.kind is one.VAR_KEYWORD for one in parameters):
            raise EnergyError(
                f"{what} '{name}' must be a keyword argument of the energy; got an energy that takes "
                f"{', '.join(taken) or 'none'}. Rename it, or leave it out."
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
        raise EnergyError(
            f"the energy must accept positions {list(x.shape)} in {str(x.dtype).removeprefix('torch.')} on {x.device}; "
            f"it {raised(error)}. Check `shape`, its conditions and its device."
        ) from error


def raised(error: Exception) -> str:
    """Return what was raised, in a line, and where in the code of a user or plugin."""
    reason = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_NOT_THEIRS)
    ]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"raised {type(error).__name__}: {reason}{place}"


def _agree(a: list[Tensor], b: list[Tensor], part: float) -> bool:
    return all(close(x, y, part) for x, y in zip(a, b, strict=True))


def close(x: Tensor, y: Tensor, part: float) -> bool:
    """Say whether two floating tensors of one shape differ by at most this part of the largest finite number of `x`."""
    finite = x[x.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 1.0
    return torch.allclose(x, y, rtol=part, atol=part * scale, equal_nan=True)
