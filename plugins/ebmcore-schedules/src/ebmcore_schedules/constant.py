"""The same value at every step."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Constant:
    """`value` at every step: what a plain number says, where a schedule has to be named."""

    value: float = field(metadata={"description": "the value at every step"})

    def __call__(self, step: int, steps: int) -> float:
        """Return `value`."""
        return float(self.value)
