"""From one value to another in equal steps."""

from __future__ import annotations

from dataclasses import dataclass, field

from ebmcore_schedules.ramp import between, ramp


@dataclass(frozen=True)
class Linear:
    """A straight line over the steps of a stage.

        value = start + (end - start) * f,    f = step / (steps - 1)

    `start` through the warmup and at step 0, `end` at the last step, both exactly; monotone between.
    A stage of one step has `start`.
    """

    start: float = field(metadata={"description": "the value in the warmup and at the first step"})
    end: float = field(metadata={"description": "the value at the last step"})

    def __call__(self, step: int, steps: int) -> float:
        """Return the value at `step` of a stage of `steps`."""
        return between(self.start, self.end, ramp(step, steps))
