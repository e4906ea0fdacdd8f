"""From one value to another along half a cosine: slowly at both ends."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ebmcore_schedules.ramp import between, ramp


@dataclass(frozen=True)
class Cosine:
    """Half a cosine over the steps of a stage.

        value = start + (end - start) * (1 - cos(pi f)) / 2,    f = step / (steps - 1)

    Loshchilov and Hutter, "SGDR: Stochastic gradient descent with warm restarts", ICLR 2017, eq. 5,
    without restarts. `start` through the warmup and at step 0, `end` at the last step, both exactly;
    monotone between. A stage of one step has `start`.
    """

    start: float = field(metadata={"description": "the value in the warmup and at the first step"})
    end: float = field(metadata={"description": "the value at the last step"})

    def __call__(self, step: int, steps: int) -> float:
        """Return the value at `step` of a stage of `steps`."""
        f = ramp(step, steps)
        # (1 - cos(pi f)) / 2 without the cancellation near f = 0; sin(pi / 2) may not round to 1.
        weight = math.sin(0.5 * math.pi * f) ** 2 if f < 1.0 else 1.0
        return between(self.start, self.end, weight)
