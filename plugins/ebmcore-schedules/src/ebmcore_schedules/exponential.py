"""From one value to another by equal factors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ebmcore_schedules.ramp import between, ramp


@dataclass(frozen=True)
class Exponential:
    """A geometric sequence over the steps of a stage.

        value = start * (end / start)^f,    f = step / (steps - 1)

    `start` through the warmup and at step 0, `end` at the last step, both exactly; monotone between.
    A stage of one step has `start`.
    """

    start: float = field(metadata={"gt": 0, "description": "the value in the warmup and at the first step"})
    end: float = field(metadata={"gt": 0, "description": "the value at the last step"})

    def __call__(self, step: int, steps: int) -> float:
        """Return the value at `step` of a stage of `steps`."""
        f = ramp(step, steps)
        if f in (0.0, 1.0):
            return float(self.end if f else self.start)
        value = math.exp(between(math.log(self.start), math.log(self.end), f))
        # exp(log(x)) is not x to the bit.
        return float(min(max(value, min(self.start, self.end)), max(self.start, self.end)))
