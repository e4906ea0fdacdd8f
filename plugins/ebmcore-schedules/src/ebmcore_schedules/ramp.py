"""How far a stage has come, and the way from one number to another: what every schedule is made of."""

from __future__ import annotations


def ramp(step: int, steps: int) -> float:
    """Return step / (steps - 1) within [0, 1]: 0 through the warmup and at step 0, 1 at the last step.

    A stage of one step is at its start: 0.

    Args:
        step: Index of the step in its stage, negative in the warmup.
        steps: Number of steps of the stage, without its warmup.
    """
    return min(step / (steps - 1), 1.0) if step > 0 and steps > 1 else 0.0


def between(start: float, end: float, weight: float) -> float:
    """Return start + (end - start) * weight, exactly `start` at 0 and `end` at 1, monotone in `weight`.

    Rounding may not carry it past an end.
    """
    if weight <= 0.0:
        return float(start)
    if weight >= 1.0:
        return float(end)
    value = start + (end - start) * weight
    return float(min(max(value, min(start, end)), max(start, end)))
