"""`ebmcore verify RUN`: whether a run directory still holds what was committed; it changes nothing."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path

import click

from ebmcore.cli import common_options
from ebmcore.cli.jobs import resume_command
from ebmcore.cli.report import amount, labelled

SHOWN = 20
"""As many damaged arrays are listed one by one."""


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@common_options
def verify(run: Path) -> None:
    """Read back what RUN, a run directory, has committed, and compare its checksums.

    Exit code 1 if something is damaged.
    """
    from ebmcore.auditing import audit

    found = audit(run)
    width = sum(commit.chunk.hi - commit.chunk.lo for commit in found.commits)
    chunks = f"{len(found.commits):,} chunk{'s' if len(found.commits) != 1 else ''}"
    lines = [f"{run}: {chunks} committed, {width:,} of {found.job.chains:,} chains, {amount(found.bytes)} read"]
    lines += [labelled("damaged", str(fault)) for fault in found.faults[:SHOWN]]
    if len(found.faults) > SHOWN:
        lines.append(labelled("", f"and {len(found.faults) - SHOWN:,} more"))
    for writer, count in Counter(fault.writer for fault in found.faults).items():
        lines.append(labelled("in all", f"{count:,} of writer {writer}'s"))
    lines += [labelled("damaged", f"line {number} of {run / 'commits.jsonl'}") for number in found.lines]
    lines += [labelled("not read", f"writer {name} has no way to read back") for name in found.unread]
    damaged = bool(found.faults or found.lines)
    if damaged or found.summary is None:
        state = "damaged: what is named runs again on" if damaged else "whole so far, and unfinished:"
        lines.append(f"{state} resume")
        lines.append(f"next: {resume_command(run, found.manifest)}")
    else:
        lines += ["whole", f"next: ebmcore show {shlex.quote(str(run))}"]
    click.echo("\n".join(lines))
    if damaged:
        raise click.exceptions.Exit(1)
