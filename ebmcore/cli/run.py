"""`ebmcore run FILE`: runs a run file and says what came of it."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from ebmcore.cli import common_options
from ebmcore.cli.jobs import job_options, read_job
from ebmcore.cli.report import files, moments, what_ran


@click.command()
@job_options
@click.option("--overwrite", is_flag=True, help="Replace the run directory if it is there.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@common_options
def run(file: Path, overrides: tuple[str, ...], out: Path | None, overwrite: bool, quiet: bool) -> None:
    """Run FILE, a run file in TOML, into a run directory.

    A run without a [[writer]] is written as .npy files.
    """
    config, arguments = read_job(file, overrides, out)

    from ebmcore import sampling

    with config.located():
        result = sampling.sample(**arguments, overwrite=overwrite, progress=not quiet)
    if not quiet:
        summary = result.summary()
        lines = [*what_ran(result.provenance, summary), *moments(summary), *files(summary)]
        click.echo("\n".join([*lines, f"next: ebmcore show {shlex.quote(str(arguments['out']))}"]))
