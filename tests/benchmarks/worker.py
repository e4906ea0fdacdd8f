"""One contender in a process of its own, which lives for one piece of work: `python -m tests.benchmarks.worker`.

It reads lines from its standard input: who it is, its problem, then one line a run. It answers with a line of JSON
once it is warm, and after each run.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from tests.benchmarks.peers import Missing, Peer
from tests.benchmarks.problems import Problem

Timed = tuple[float, np.ndarray]
"""Seconds and positions; of a loop that is extended, those that were made."""


def main() -> None:
    """Serve until the input ends."""
    # What a library prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        for answer in _answers(sys.stdin):
            print(json.dumps(answer), file=answers)
    except (ImportError, Missing) as reason:
        print(json.dumps({"missing": str(reason)}), file=answers)
    except Exception as error:  # the parent says it in one line, and goes on with the others
        text = (str(error).splitlines() or [""])[0]
        print(json.dumps({"failed": f"{type(error).__name__}: {text}"}), file=answers)
        raise


def _answers(lines: TextIO) -> Iterator[dict[str, Any]]:
    module, _, maker = lines.readline().strip().partition(":")
    problem = Problem.from_json(lines.readline())
    make: Callable[[Problem], Peer] = getattr(importlib.import_module(f"tests.benchmarks.peers.{module}"), maker)
    began = time.perf_counter()
    peer = make(problem)
    positions = peer.sample(_first(problem))
    yield _answer(time.perf_counter() - began, positions)
    extended = problem.mode == "disk" and peer.to_disk is None
    for _ in lines:
        yield _answer(*_run(problem, peer), extended=extended)


def _first(problem: Problem) -> int:
    return problem.warm or (min(problem.batch, problem.chains) if problem.mode == "disk" else problem.chains)


def _run(problem: Problem, peer: Peer) -> Timed:
    """Do all of the work once."""
    began = time.perf_counter()
    if problem.mode == "disk":
        with tempfile.TemporaryDirectory() as parent:
            if peer.to_disk is None:
                return _guide(problem, peer, Path(parent))
            positions = np.array(peer.to_disk(problem.chains, Path(parent) / "run"))
            return time.perf_counter() - began, positions
    for _ in range(problem.calls):
        positions = peer.sample(problem.chains)
    return time.perf_counter() - began, positions


def _guide(problem: Problem, peer: Peer, folder: Path) -> Timed:
    """Run some batches of the guide's loop, and extend their time to all of them."""
    batches = -(-problem.chains // problem.batch)
    measured = min(problem.measured, batches)
    began = time.perf_counter()
    every = np.zeros((measured * problem.batch, *problem.shape))
    for i in range(measured):
        every[i * problem.batch : (i + 1) * problem.batch] = peer.sample(problem.batch)
    np.save(folder / "samples.npy", every)
    return (time.perf_counter() - began) * batches / measured, every


def _answer(seconds: float, positions: np.ndarray, *, extended: bool = False) -> dict[str, Any]:
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    std = float(positions.std(dtype=np.float64))
    return {"seconds": seconds, "std": std, "peak_bytes": peak, "numbers": positions.size, "extended": extended}


if __name__ == "__main__":
    main()
