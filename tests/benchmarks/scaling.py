"""How ebmcore's own time and memory grow: with workers, chains and dimensions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import median

from tests.benchmarks.machine import cores
from tests.benchmarks.problems import Problem
from tests.benchmarks.report import Report, raw, spread
from tests.benchmarks.rounds import play, ratio
from tests.benchmarks.work import scaled

WELL = Problem("double_well", 50_000, (2,), 1000, 0.005)
"""With half the step of the guide: at 0.01 a start beyond 5.1 diverges, and of ten million some are there."""


def all_scaling() -> dict[str, Callable[[int, float], Report]]:
    """Return what there is, each called as report(repeats, scale)."""
    return {"workers": workers, "chains": chains, "dimensions": dimensions}


def workers(repeats: int, scale: float) -> Report:
    """Return what a second worker gains, beside what arithmetic in two threads gains."""
    well, mlp = scaled(WELL, scale), scaled(Problem("mlp", 10_000, (2,), 1000, 0.01, hidden=(32, 32)), scale)
    kinds = {
        "double well": ("ebmcore:sample", well),
        "a user's MLP": ("ebmcore:own", mlp),
        "control: arithmetic in registers": ("control:registers", well),
    }
    most = min(2, cores())
    contenders = {
        f"{kind}, {count}": (who, replace(problem, workers=count))
        for kind, (who, problem) in kinds.items()
        for count in (1, most)
    }
    times = play(contenders, repeats, agree=False)
    gains = {kind: ratio(times[f"{kind}, 1"], times[f"{kind}, {most}"]) for kind in kinds}
    control = gains["control: arithmetic in registers"]
    lines = [f"| what | seconds, 1 worker | {most} workers | gain | gain / control's |", "|---|---|---|---|---|"]
    for kind, gain in gains.items():
        one, more = times[f"{kind}, 1"].seconds, times[f"{kind}, {most}"].seconds
        lines.append(f"| {kind} | {spread(one)} | {spread(more)} | {gain:.2f} | {gain / control:.2f} |")
    figures = {f"gain of {kind} / control's": gain / control for kind, gain in gains.items()}
    return Report("workers", "1 and 2 workers", lines, figures, raw(times))


def chains(repeats: int, scale: float) -> Report:
    """Return time a chain and peak memory from 10^3 to 10^7 chains, each number in a fresh process."""
    counts = [max(1, round(10**power * scale)) for power in range(3, 8)]
    problems = {
        f"{count:,}": replace(WELL, chains=count, mode="disk" if power >= 6 else "memory", warm=min(count, 50_000))
        for power, count in enumerate(counts, start=3)
    }
    times = play({name: ("ebmcore:sample", problem) for name, problem in problems.items()}, min(3, repeats))
    each = [median(own.seconds) / problems[name].chains for name, own in times.items()]
    lines = ["| chains | to | seconds (range) | microseconds a chain | peak memory, MB |", "|---|---|---|---|---|"]
    for (name, own), seconds in zip(times.items(), each, strict=True):
        peak = own.peak_bytes / 1e6
        lines.append(f"| {name} | {problems[name].mode} | {spread(own.seconds)} | {seconds * 1e6:.2f} | {peak:.0f} |")
    peaks = [own.peak_bytes for own in times.values()]
    figures = {
        "slowest / fastest, 10^5 to 10^7": max(each[2:]) / min(each[2:]),
        "peak, 10^7 / 10^6": peaks[4] / peaks[3],
    }
    return Report("chains", "double well in 2 dimensions, 1000 steps, by chains", lines, figures, raw(times))


def dimensions(repeats: int, scale: float) -> Report:
    """Return the time of 100,000 numbers a step, cut into chains of 2 to 10,000 coordinates."""
    numbers = round(100_000 * scale)
    problems = {f"{d:,}": replace(WELL, chains=max(1, numbers // d), shape=(d,)) for d in (2, 10, 100, 1000, 10_000)}
    times = play({name: ("ebmcore:sample", problem) for name, problem in problems.items()}, min(5, repeats))
    lines = ["| dimensions | chains | seconds (range) | nanoseconds a number and step |", "|---|---|---|---|"]
    for name, own in times.items():
        problem = problems[name]
        total = problem.chains * problem.shape[0] * problem.steps
        each = median(own.seconds) / total * 1e9
        lines.append(f"| {name} | {problem.chains:,} | {spread(own.seconds)} | {each:.2f} |")
    return Report("dimensions", "double well, 1000 steps, by dimensions", lines, {}, raw(times))
