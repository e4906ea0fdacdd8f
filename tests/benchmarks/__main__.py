"""Prints a table of times and ratios, and writes them to runs/bench: `make bench`, or python -m tests.benchmarks."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch

from tests.benchmarks.machine import cores, machine
from tests.benchmarks.timing import interleaved, ratios
from tests.benchmarks.work import all_work

OUT = Path("runs/bench")


def main() -> None:
    """Run all work and report it."""
    arguments = _arguments()
    # The eager loops get as many threads as ebmcore has workers.
    torch.set_num_threads(cores())
    report: dict[str, Any] = {"machine": machine(), "repeats": arguments.repeats, "work": {}}
    for work in all_work(arguments.scale):
        print(f"timing {work.title} ...", flush=True)
        seconds = interleaved(work.contenders, arguments.repeats)
        report["work"][work.title] = {"seconds": seconds, "ratio": ratios(seconds)}
    print(f"\n{_table(report)}\n")
    print(f"written: {_write(report)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Times ebmcore beside torch loops.")
    parser.add_argument("--repeats", type=int, default=7, help="rounds that are counted (default: 7)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the chains, to try it out (default: 1)")
    return parser.parse_args()


def _table(report: dict[str, Any]) -> str:
    """Return a table in Markdown: median seconds, their range, and the ratio to ebmcore within a round."""
    about = report["machine"]
    lines = [
        f"{about['processor']}, {about['cores']} cores, torch {about['torch']}, load {about['load_before']} before; "
        f"medians of {report['repeats']} interleaved rounds",
        "",
        "| work | who | seconds (range) | times ebmcore's |",
        "|---|---|---|---|",
    ]
    for title, result in report["work"].items():
        for name, times in result["seconds"].items():
            spread = f"{median(times):.2f} ({min(times):.2f}-{max(times):.2f})"
            lines.append(f"| {title} | {name} | {spread} | {result['ratio'][name]:.2f} |")
    return "\n".join(lines)


def _write(report: dict[str, Any]) -> Path:
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    return path


if __name__ == "__main__":
    main()
