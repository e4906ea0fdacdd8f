"""What `run` and `plan` share: which run is meant, and the arguments of `ebmcore.sample` that say so."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ebmcore.config import RunConfig


LONG = 120.0
"""Seconds of a run from which it is worth a try whether compiling the gradient pays."""


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument FILE and the options --set and --out."""
    file = click.argument("file", type=click.Path(path_type=Path))
    overrides = click.option(
        "--set", "overrides", metavar="TABLE.KEY=VALUE", multiple=True, help="Replace a value of the file."
    )
    out = click.option(
        "--out", type=click.Path(path_type=Path), help="Run directory; runs/NAME beside the file if left out."
    )
    return file(overrides(out(command)))


def read_job(file: Path, overrides: tuple[str, ...], out: Path | None) -> tuple[RunConfig, dict[str, Any]]:
    """Return a run file and the arguments of `ebmcore.sample` for it.

    Raises:
        ConfigError: The file, or a value set beside it, is wrong.
    """
    from ebmcore.config import RunConfig

    config = RunConfig.load(file, overrides)
    return config, {**config.arguments(), "out": file.parent / "runs" / file.stem if out is None else out}


def origin_of(file: Path, overrides: tuple[str, ...]) -> dict[str, Any]:
    """Return what a manifest notes of the command that ran a file, for `show` and `verify` to name it again."""
    return {"file": str(file.absolute()), "set": list(overrides)}


def resume_command(run: Path, manifest: Mapping[str, Any]) -> str:
    """Return how a run goes on, from its manifest alone."""
    origin = manifest.get("origin")
    if isinstance(origin, Mapping) and Path(str(origin.get("file"))).is_file():
        return run_command(Path(origin["file"]), tuple(map(str, origin.get("set", ()))), run, "--resume")
    if _is_live(manifest["job"]):
        return f"in the program that made it, ebmcore.sample(..., out={str(run)!r}, resume=True)"
    return f"ebmcore run FILE --out {shlex.quote(str(run))} --resume   (with the run file FILE that made it)"


def _is_live(value: Any) -> bool:
    """Is there an object that only the process of the run had?"""
    if isinstance(value, Mapping):
        return "live" in value or any(map(_is_live, value.values()))
    return isinstance(value, list) and any(map(_is_live, value))


def run_command(file: Path, overrides: tuple[str, ...], out: Path | None, *more: str) -> str:
    """Return the command line that runs a file."""
    words = ["ebmcore", "run", str(file)]
    for override in overrides:
        words += ["--set", override]
    if out is not None:
        words += ["--out", str(out)]
    return shlex.join([*words, *more])
