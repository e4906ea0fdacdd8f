"""Side by side, interleaved: each round runs every contender once, so that a busy neighbour slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

from torch import Tensor

AGREE = 0.05
"""How far the standard deviations of two contenders' positions may differ: they must have done the same work."""


def interleaved(contenders: Mapping[str, Callable[[], Tensor]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of every contender in `repeats` rounds, after one that is not counted.

    Raises:
        ValueError: Two of them did not sample the same distribution.
    """
    spread = {name: float(run().std()) for name, run in contenders.items()}
    if max(spread.values()) > (1 + AGREE) * min(spread.values()):
        raise ValueError(f"contenders must sample one distribution; got standard deviations {spread}. Mend the work.")
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(repeats):
        # Whoever runs after a contender with other caches and threads must not always be the same one.
        names = list(contenders)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            began = time.perf_counter()
            contenders[name]()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def ratios(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """Return for every contender the median over rounds of its time, divided by the first one's in that round."""
    base = next(iter(seconds.values()))
    return {
        name: median(own / first for own, first in zip(times, base, strict=True)) for name, times in seconds.items()
    }
