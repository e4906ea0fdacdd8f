"""Ends a run when a statistic of its chains passes a bound.

The host asks on the first c chains, when all of them are done, for up to 100 values of c that are
fixed before the run starts. So neither workers nor chunks have a part in where it ends, and what is
kept is, to the byte, the run of c chains.

The chains are independent, so the mean of a coordinate over c of them has a standard error of at most

    standard_error = sd / sqrt(c)

exactly that with one draw a chain, and less with several. To stop at the first c at which
it is below a bound, known in advance, gives a fixed-width interval: Chow and Robbins, "On the asymptotic theory
of fixed-width sequential confidence intervals for the mean", Annals of Mathematical Statistics 36 (1965).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

import ebmcore as ebm
from ebmcore.errors import SettingsError


@dataclass(frozen=True)
class EarlyStop:
    """Ends a run at the first chains for which a statistic passes a bound in every coordinate."""

    bound: float = field(metadata={"description": "what the statistic has to pass"})
    when: Literal["below", "above"] = field(
        default="below", metadata={"description": "on which side of the bound the run may end"}
    )
    statistic: str = field(
        default="standard_error",
        metadata={"description": "standard_error (of the mean), mean, sd, or REDUCER.KEY of a reducer of the run"},
    )
    at_least: int = field(default=1000, metadata={"ge": 1, "description": "chains that are run in any case"})

    @ebm.hookimpl
    def ebmcore_should_stop(self, summary: Mapping[str, Any]) -> str | None:
        """Compare the statistic with its bounds."""
        if summary["chains"] < self.at_least:
            return None
        value = self._value(summary)
        # A comparison with NaN is false: what is not known does not pass.
        passed = value < self.bound if self.when == "below" else value > self.bound
        return f"{self.statistic} is {self.when} {self.bound:g}" if bool(passed.all()) else None

    def _value(self, summary: Mapping[str, Any]) -> Tensor:
        if self.statistic == "standard_error":
            return torch.as_tensor(summary["sd"]) / math.sqrt(summary["chains"])
        found = {name: value for name, value in summary.items() if isinstance(value, Tensor)}
        for reducer, values in summary.items():
            if isinstance(values, Mapping):
                found |= {f"{reducer}.{key}": value for key, value in values.items()}
        if self.statistic not in found:
            raise SettingsError(
                f"`statistic` must be one of standard_error, {', '.join(found)}; got {self.statistic!r}. Choose one."
            )
        return found[self.statistic]
