"""What the registry answers with: a record of a plugin, a plugin loaded, an object built from one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["available", "loaded", "failed", "blocked", "incompatible", "conflict"]
Source = Literal["entry point", "registered", "direct", "live"]


@dataclass(frozen=True)
class Record:
    """One plugin, as far as it is known without importing it."""

    kind: str
    name: str
    """The entry point's name, the registered name, the reference if it is a direct one, or the class of an object that
    was made in Python."""
    distribution: str | None
    version: str | None
    value: str
    """The entry point's value, `module:attribute`."""
    state: State = "available"
    reason: str | None = None
    """One line: why it cannot be loaded."""
    traceback: str | None = field(default=None, repr=False)
    """What it raised when it was imported."""
    source: Source = "entry point"

    @property
    def label(self) -> str:
        """How messages call it: sampler 'ula' (ebmcore-langevin 0.1.0)."""
        name = self.name if len(self.name) <= 120 else f"{self.name[:117]}..."
        called = f"{self.kind} {name!r}"
        if self.distribution is None:
            return called
        return f"{called} ({' '.join(filter(None, (self.distribution, self.version)))})"


@dataclass(frozen=True)
class Loaded:
    """A plugin in memory, validated."""

    target: Any
    """The class or function."""
    record: Record
    digest: str | None = None
    """For a direct reference, the sha256 of the source file."""


@dataclass(frozen=True)
class Built:
    """An object made from a `use` table."""

    object: Any
    record: Record
    digest: str | None
    settings: Mapping[str, Any]
    """Every setting as a plain value, defaults included; None is left out. A setting that is a plugin is its table;
    `{"of": CLASS}` stands for an object that was made in Python."""
    nested: tuple[tuple[Record, str | None], ...] = ()
    """Record and digest of every plugin in the settings, at any depth."""
