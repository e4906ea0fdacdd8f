"""`ebmcore run FILE`: runs a run file, or what is left of its run, and says what came of it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from types import FrameType

import click

from ebmcore.cli import common_options
from ebmcore.cli.jobs import LONG, job_options, origin_of, read_job, run_command
from ebmcore.cli.report import files, health, labelled, moments, what_ran
from ebmcore.errors import RunStopped


@click.command()
@job_options
@click.option("--resume", is_flag=True, help="Run what is missing of the run in its directory, if one is there.")
@click.option("--accept-changes", is_flag=True, help="Resume though the run is not what it was; recorded.")
@click.option("--overwrite", is_flag=True, help="Replace the run directory if it is there.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@common_options
def run(
    file: Path,
    overrides: tuple[str, ...],
    out: Path | None,
    resume: bool,
    accept_changes: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Run FILE, a run file in TOML, into a run directory.

    A run without a [[writer]] is written as .npy files.
    """
    config, arguments = read_job(file, overrides, out)

    from ebmcore import rundir, sampling
    from ebmcore.request import Request

    request = Request(
        **arguments,
        overwrite=overwrite,
        resume=resume,
        accept_changes=accept_changes,
        origin=origin_of(file, overrides),
    )
    before = rundir.summary_of(arguments["out"]) if resume else None
    try:
        with config.located():
            result = sampling.run(request, progress=not quiet, again=_leave)
    except KeyboardInterrupt:
        command = run_command(file, overrides, out, "--resume")
        raise RunStopped(f"stopped by the user; what is done stays. Go on: {command}") from None
    if not quiet:
        summary = result.summary()
        done = ["this run had ended already: nothing was left to do"] if summary == before else []
        lines = [*done, *what_ran(result.provenance, summary), *moments(summary), *health(summary), *files(summary)]
        if summary["seconds"] >= LONG and result.provenance["gradient"] == "autograd":
            words = shlex.join(["ebmcore", "plan", str(file)])
            lines.append(labelled("advice", f"gradients were autograd's: {words} measures a compiled one"))
        click.echo("\n".join([*lines, f"next: ebmcore show {shlex.quote(str(arguments['out']))}"]))


def _leave(number: int, frame: FrameType | None) -> None:
    """End the process, whatever its threads are at: every file of a run may be left at any moment."""
    os.write(2, b"error: stopped by the user, at once; what was committed stays.\n")
    os._exit(130)
