"""What `run` and `show` say of a run, from its manifest and summary alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

COORDINATES = 8
"""As many coordinates are listed one by one; more are pooled."""


def what_ran(manifest: Mapping[str, Any], summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line on a finished run, and one on each of its stages if it had several."""
    workers = f"{summary['workers']} worker{'s' if summary['workers'] != 1 else ''}"
    yield (
        f"{title(manifest['job'])}: {summary['chains']:,} chains x {summary['steps']:,} steps on {workers}"
        f" in {summary['seconds']:.2f} s, {summary['chains_per_second']:,.0f} chains/s, seed {summary['seed']}"
    )
    if summary.get("resumed_at"):
        yield labelled("resumed", f"{summary['resumed_at']:,} of the chains were there before, without their time")
    yield from stages(manifest["job"])
    if "ended" in summary:
        ended = summary["ended"]
        yield labelled("ended early", f"of {ended['chains_asked']:,} chains: {ended['reason']}")


def title(job: Mapping[str, Any]) -> str:
    """Return what is sampled and how."""
    return f"{_used(job['energy'])} with {', then '.join(_used(stage['sampler']) for stage in job['stages'])}"


def stages(job: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line a stage, if there are several."""
    for number, stage in enumerate(job["stages"] if len(job["stages"]) > 1 else ()):
        warmup = f" after {stage['warmup']:,} of warmup" if stage["warmup"] else ""
        draws = f"{stage['draws']:,} draw{'s' if stage['draws'] != 1 else ''} a chain" if stage["draws"] else "no draw"
        yield labelled(f"stage {number}", f"{_used(stage['sampler'])}, {stage['steps']:,} steps{warmup}, keeps {draws}")


def moments(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield mean and sd of each coordinate over the last stage's draws, or of all coordinates pooled."""
    means, sds = _flat(summary["mean"]), _flat(summary["sd"])
    if len(means) <= COORDINATES:
        for index, mean, sd in zip(product(*map(range, summary["shape"])), means, sds, strict=True):
            name = f"x[{', '.join(map(str, index))}]" if index else "x"
            yield labelled(name, f"mean {mean: .6g}   sd {sd:.6g}")
    elif means:
        # Of all coordinates taken as one sample: the variance within each, plus that between their means.
        mean = math.fsum(means) / len(means)
        variance = math.fsum(sd**2 + (each - mean) ** 2 for each, sd in zip(means, sds, strict=True)) / len(means)
        yield f"  all {len(means):,} coordinates   mean {mean: .6g}   sd {math.sqrt(variance):.6g}"


def health(summary: Mapping[str, Any]) -> Iterator[str]:
    """Say how many chains were held, if any were."""
    if count := summary["frozen"]:
        yield labelled("frozen", f"{count:,} of {summary['chains']:,} chains left the finite numbers and were held")


def files(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield where each writer put the draws."""
    for name, file in summary["files"].items():
        yield labelled(name, file)


def labelled(label: str, text: str) -> str:
    """Return an indented line of a report."""
    return f"  {label:<12} {text}"


def amount(size: float) -> str:
    """Return a number of bytes in words."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size:.0f} bytes"


def built(seconds: float) -> str:
    """Say what a gradient backend took to build, where that is worth a word."""
    return f", built in {seconds:.1f} s" if seconds >= 0.1 else ""


def _used(table: Mapping[str, Any]) -> str:
    return str(table.get("use", table.get("of")))


def _flat(values: Any) -> list[float]:
    return [inner for value in values for inner in _flat(value)] if isinstance(values, list | tuple) else [values]
