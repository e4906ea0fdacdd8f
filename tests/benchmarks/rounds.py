"""Side by side: each round runs every contender once, one at a time, so that a busy neighbour slows all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from statistics import median

from tests.benchmarks.contender import Answer, Contender, LeftOut
from tests.benchmarks.problems import Problem

AGREE = 0.05
"""How far the standard deviations of two contenders' positions may differ: they must have done the same work."""

PAUSE = 0.3
"""Seconds before each run: threads that wait by spinning for the next call go to sleep meanwhile."""


@dataclass
class Times:
    """What was measured of one contender: its first run, then one run a round."""

    first: Answer
    runs: list[Answer]

    @property
    def seconds(self) -> list[float]:
        """The seconds of each round."""
        return [run["seconds"] for run in self.runs]

    @property
    def peak_bytes(self) -> int:
        """The most memory that the process ever held."""
        return self.runs[-1]["peak_bytes"]


def play(contenders: Mapping[str, tuple[str, Problem]], repeats: int, *, agree: bool = True) -> dict[str, Times]:
    """Return the times of those that take part, in `repeats` rounds; one line is printed for each that does not.

    Raises:
        ValueError: Two of them did not sample the same distribution.
    """
    with ExitStack() as stack:
        playing: dict[str, Contender] = {}
        for name, (who, problem) in contenders.items():
            try:
                playing[name] = stack.enter_context(closing(Contender(who, problem)))
            except LeftOut as reason:
                print(f"  {name} is left out: {reason}", flush=True)
        times = {name: Times(contender.first, []) for name, contender in playing.items()}
        for number in range(repeats):
            # Whoever runs after a contender with other caches must not always be the same one.
            names = list(playing)
            start = number % max(1, len(names))
            for name in names[start:] + names[:start]:
                time.sleep(PAUSE)
                try:
                    times[name].runs.append(playing[name].run())
                except LeftOut as reason:
                    # One that fails on the way costs the others nothing; ebmcore's own failure is one of the benchmark.
                    if contenders[name][0].startswith("ebmcore:"):
                        raise
                    print(f"  {name} is left out: {reason}", flush=True)
                    del playing[name], times[name]
    if agree:
        _check(times)
    return times


def ratio(one: Times, other: Times) -> float:
    """Return the median over rounds of one contender's time divided by the other's in the same round."""
    return median(a / b for a, b in zip(one.seconds, other.seconds, strict=True))


def _check(times: Mapping[str, Times]) -> None:
    spread = {name: own.runs[-1]["std"] for name, own in times.items()}
    fewest = min((own.runs[-1]["numbers"] for own in times.values()), default=1)
    tolerance = max(AGREE, 5 / fewest**0.5)
    # NaN agrees with nothing.
    if spread and not max(spread.values()) <= (1 + tolerance) * min(spread.values()):
        raise ValueError(f"contenders must sample one distribution; got standard deviations {spread}. Mend the work.")
