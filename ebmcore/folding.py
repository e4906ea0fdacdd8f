"""A sampler's statistics between two draws: one value a chain for all the steps that a draw stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

from ebmcore.errors import SamplerError
from ebmcore.protocols import Fold, HasReduce

LAST = frozenset({"lp", "potential", "energy", "step_size", "log_weight"})
FOLDS: tuple[Fold, ...] = ("last", "mean", "any", "sum", "max")


@final
class Folder:
    """Accumulates statistics [n] step by step, and gives the folded ones at a draw."""

    def __init__(self, folds: Mapping[str, Fold]) -> None:
        self._folds = folds
        self._acc: dict[str, Tensor] = {}
        self._steps = 0

    def add(self, info: tuple[Any, ...]) -> None:
        """Take in the statistics of one step."""
        self._steps += 1
        for name, value in zip(info._fields, info, strict=True):  # type: ignore[attr-defined]
            fold, before = self._folds[name], self._acc.get(name)
            if before is None or fold == "last":
                self._acc[name] = value.clone()
            elif fold == "any":
                before |= value
            elif fold == "max":
                torch.maximum(before, value, out=before)
            else:
                before += value

    def held(self) -> tuple[int, dict[str, Tensor]]:
        """Return the number of steps since the last draw, and their statistics so far."""
        return self._steps, dict(self._acc)

    def take_up(self, steps: int, acc: Mapping[str, Tensor]) -> None:
        """Go on with what another `held`."""
        self._steps, self._acc = steps, dict(acc)

    def take(self) -> dict[str, Tensor]:
        """Return the folded statistics since the last draw, and begin anew."""
        folded = {
            name: value / self._steps if self._folds[name] == "mean" else value for name, value in self._acc.items()
        }
        self._acc, self._steps = {}, 0
        return folded


def folds(sampler: object, info: tuple[Any, ...] | None) -> dict[str, Fold]:
    """Return how each statistic of `info` is folded: the sampler's `reduce` first, then the rule by name and dtype.

    Raises:
        SamplerError: `reduce` names a statistic that the sampler does not give, or a fold that does not exist.
    """
    given = dict(sampler.reduce) if isinstance(sampler, HasReduce) else {}
    names = () if info is None else info._fields  # type: ignore[attr-defined]
    for name, fold in given.items():
        if name not in names:
            raise SamplerError(
                f"`reduce` of {type(sampler).__name__} must name its statistics; got '{name}'. "
                f"It gives: {', '.join(names) or 'none'}."
            )
        if fold not in FOLDS:
            raise SamplerError(
                f"`reduce` of {type(sampler).__name__} must be one of {', '.join(FOLDS)}; got '{fold}' for '{name}'. "
                "Choose one of them."
            )
    return {name: given.get(name, _default(name, value)) for name, value in zip(names, info or (), strict=True)}


def _default(name: str, value: Tensor) -> Fold:
    if name in LAST:
        return "last"
    if name == "tree_depth":
        return "max"
    if value.dtype == torch.bool:
        return "any"
    return "mean" if value.is_floating_point() else "sum"
