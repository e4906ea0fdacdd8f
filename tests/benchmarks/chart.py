"""The ratios as bars on a logarithmic axis, a panel a piece of work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.report import Report
from tests.benchmarks.work import OURS

BESIDE = f" / {OURS}"

TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


def draw(reports: Sequence[Report], path: Path) -> None:
    """Write a PNG of the work that others did too.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot, ticker

    shown = [report for report in reports if any(figure.endswith(BESIDE) for figure in report.figures)]
    figure, axes = pyplot.subplots(len(shown), 1, figsize=(8, 1.9 * len(shown)), sharex=True, squeeze=False)
    for axis, report in zip(axes[:, 0], shown, strict=True):
        bars = {name.removesuffix(BESIDE): x for name, x in report.figures.items() if name.endswith(BESIDE)}
        names = list(bars)[::-1]
        # A bar begins at ebmcore's time: to the right who is slower, to the left who is faster.
        drawn = axis.barh(names, [bars[name] - 1 for name in names], left=1, color=[_colour(bars[n]) for n in names])
        axis.bar_label(drawn, [f"{bars[name]:.2g}" for name in names], padding=3, fontsize=8)
        axis.axvline(1.0, color="black", linewidth=1)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(ticker.FixedLocator(TICKS))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(ticker.NullLocator())
        axis.margins(x=0.15)
        axis.set_title(report.title, loc="left", fontsize=9)
        axis.tick_params(labelsize=8)
    axes[-1, 0].set_xlabel("time divided by ebmcore's (logarithmic; the line is ebmcore)")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _colour(against: float) -> str:
    return "#4c72b0" if against >= 1 else "#b0764c"
