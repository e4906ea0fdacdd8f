"""`make bench`, or python -m tests.benchmarks: tables of times and ratios, written to runs/bench too."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks import targets
from tests.benchmarks.chart import draw
from tests.benchmarks.machine import described, machine
from tests.benchmarks.report import Report, side_by_side
from tests.benchmarks.rounds import play
from tests.benchmarks.scaling import all_scaling
from tests.benchmarks.work import Work, all_work, scaled

OUT = Path("runs/bench")

BUSY = 0.4
"""Load a core before the first run above which times are not worth much."""

Job = Callable[[int, float], Report]


def main() -> None:
    """Run what was asked for and report it."""
    jobs: dict[str, Job] = {work.name: partial(_compare, work) for work in all_work()} | all_scaling()
    arguments = _arguments(list(jobs))
    print("every contender in a process of its own, by turns: all of it takes 15 to 25 minutes on two cores")
    about = machine()
    scale = "" if arguments.scale == 1 else f"; chains times {arguments.scale:g}"
    print(f"{described(about)}; medians of interleaved rounds{scale}\n", flush=True)
    if about["load_before"] > BUSY * about["cores"]:
        print("this machine is busy: torch's threads wait by spinning, and lose most by it; run it again when idle\n")
    began, reports = time.monotonic(), []
    for name in arguments.only or jobs:
        report = jobs[name](arguments.repeats, arguments.scale)
        reports.append(report)
        print("\n".join([f"### {report.title}", "", *report.lines, ""]), flush=True)
    # Of fewer chains the ratios are others.
    held = targets.held_to(reports) if arguments.scale == 1 else []
    if held:
        print("\n".join(["### Targets", "", *targets.table(held), ""]))
    minutes = (time.monotonic() - began) / 60
    print(f"{minutes:.1f} minutes; written: {_write(about, arguments, reports, held)}")
    if arguments.chart:
        draw(reports, arguments.chart)
        print(f"written: {arguments.chart}")


def _compare(work: Work, repeats: int, scale: float) -> Report:
    work = replace(work, problem=scaled(work.problem, scale))
    times = play({name: (who, work.problem) for name, who in work.contenders.items()}, min(repeats, work.rounds))
    return side_by_side(work, times)


def _arguments(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="Times ebmcore beside what one would use instead."
    )
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--repeats", type=int, default=7, help="most rounds; long work has fewer (default: 7)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the chains, to try it out (default: 1)")
    parser.add_argument("--chart", type=Path, metavar="PATH", help="write the ratios as a PNG (docs/_static/bench.png)")
    return parser.parse_args()


def _write(about: dict[str, Any], arguments: argparse.Namespace, reports: list[Report], held: list[Any]) -> Path:
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.json"
    work = {one.name: {"title": one.title, "ratios": one.figures, "measured": one.measured} for one in reports}
    content = {"machine": about, "repeats": arguments.repeats, "scale": arguments.scale, "work": work, "targets": held}
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


if __name__ == "__main__":
    main()
