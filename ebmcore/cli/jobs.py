"""What `run` and `plan` share: which run is meant, and the arguments of `ebmcore.sample` that say so."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ebmcore.config import RunConfig


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


def run_command(file: Path, overrides: tuple[str, ...], out: Path | None, *more: str) -> str:
    """Return the command line that runs a file."""
    words = ["ebmcore", "run", str(file)]
    for override in overrides:
        words += ["--set", override]
    if out is not None:
        words += ["--out", str(out)]
    return shlex.join([*words, *more])
