"""The ratios as bars on a logarithmic axis, a panel a piece of work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.report import Report
from tests.benchmarks.work import OURS

BESIDE = f" / {OURS}"


def draw(reports: Sequence[Report], path: Path) -> None:
    """Write a PNG of the work that others did too.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    shown = [report for report in reports if any(figure.endswith(BESIDE) for figure in report.figures)]
    figure, axes = pyplot.subplots(len(shown), 1, figsize=(8, 1.9 * len(shown)), sharex=True, squeeze=False)
    for axis, report in zip(axes[:, 0], shown, strict=True):
        bars = {name.removesuffix(BESIDE): x for name, x in report.figures.items() if name.endswith(BESIDE)}
        names = list(bars)[::-1]
        drawn = axis.barh(names, [bars[name] for name in names], color="#4c72b0", left=0)
        axis.bar_label(drawn, [f"{bars[name]:.1f}" for name in names], padding=3, fontsize=8)
        axis.axvline(1.0, color="black", linewidth=1)
        axis.set_xscale("log")
        axis.set_title(report.title, loc="left", fontsize=9)
        axis.tick_params(labelsize=8)
    axes[-1, 0].set_xlabel("time divided by ebmcore's (logarithmic; the line is ebmcore)")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
