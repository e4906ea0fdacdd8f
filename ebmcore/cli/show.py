"""`ebmcore show RUN`: what a run directory says of its run; no plugin is imported, and no torch."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from ebmcore import rundir
from ebmcore.cli import common_options
from ebmcore.cli.jobs import resume_command
from ebmcore.cli.report import amount, built, health, labelled, moments, stages, title, what_ran
from ebmcore.protocols import JobSpec

NUMBERS = 8
"""A reducer's value of more numbers is left to summary.json."""


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@common_options
def show(run: Path) -> None:
    """Show what ran in RUN, a run directory, and what came of it."""
    job, manifest, summary = rundir.read(run)
    lines = _unfinished(run, job, manifest) if summary is None else _finished(run, job, manifest, summary)
    click.echo("\n".join(lines))


def _finished(run: Path, job: JobSpec, manifest: Mapping[str, Any], summary: Mapping[str, Any]) -> Iterator[str]:
    yield from what_ran(manifest, summary)
    yield from moments(summary)
    yield from health(summary)
    for name, values in summary["reduced"].items():
        for key, value in values.items():
            yield labelled(f"{name}.{key}", _shown(value))
    yield from _kept(run, job.to_json())
    yield from _origin(manifest)
    code = f"import ebmcore as ebm; print(ebm.open_run({json.dumps(str(run))}))"
    yield f"next: python -c {shlex.quote(code)}"


def _unfinished(run: Path, job: JobSpec, manifest: Mapping[str, Any]) -> Iterator[str]:
    done = rundir.read_log(run).commits
    chains = sum(commit.chunk.hi - commit.chunk.lo for commit in done)
    yield (
        f"{title(manifest['job'])}: unfinished, {len(done):,} of {manifest['plan']['chunks']:,} chunks are committed, "
        f"{chains:,} of {job.chains:,} chains, seed {job.seed}"
    )
    yield from stages(manifest["job"])
    yield from _origin(manifest)
    yield f"next: {resume_command(run, manifest)}"


def _kept(run: Path, job: Mapping[str, Any]) -> Iterator[str]:
    for number, layout in enumerate(job["layouts"]):
        if layout is not None:
            label = "kept" if len(job["layouts"]) == 1 else f"kept {number}"
            for name, (shape, dtype, _) in layout["arrays"].items():
                yield labelled(label, f"{name} {shape} {dtype}")
                label = ""
    for folder in sorted((run / "data").glob("*")):
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        yield labelled(folder.name, f"{folder}   {amount(size)}")


def _origin(manifest: Mapping[str, Any]) -> Iterator[str]:
    yield labelled("began", manifest["created_at"])
    took = built(manifest["gradient_seconds"])
    versions = ", ".join(f"{name} {manifest[name]}" for name in ("ebmcore", "python", "torch", "numpy"))
    yield labelled("with", f"{versions} on {manifest['machine']}, gradient by {manifest['gradient']}{took}")
    label = "plugins"
    for plugin in dict.fromkeys(map(_plugin, manifest["plugins"])):
        yield labelled(label, plugin)
        label = ""


def _plugin(record: Mapping[str, Any]) -> str:
    home = " ".join(filter(None, (record.get("distribution"), record.get("version"))))
    source = home or ("an object of the program" if "live" in record else "a direct reference")
    return f"{record['kind']} {record.get('name', record.get('of'))} ({source})"


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if text.count(",") < NUMBERS else f"{text.count(',') + 1:,} numbers, in {rundir.SUMMARY}"
