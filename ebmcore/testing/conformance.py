"""What a check is, how it fails, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, final
from unittest import SkipTest

import torch

from ebmcore.errors import EbmcoreError


class ConformanceError(AssertionError):
    """A plugin breaks a rule of its kind. The message is `NAME must RULE; got SEEN. FIX.`."""


class NotApplicable(SkipTest):  # pytest and unittest take it for a skip
    """A check that has nothing to look at in this plugin; the message says why."""


@final
@dataclass(frozen=True)
class Check:
    """One rule, as a function of the object that is held to it.

    Calling it returns None, or raises `ConformanceError` or `NotApplicable`. All that it draws
    follows from `seed`.
    """

    name: str
    rule: str
    """First line of the docstring."""
    function: Callable[..., None]
    seed: int = 0
    arguments: Mapping[str, Any] | None = None
    """What else the function is called with (a model's `shape` and `condition`)."""

    def __call__(self, obj: Any, /) -> None:
        with _faults_of(obj, self.name), _one_thread():
            self.function(obj, self.seed, **(self.arguments or {}))

    def __repr__(self) -> str:
        return self.name


@final
@dataclass(frozen=True)
class Outcome:
    """What came of one check."""

    check: Check
    state: Literal["passed", "failed", "skipped"]
    text: str = ""
    """The failure, or why it was skipped."""


def checks_of(*functions: Callable[..., None], seed: int, **arguments: Any) -> list[Check]:
    """Return the checks that functions `check_NAME(obj, seed)` are."""
    return [
        Check(
            function.__name__.removeprefix("check_"),
            (function.__doc__ or "").partition("\n")[0],
            function,
            seed,
            arguments or None,
        )
        for function in functions
    ]


def require(kept: bool, rule: str, seen: object, fix: str) -> None:
    """Raise unless a rule is kept.

    Args:
        kept: Whether it is.
        rule: `NAME must RULE`.
        seen: What was there in its place.
        fix: What to change, as a sentence without its full stop.

    Raises:
        ConformanceError: The rule is broken.
    """
    if not kept:
        raise ConformanceError(f"{rule}; got {seen}. {fix}.")


def name_of(obj: Any) -> str:
    """Return what messages call an object."""
    named = obj if hasattr(obj, "__qualname__") else type(obj)
    return str(named.__qualname__).rpartition("<locals>.")[2]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute as a worker does: with more threads small tensors are slower, and sums may be cut otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _faults_of(obj: Any, check: str) -> Iterator[None]:
    """Turn whatever a plugin raises while it is checked into a failure of the check."""
    try:
        yield
    except (ConformanceError, SkipTest, KeyboardInterrupt):
        raise
    except EbmcoreError as error:
        raise ConformanceError(f"{name_of(obj)} is refused by the host: {error}") from error
    except BaseException as error:
        reason = " ".join(str(error).split()).rstrip(".")[:300]
        raise ConformanceError(
            f"{name_of(obj)} must go through {check} without an exception; got {type(error).__name__}: {reason}. "
            "The traceback above says where: mend it there."
        ) from error
