"""The length of a step, which may be a plain number or a schedule."""

from __future__ import annotations

import math

from ebmcore.errors import SamplerError
from ebmcore.protocols import Noise, Schedule, at


def step_size_at(setting: float | Schedule, noise: Noise) -> float:
    """Return the step size of the step that `noise` is at.

    Args:
        setting: A number, which the settings have checked, or a schedule.
        noise: Says which step it is, and of how many.

    Raises:
        SamplerError: The schedule's value is not a finite number > 0; the message names the step.
    """
    value = float(at(setting, noise.step, noise.steps))
    if not 0.0 < value < math.inf:
        raise SamplerError(
            f"`step_size` must be > 0 and finite at every step; got {value} at step {noise.step} of {noise.steps}. "
            "Choose a schedule that stays positive, such as linear(start=0.1, end=0.01)."
        )
    return value
