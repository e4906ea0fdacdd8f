"""The progress display: what it counts, how often it speaks, and that a terminal gets a bar."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from ebmcore.observers import Observers
from ebmcore.progress import Progress
from ebmcore.protocols import Chunk, Receipt, RunInfo


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run_info(chains=1000, steps=100, chunks=1):
    return RunInfo("id", None, chains, 1, steps, chunks, ("cpu",), 7)


@pytest.fixture
def log():
    stream, clock = io.StringIO(), Clock()
    observers = Observers([Progress(stream, clock)])
    return observers, clock, lambda: stream.getvalue().splitlines()


def test_a_log_says_what_began_and_what_was_done(log):
    observers, clock, lines = log
    run, chunk = run_info(chains=50_000, steps=1000), Chunk(0, 50_000, 0, 1000)
    observers.ebmcore_run_started(run=run)
    clock.now += 2
    observers.ebmcore_chunk_done(run=run, chunk=chunk, receipt=Receipt(chunk, "cpu", 2.0))
    observers.ebmcore_run_finished(run=run, result=None)
    assert lines() == [
        "started: 50,000 chains x 1,000 steps, 1 chunk, 1 worker, seed 7",
        "100 % of 50,000 chains, 25,000 chains/s, 2.0 s in all",
    ]


def test_steps_inside_a_long_chunk_count(log):
    observers, clock, lines = log
    run, chunk = run_info(chains=1000, steps=100), Chunk(0, 1000, 0, 100)
    observers.ebmcore_run_started(run=run)
    clock.now += 10
    observers.ebmcore_progress(run=run, chunk=chunk, step=25, stats={})
    # A quarter of 1000 chains in 10 s: 25 a second, and three times as long to go.
    assert lines()[1:] == [" 25 % of 1,000 chains, 25 chains/s, 30.0 s left"]


def test_chunks_in_flight_and_done_add_up(log):
    observers, clock, lines = log
    run = run_info(chains=1000, steps=100, chunks=2)
    first, second = Chunk(0, 600, 0, 100), Chunk(600, 1000, 0, 100)
    observers.ebmcore_run_started(run=run)
    observers.ebmcore_progress(run=run, chunk=first, step=99, stats={})
    observers.ebmcore_chunk_done(run=run, chunk=first, receipt=Receipt(first, "cpu", 1.0))
    clock.now += 10
    observers.ebmcore_progress(run=run, chunk=second, step=50, stats={})
    assert lines()[-1].startswith(" 80 % of 1,000 chains")
    observers.ebmcore_run_failed(run=run, error=ValueError())
    assert lines()[-1] == " 80 % of 1,000 chains, 80 chains/s, 10.0 s in all"


def test_what_was_done_before_counts_as_done_and_not_as_speed(log):
    observers, clock, lines = log
    run, chunk = replace(run_info(chains=1000, steps=100), done=600), Chunk(600, 1000, 0, 100)
    observers.ebmcore_run_started(run=run)
    clock.now += 10
    observers.ebmcore_progress(run=run, chunk=chunk, step=50, stats={})
    assert lines() == [
        "started: 1,000 chains x 100 steps, 1 chunk, 1 worker, seed 7; 600 of the chains were done before",
        " 80 % of 1,000 chains, 20 chains/s, 10.0 s left",
    ]


@pytest.mark.parametrize(
    ("seconds", "most"),
    [(4, 0), (40, 8), (3600, 60)],
    ids=["shorter than 5 s: none", "never two within 5 s", "an hour: one a minute"],
)
def test_a_log_is_short(log, seconds, most):
    observers, clock, lines = log
    run, chunk = run_info(chains=1000, steps=10_000), Chunk(0, 1000, 0, 10_000)
    observers.ebmcore_run_started(run=run)
    for step in range(10_000):
        clock.now += seconds / 10_000
        observers.ebmcore_progress(run=run, chunk=chunk, step=step + 1, stats={})
    between = len(lines()) - 1
    assert most * 0.8 <= between <= most


def test_a_terminal_gets_one_bar_and_a_last_state():
    stream, clock = Terminal(), Clock()
    observers = Observers([Progress(stream, clock)])
    run, chunk = run_info(chains=1000, steps=100), Chunk(0, 1000, 0, 100)
    observers.ebmcore_run_started(run=run)
    clock.now += 2
    observers.ebmcore_chunk_done(run=run, chunk=chunk, receipt=Receipt(chunk, "cpu", 2.0))
    observers.ebmcore_run_finished(run=run, result=None)
    shown = stream.getvalue()
    assert "100 %" in shown
    assert "500 chains/s" in shown
    assert "started:" not in shown
