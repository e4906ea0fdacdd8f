"""Distributions that are only metadata and a few lines of source, in a folder of the test's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

import importlib_metadata

from ebmcore.registry import KINDS, Registry

SAMPLER = """
    from dataclasses import dataclass, field

    @dataclass(frozen=True)
    class ULA:
        step_size: float = field(metadata={"gt": 0, "description": "length of a step"})
        noise_scale: float = 1.0

        def init(self, energy, position, noise): ...
        def step(self, energy, state, noise): ...
"""
"""Source of a module with a sampler that has all that the registry looks at."""


@dataclass
class Site:
    """A folder of fake distributions, as site-packages is one of real ones.

    Attributes:
        folder: Where `add` writes.
        path: The folders that are looked through, in this order.
    """

    folder: Path
    path: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.path or [self.folder]

    def add(
        self,
        name: str,
        version: str = "1.0",
        *,
        modules: Mapping[str, str] | None = None,
        requires: Sequence[str] = (),
        metadata: str | bytes | None = None,
        entry_points: str | bytes | None = None,
        suffix: str = "dist-info",
        **plugins: Mapping[str, str],
    ) -> Path:
        """Write a distribution and return its metadata folder.

        Args:
            name: Its name; the folder has it with underscores.
            version: Its version.
            modules: Source by module name.
            requires: Its `Requires-Dist`.
            metadata: METADATA itself, in place of what the arguments before say.
            entry_points: entry_points.txt itself, in place of `plugins`.
            suffix: "egg-info" for what an editable install leaves beside the source.
            **plugins: For each kind its entry points by name: `sampler={"ula": "module:ULA"}`.
        """
        folder = self.folder / f"{name.replace('-', '_')}-{version}.{suffix}"
        folder.mkdir()
        lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        _write(
            folder / ("METADATA" if suffix == "dist-info" else "PKG-INFO"), metadata or "\n".join(lines) + "\n\nText.\n"
        )
        groups = [
            "\n".join([f"[{KINDS[kind]}]", *(f"{entry} = {value}" for entry, value in entries.items())])
            for kind, entries in plugins.items()
        ]
        if groups or entry_points:
            _write(folder / "entry_points.txt", entry_points or "\n\n".join(groups) + "\n")
        for module, source in (modules or {}).items():
            (self.folder / f"{module}.py").write_text(dedent(source), encoding="utf-8")
        return folder

    def registry(self, **arguments: Any) -> Registry:
        """Return a registry over the path, of a host 0.1.0 unless told."""
        found = importlib_metadata.distributions(path=[str(folder) for folder in self.path])
        return Registry(found, **{"host_version": "0.1.0", **arguments})


def _write(path: Path, content: str | bytes) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
