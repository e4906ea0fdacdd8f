"""Plugins that are wrong on purpose, each with the checks of `ebmcore.testing` that must find it."""

from __future__ import annotations

from typing import Any, NamedTuple


class Mutant(NamedTuple):
    """A wrong plugin."""

    kind: str
    object: Any
    wrong: str
    """What is wrong with it, in a few words."""
    caught: str
    """The check that must fail."""
    arguments: dict[str, Any] = {}  # noqa: RUF012  # of a NamedTuple, never changed
