"""What TensorBoard's own reader finds in what the observer wrote."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
import torch

import ebmcore as ebm
from ebmcore.protocols import Chunk, Receipt, RunInfo
from ebmcore_observers.tensorboard import TensorBoard

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def scalars(folder):
    found = event_accumulator.EventAccumulator(str(folder)).Reload()
    return {tag: [(each.step, each.value) for each in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_a_run_is_read_back_and_gives_the_draws_that_it_gives_without(tmp_path):
    settings = {"chains": 300, "shape": (2,), "steps": 20, "seed": 5, "chunk_size": 64, "devices": ["cpu:0", "cpu:1"]}

    def quadratic(x):
        return 0.5 * x.square().sum(-1)

    out = tmp_path / "run"
    mala = ebm.use("mala", step_size=0.1)
    result = ebm.sample(quadratic, mala, out=out, observers=["tensorboard"], **settings)
    found = scalars(out / "tensorboard")
    assert [step for step, _ in found["chunks/seconds"]] == [1, 2, 3, 4, 5]
    assert found["progress/share"][-1] == (20, 1.0)
    for name in ("mean", "sd"):
        for index, value in enumerate(result.summary()[name]):
            ((step, written),) = found[f"{name}/{index}"]
            assert step == 20
            assert written == pytest.approx(value, rel=1e-6)
    assert torch.equal(result.final, ebm.sample(quadratic, mala, **settings).final)


def test_the_axis_is_the_steps_a_chain_whatever_chunk_reports(tmp_path):
    run = RunInfo("id", tmp_path, chains=200, draws=1, steps=10, chunks=2, devices=("cpu",), seed=1)
    one, two = Chunk(0, 100, 0, 10), Chunk(100, 200, 0, 10)
    board = TensorBoard()
    board.ebmcore_run_started(run=run)
    board.ebmcore_progress(run=run, chunk=one, step=4, stats={"acceptance_rate": 0.25})
    board.ebmcore_progress(run=run, chunk=two, step=6, stats={"acceptance_rate": 0.5})
    board.ebmcore_chunk_done(run=run, chunk=one, receipt=Receipt(one, "cpu", 2.0))
    board.ebmcore_progress(run=run, chunk=two, step=8, stats={"acceptance_rate": 0.75})
    board.ebmcore_run_failed()
    found = scalars(tmp_path / "tensorboard")
    assert found["stats/acceptance_rate"] == [(2, 0.25), (5, 0.5), (9, 0.75)]
    shares = [(step, round(value, 4)) for step, value in found["progress/share"]]
    assert shares == [(2, 0.2), (5, 0.5), (8, 0.8), (9, 0.9)]
    assert found["chunks/seconds"] == [(1, 2.0)]


def test_without_the_package_it_is_refused_before_the_run_and_nothing_of_it_is_imported(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "ebmcore_observers.tensorboard.find_spec", lambda name: None if name == "tensorboard" else found(name)
    )
    with pytest.raises(ebm.PluginError, match=r"pip install 'ebmcore-observers\[tensorboard\]'"):
        ebm.sample(
            lambda x: x.square().sum(-1), ebm.use("ula", step_size=0.1), chains=10, shape=(1,), steps=1,
            observers=["tensorboard"],
        )  # fmt: skip


def test_loading_it_imports_no_tensorboard():
    code = "import sys, ebmcore as ebm; ebm.load('observer', 'tensorboard'); print('tensorboard' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
