"""The ratios that ebmcore is held to, and whether they were reached."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.report import Report
from tests.benchmarks.work import AUTOGRAD, JAX, LIMIT, OURS, OURS_SAMPLE, TORCHEBM


@dataclass(frozen=True)
class Target:
    """A figure of a piece of work that is to be at least, or at most, a number."""

    work: str
    figure: str
    at_least: float | None = None
    at_most: float | None = None

    def reached(self, value: float) -> bool:
        """Return whether `value` is good enough."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


TARGETS = [
    Target("double_well", f"{TORCHEBM} / {OURS}", at_least=10),
    Target("double_well", f"{JAX} / {OURS}", at_least=8),
    Target("double_well", f"{OURS} / {LIMIT}", at_most=1.5),
    Target("mlp32", f"{TORCHEBM} / {OURS}", at_least=5),
    Target("mlp32", f"{JAX} / {OURS}", at_least=2.3),
    Target("mlp64", f"{TORCHEBM} / {OURS}", at_least=3),
    Target("images", f"{OURS} / {AUTOGRAD}", at_most=1.05),
    Target("images", f"{OURS_SAMPLE} / {AUTOGRAD}", at_most=1.05),
    Target("small", f"{OURS} / {AUTOGRAD}", at_most=1.05),
    Target("million", f"{TORCHEBM} / {OURS}", at_least=18),
    Target("million_mlp64", f"{TORCHEBM} / {OURS}", at_least=3.5),
    Target("workers", "gain of double well / control's", at_least=0.95),
    Target("workers", "gain of a user's MLP / control's", at_least=0.85),
    Target("chains", "slowest / fastest, 10^5 to 10^7", at_most=1.2),
    Target("chains", "peak, 10^7 / 10^6", at_most=1.1),
]


def held_to(reports: Iterable[Report]) -> list[dict[str, Any]]:
    """Return each target whose figure was measured: the work, the figure, its value, the target, whether reached."""
    figures = {(report.name, figure): value for report in reports for figure, value in report.figures.items()}
    return [
        {
            "work": target.work,
            "figure": target.figure,
            "value": figures[target.work, target.figure],
            "target": f">= {target.at_least:g}" if target.at_least is not None else f"<= {target.at_most:g}",
            "reached": target.reached(figures[target.work, target.figure]),
        }
        for target in TARGETS
        if (target.work, target.figure) in figures
    ]


def table(held: list[dict[str, Any]]) -> list[str]:
    """Return the targets as a table in Markdown."""
    lines = ["| work | ratio | measured | target | reached |", "|---|---|---|---|---|"]
    for one in held:
        answer = "yes" if one["reached"] else "no"
        lines.append(f"| {one['work']} | {one['figure']} | {one['value']:.2f} | {one['target']} | {answer} |")
    return lines
