"""`ebmcore run FILE`: runs a run file and says what came of it."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import click

from ebmcore.cli import debug_option

COORDINATES = 8
"""As many coordinates are listed one by one; more are pooled."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--set", "overrides", metavar="TABLE.KEY=VALUE", multiple=True, help="Replace a value of the file.")
@click.option("--out", type=click.Path(path_type=Path), help="Run directory; runs/NAME beside the file if left out.")
@click.option("--overwrite", is_flag=True, help="Replace the run directory if it is there.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@debug_option
def run(file: Path, overrides: tuple[str, ...], out: Path | None, overwrite: bool, quiet: bool) -> None:
    """Run FILE, a run file in TOML, into a run directory.

    A run without a [[writer]] is written as .npy files.
    """
    from ebmcore.config import RunConfig

    config = RunConfig.load(file, overrides)
    arguments = config.arguments()
    if not arguments["writers"]:
        arguments["writers"] = ({"use": "npy"},)

    from ebmcore import sampling

    result = sampling.sample(
        **arguments,
        out=file.parent / "runs" / file.stem if out is None else out,
        overwrite=overwrite,
        progress=not quiet,
    )
    if not quiet:
        click.echo("\n".join(_report(config.model.use, config.sampler.use, result.path, result.summary())))


def _report(model: str, sampler: str, path: Path | None, summary: dict[str, Any]) -> Iterator[str]:
    workers = f"{summary['workers']} worker{'s' if summary['workers'] != 1 else ''}"
    yield (
        f"{model} with {sampler}: {summary['chains']:,} chains x {summary['steps']:,} steps on {workers}"
        f" in {summary['seconds']:.2f} s, {summary['chains_per_second']:,.0f} chains/s, seed {summary['seed']}"
    )
    yield from _moments(summary)
    for name, file in summary["files"].items():
        yield f"  {name:<12} {file}"
    if path is not None and summary["files"]:
        code = f"import ebmcore as ebm; print(ebm.open_run({json.dumps(str(path))}))"
        yield f"next: python -c {shlex.quote(code)}"
    else:
        yield 'next: ebmcore plugins list   (to keep the draws, add [[writer]] use = "npy")'


def _moments(summary: dict[str, Any]) -> Iterator[str]:
    means, sds = _flat(summary["mean"]), _flat(summary["sd"])
    if len(means) <= COORDINATES:
        for index, mean, sd in zip(product(*map(range, summary["shape"])), means, sds, strict=True):
            name = f"x[{', '.join(map(str, index))}]" if index else "x"
            yield f"  {name:<12} mean {mean: .6g}   sd {sd:.6g}"
    elif means:
        # Of all coordinates taken as one sample: the variance within each, plus that between their means.
        mean = math.fsum(means) / len(means)
        variance = math.fsum(sd**2 + (each - mean) ** 2 for each, sd in zip(means, sds, strict=True)) / len(means)
        yield f"  all {len(means):,} coordinates   mean {mean: .6g}   sd {math.sqrt(variance):.6g}"


def _flat(values: Any) -> list[float]:
    return [inner for value in values for inner in _flat(value)] if isinstance(values, list | tuple) else [values]
