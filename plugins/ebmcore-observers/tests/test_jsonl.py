"""The event log: every line is JSON, every event is there, and a run is what it is without."""

from __future__ import annotations

import json

import pytest
import torch

import ebmcore as ebm
from ebmcore.protocols import Chunk, RunInfo
from ebmcore_observers.jsonl import Jsonl

SETTINGS = {"chains": 300, "shape": (2,), "steps": 20, "seed": 5, "chunk_size": 64, "devices": ["cpu:0", "cpu:1"]}


def quadratic(x):
    return 0.5 * x.square().sum(-1)


def lines(file):
    return [json.loads(line, parse_constant=pytest.fail) for line in file.read_text().splitlines()]


def test_each_event_is_a_line_in_the_run_directory(tmp_path):
    out = tmp_path / "run"
    result = ebm.sample(quadratic, ebm.use("ula", step_size=0.1), out=out, observers=["jsonl"], **SETTINGS)
    found = lines(out / "events.jsonl")
    first, *middle, last = found
    assert (first["event"], first["chains"], first["seed"], first["chunks"]) == ("run_started", 300, 5, 5)
    assert last["event"] == "run_finished"
    assert last["summary"] == result.summary()
    done = [line for line in middle if line["event"] == "chunk_done"]
    assert sorted((line["chunk"]["lo"], line["chunk"]["hi"]) for line in done) == [
        (0, 64), (64, 128), (128, 192), (192, 256), (256, 300),
    ]  # fmt: skip
    assert all(line["seconds"] > 0 for line in done)
    assert len({line["run"] for line in found}) == 1
    assert [line["time"] for line in found] == sorted(line["time"] for line in found)
    plain = ebm.sample(quadratic, ebm.use("ula", step_size=0.1), **SETTINGS)
    assert torch.equal(plain.final, result.final)


def test_a_file_elsewhere_takes_one_run_after_another(tmp_path):
    log = tmp_path / "logs" / "all.jsonl"
    for _ in range(2):
        table = ebm.use("jsonl", path=str(log))
        ebm.sample(quadratic, ebm.use("ula", step_size=0.1), observers=[table], **SETTINGS)
    assert [line["event"] for line in lines(log)].count("run_finished") == 2
    assert len({line["run"] for line in lines(log)}) == 2


def test_progress_and_failure_are_lines_and_no_number_is_nan(tmp_path):
    log = Jsonl(str(tmp_path / "events.jsonl"))
    run = RunInfo("id", None, chains=128, draws=1, steps=10, chunks=2, devices=("cpu",), seed=1)
    stats = {"acceptance_rate": 0.5, "lp": float("nan"), "energy": float("-inf")}
    log.ebmcore_progress(run=run, chunk=Chunk(0, 64, 0, 10), step=3, stats=stats)
    log.ebmcore_run_failed(run=run, error=RuntimeError("two\nlines"))
    progress, failed = lines(tmp_path / "events.jsonl")
    assert progress["step"] == 3
    assert progress["stats"] == {"acceptance_rate": 0.5, "lp": None, "energy": None}
    assert failed["error"] == "RuntimeError: two lines"


def test_a_run_that_fails_says_so_as_its_last_line(tmp_path):
    log = tmp_path / "events.jsonl"
    with pytest.raises(ebm.NonFiniteError):
        ebm.sample(
            quadratic, ebm.use("ula", step_size=100.0), observers=[ebm.use("jsonl", path=str(log))],
            **{**SETTINGS, "steps": 400},
        )  # fmt: skip
    last = lines(log)[-1]
    assert last["event"] == "run_failed"
    assert last["error"].startswith("NonFiniteError: chain ")


def test_a_run_in_memory_must_say_where(tmp_path):
    with pytest.warns(ebm.EbmcoreWarning, match="`path` must be set for a run in memory"):
        ebm.sample(quadratic, ebm.use("ula", step_size=0.1), observers=["jsonl"], **SETTINGS)
