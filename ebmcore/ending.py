"""Where a run ends that an observer may end early: decided on its first chains, at numbers fixed before it starts.

A run is a sequence of chains, and chunks end in any order. So observers are asked when all chains
[0, c) are done, of these chains alone, for c at marks that neither chunks nor workers have a part
in. What lies behind the mark at which one gives a reason is dropped: what is left is the run of c
chains, with the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, final

from ebmcore.observers import Observers
from ebmcore.prepare import SUMMARY
from ebmcore.protocols import RunInfo
from ebmcore.reducing import Reduction

MARKS = 100
"""Observers are asked at most so many times a run."""


class Ended(NamedTuple):
    """An early end."""

    chains: int
    """What is kept: the chains [0, chains)."""
    reason: str


def marks(chains: int, unit: int) -> Iterator[int]:
    """Yield the numbers of chains at which observers are asked: multiples of `unit`, a hundredth of the run apart.

    Args:
        chains: Number of chains of the run; at the last there is nothing left to decide.
        unit: Chains that are not to be parted: those of a group, and those that begin at one point.
    """
    apart = unit * max(1, -(-chains // (MARKS * unit)))
    yield from range(apart, chains, apart)


@final
class Stopping:
    """Asks observers as chunks end.

    Args:
        observers: The run's observers.
        info: The run.
        reductions: Its reductions, not eager.
        unit: Chains that are not to be parted; a multiple of the grain.
    """

    def __init__(self, observers: Observers, info: RunInfo, reductions: Mapping[str, Reduction], unit: int) -> None:
        self._observers, self._info, self._reductions = observers, info, reductions
        self._marks = marks(info.chains, unit)
        self._next = next(self._marks, None)

    def ask(self) -> Ended | None:
        """Ask about every mark that the chains which are done have reached; return the end, once one is told."""
        ready = min(reduction.ready for reduction in self._reductions.values())
        while self._next is not None and self._next <= ready:
            for reduction in self._reductions.values():
                reduction.fold(self._next)
            reason = self._observers.ebmcore_should_stop(run=self._info, summary=self._summary(self._next))
            if reason is not None:
                return Ended(self._next, reason)
            self._next = next(self._marks, None)
        if self._next is None:
            for reduction in self._reductions.values():
                reduction.fold(reduction.ready)
        return None

    def _summary(self, chains: int) -> dict[str, Any]:
        values = {name: reduction.finish() for name, reduction in self._reductions.items()}
        return {"chains": chains, **values.pop(SUMMARY), **values}
