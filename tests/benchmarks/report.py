"""What a piece of work comes to: a table in Markdown, figures that targets are held to, all that was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.benchmarks.rounds import Times, ratio
from tests.benchmarks.work import OURS, Work


@dataclass(frozen=True)
class Report:
    """The result of one piece of work.

    Attributes:
        name: Its short name.
        title: What it was.
        lines: A table in Markdown.
        figures: Ratios by what they are.
        measured: Everything, for the JSON file.
    """

    name: str
    title: str
    lines: list[str]
    figures: dict[str, float]
    measured: dict[str, Any]


def side_by_side(work: Work, times: Mapping[str, Times]) -> Report:
    """Return the report of contenders that did the same work."""
    base = times.get(OURS)
    lines = ["| who | seconds (range) | times ebmcore's | first run, s |", "|---|---|---|---|"]
    figures: dict[str, float] = {}
    for name, own in times.items():
        shown = ""
        if base is not None:
            against = ratio(own, base)
            shown = f"{against:.2f}"
            if own is not base:
                figures[f"{name} / {OURS}"] = against
                figures[f"{OURS} / {name}"] = ratio(base, own)
        mark = " *" if own.runs[-1]["extended"] else ""
        lines.append(f"| {name} | {spread(own.seconds)}{mark} | {shown} | {own.first['seconds']:.2f} |")
    if any(own.runs[-1]["extended"] for own in times.values()):
        batches = -(-work.problem.chains // work.problem.batch)
        measured = min(work.problem.measured, batches)
        lines += ["", f"\\* extended from {measured} of {batches} batches of the guide's loop"]
    return Report(work.name, work.title, lines, figures, raw(times))


def spread(seconds: list[float]) -> str:
    """Return the median and the range of some times."""
    digits = 2 if median(seconds) >= 0.1 else 4
    return f"{median(seconds):.{digits}f} ({min(seconds):.{digits}f}-{max(seconds):.{digits}f})"


def raw(times: Mapping[str, Times]) -> dict[str, Any]:
    """Return all that was measured, as plain values."""
    return {name: {"first": own.first, "runs": own.runs} for name, own in times.items()}
