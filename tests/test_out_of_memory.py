"""A chunk that does not fit in memory is halved and run in pieces: the same bytes, and what fits is remembered."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch

import ebmcore as ebm
from ebmcore.halving import is_out_of_memory

CHAINS = 2_007
ULA = ebm.use("ula", step_size=0.01)

ERRORS = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    "cpu": lambda: RuntimeError(
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 TB."
    ),
    "windows": lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 TB."),
    "numpy": MemoryError,
}


class Fits:
    """The double well, in a memory that holds `most` chains; it notes how many it was asked for."""

    shape = (2,)

    def __init__(self, most, error="cuda", after=0):
        self.most, self.error, self.after = most, ERRORS[error], after
        self.refused, self.calls = [], 0

    def __call__(self, x):
        self.calls += 1
        if len(x) > self.most and self.calls > self.after:
            self.refused.append(len(x))
            raise self.error()
        return ((x**2 - 1) ** 2).sum(-1)


def draw(energy, **settings):
    run = {"chains": CHAINS, "steps": 24, "draws": 3, "seed": 11, "chunk_size": CHAINS, "executor": "serial"}
    return ebm.sample(energy, ULA, reducers="moments", **{**run, **settings})


def digest(result) -> str:
    return hashlib.sha256(result.draws.numpy().tobytes()).hexdigest()


@pytest.fixture(scope="module")
def whole():
    return draw(Fits(CHAINS))


@pytest.mark.parametrize("error", ERRORS)
def test_a_halved_chunk_gives_the_same_bytes(whole, error):
    energy = Fits(600, error)
    result = draw(energy)
    assert digest(result) == digest(whole)
    assert result.summary()["mean"] == whole.summary()["mean"]
    for name, value in whole.reduced["moments"].items():
        assert torch.equal(result.reduced["moments"][name], value), name
    # 2,007 chains are 32 grains of 64: 16 of them, and then 8, were tried once each.
    assert energy.refused == [2007, 1024]


def test_memory_that_runs_out_late_costs_no_draw(whole):
    assert digest(draw(Fits(600, after=40), draws=24)) == digest(draw(Fits(CHAINS), draws=24))


@pytest.mark.parametrize("executor", ["serial", ebm.use("threads", workers=2)])
def test_what_fits_is_remembered_for_the_chunks_that_follow(whole, executor):
    energy = Fits(300)
    assert digest(draw(energy, chunk_size=640, executor=executor)) == digest(whole)
    # Each worker may find out by itself, once.
    assert energy.refused.count(640) <= (1 if executor == "serial" else 2)


def test_the_smallest_piece_that_does_not_fit_ends_the_run():
    with pytest.raises(
        ebm.RunError, match=r"64 chains.*must fit in the memory of 'cpu'.*out of memory.*workers"
    ) as caught:
        draw(Fits(10), chains=256)
    assert not isinstance(caught.value, ebm.InputError)


def test_an_error_that_speaks_of_memory_on_purpose_is_none_of_the_memory():
    assert not is_out_of_memory(ebm.RunError("a disk must have room; got: out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))


def test_observers_see_one_chunk_and_never_more_than_its_steps():
    seen = []

    class Watch:
        @ebm.hookimpl
        def ebmcore_progress(self, chunk, step):
            seen.append((chunk.lo, chunk.hi, step))

        @ebm.hookimpl
        def ebmcore_chunk_done(self, chunk, receipt):
            seen.append((chunk.lo, chunk.hi, chunk.stop))
            assert len(receipt.parts) == 4

    draw(Fits(600), observers=[Watch()], steps=2400)
    assert {(lo, hi) for lo, hi, _ in seen} == {(0, CHAINS)}
    steps = [step for _, _, step in seen]
    assert steps == sorted(steps)
    assert steps[-1] == 2400


def test_a_run_directory_holds_the_pieces_and_is_resumed_from_them(whole, tmp_path):
    assert digest(draw(Fits(600), out=tmp_path / "run")) == digest(whole)
    log = tmp_path / "run/commits.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    assert [json.loads(line)["chunk"]["lo"] for line in lines] == [0, 512, 1024, 1536]
    log.write_text("".join(lines[:3]))
    (tmp_path / "run/summary.json").unlink()
    energy = Fits(600)
    assert digest(draw(energy, out=tmp_path / "run", resume=True)) == digest(whole)
    assert energy.refused == []


@pytest.mark.long
def test_a_worker_process_halves_too(whole, tmp_path):
    (tmp_path / "small.py").write_text(
        "import sys, torch\n"
        "def small(x):\n"
        "    if 'ebmcore.executors.worker' in sys.modules and len(x) > 300:\n"
        "        raise torch.OutOfMemoryError('CUDA out of memory')\n"
        "    return ((x**2 - 1) ** 2).sum(-1)\n"
    )
    processes = ebm.use("processes", workers=2)
    result = draw("./small.py:small", base=tmp_path, shape=2, executor=processes, chunk_size=640)
    assert digest(result) == digest(whole)
    assert result.summary()["sd"] == whole.summary()["sd"]
