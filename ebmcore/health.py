"""What becomes of a chain that leaves the finite numbers: the run ends and names it, or the chain is held.

Positions are looked through where t is a multiple of `CHECK_EVERY`, at a stage's end, and before a block is
written. What a look does to a chain depends on the first two alone: so that it does not depend on blocks or chunks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, Protocol, final

import torch
from torch import Tensor

from ebmcore.errors import NonFiniteError
from ebmcore.noise import CounterNoise
from ebmcore.states import map_state, merged

RAISE, FREEZE = "raise", "freeze"
POLICIES = (RAISE, FREEZE)

FROZEN = "stats.frozen"
"""The array of a run in which chains may be held: whether the chain was, at each draw."""

State = tuple[Any, ...]
Replay = Callable[[int, State], State]
"""Takes the chains of a state through a step again, with the same noise."""


class Health(Protocol):
    """A policy at work on the chains of a chunk in a stage.

    Attributes:
        checked: The last state that was looked through.
        since: The step that follows it.
        frozen: The chains that are held, [n] bool; None where none ever is.
    """

    checked: State
    since: int

    @property
    def frozen(self) -> Tensor | None: ...

    def shown(self, state: State) -> State:
        """Return the state that draws are taken of."""
        ...

    def look(self, state: State, step: int) -> State:
        """Look through the state after `step`, and return the one to go on with."""
        ...


@final
class Raising:
    """Ends the run at the first chain that is not finite.

    Args:
        state: The chains' state at the stage's beginning; it is copied.
        since: The step that follows it.
        replay: Takes a step again.
        noise: The steps' noise, for the names of chains and steps.
    """

    frozen: Tensor | None = None

    def __init__(self, state: State, since: int, replay: Replay, noise: CounterNoise) -> None:
        self.checked, self.since = map_state(Tensor.clone, state), since
        self._replay, self._noise = replay, noise

    def shown(self, state: State) -> State:
        """Return the state."""
        return state

    def look(self, state: State, step: int) -> State:
        """Return the state.

        Raises:
            NonFiniteError: A chain is not finite.
        """
        if not is_finite(state[0]):
            _blame(self._replay, self._noise, self.checked, self.since)
        self.checked, self.since = map_state(Tensor.clone, state), step + 1
        return state


@final
class Freezing:
    """Holds a chain that is not finite at the last state in which it was looked through, and goes on with the others.

    Chains are masked, never left out: the others' bits stay what they would be without it.

    Args:
        state: As for `Raising`.
        since: As for `Raising`.
        replay: As for `Raising`.
        noise: As for `Raising`.
        frozen: The chains that are held already, [n] bool.

    Raises:
        NonFiniteError: A chain is not finite at the beginning: there is nothing to hold it at.
    """

    def __init__(self, state: State, since: int, replay: Replay, noise: CounterNoise, frozen: Tensor | None) -> None:
        if not is_finite(state[0]):
            _blame(replay, noise, state, since)
        self.checked, self.since = map_state(Tensor.clone, state), since
        self._rows = state[0].new_zeros(len(state[0]), dtype=torch.bool) if frozen is None else frozen
        self._any = bool(self._rows.any())

    @property
    def frozen(self) -> Tensor | None:
        """The chains that are held, [n] bool."""
        return self._rows

    def shown(self, state: State) -> State:
        """Return the state, with the chains that are held where they are held."""
        return merged(self._rows, self.checked, state) if self._any else state

    def look(self, state: State, step: int) -> State:
        """Return the state, with all that are not finite held too."""
        if not is_finite(state[0]):
            self._rows = self._rows | ~finite_rows(state[0])
            self._any = True
        state = self.shown(state)
        self.checked, self.since = map_state(Tensor.clone, state), step + 1
        return state


def is_finite(x: Tensor) -> bool:
    """Say whether every number is finite."""
    # A finite sum is proof enough and cheap; a sum that overflows is not proof of the contrary.
    return bool(x.sum().isfinite()) or bool(x.isfinite().all())


def finite_rows(x: Tensor) -> Tensor:
    """Return for each row of `x` [n, *any] whether all of its numbers are finite, [n] bool."""
    return x.isfinite().reshape(len(x), -1).all(1)


def _blame(replay: Replay, noise: CounterNoise, state: State, step: int) -> NoReturn:
    """Take the steps since the last look again: the same noise gives the same fault, now named by chain and step."""
    first = step
    while is_finite(state[0]):
        state = replay(step, state)
        step += 1
    bad = ~finite_rows(state[0])
    row = int(bad.nonzero()[0])
    values = state[0][row].flatten()
    when = "before its first step" if step == first else f"at step {noise.t}"
    raise NonFiniteError(
        f"chain {noise.chains[row]} must stay finite; got {values[~values.isfinite()][0].item()} {when} "
        f"({int(bad.sum())} of the {len(bad)} chains of its chunk). "
        "The step size is probably too large for this energy: halve it, or look for NaN in the energy there."
    )
