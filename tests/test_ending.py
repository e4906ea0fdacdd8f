"""A run that an observer ends early is the run of fewer chains, to the byte, in whatever order they were computed."""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import ebmcore as ebm
from ebmcore import rundir
from ebmcore.cli import main
from ebmcore.ending import marks
from ebmcore.executors.serial import Serial
from ebmcore.verification import damage


class StopAt:
    """Ends a run at the first mark that is not below a number of chains; notes what it was asked."""

    def __init__(self, chains):
        self.chains, self.asked = chains, []

    @ebm.hookimpl
    def ebmcore_should_stop(self, summary):
        self.asked.append(summary)
        return "that is enough" if summary["chains"] >= self.chains else None


@dataclass(frozen=True)
class Backwards:
    """The last chunk first: no order of arrival is worse for what is decided on the first chains."""

    workers: ClassVar[int] = 1

    def run(self, job, chunks, devices):
        yield from Serial().run(job, tuple(reversed(chunks)), devices)


def run(chains, **settings):
    stages = [
        ebm.Stage(ebm.use("ula", step_size=0.02), steps=3, draws=1),
        ebm.Stage(ebm.use("mala", step_size=0.1), steps=6, draws=3, warmup=2),
    ]
    return ebm.sample(ebm.use("gaussian", variance=[1.0, 0.25]), stages, chains=chains, seed=3, **settings)


def digests(folder):
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


WAYS = {
    "one worker": {"devices": ["cpu"]},
    "two workers": {"devices": ["cpu:0", "cpu:1"], "chunk_size": 64},
    "three workers": {"devices": ["cpu:0", "cpu:1", "cpu:2"], "chunk_size": 192},
    "backwards": {"devices": ["cpu"], "executor": Backwards(), "chunk_size": 128},
    "one chunk": {"devices": ["cpu"], "chunk_size": 1000},
}


@pytest.mark.parametrize("way", WAYS)
def test_it_is_the_run_of_so_many_chains_to_the_byte(way, tmp_path):
    whole = run(320, out=tmp_path / "whole", reducers="moments")
    stopped = run(1000, out=tmp_path / "stopped", reducers="moments", observers=[StopAt(300)], **WAYS[way])
    assert digests(tmp_path / "stopped" / "data") == digests(tmp_path / "whole" / "data")
    assert set(stopped.reduced["moments"]) == set(whole.reduced["moments"])
    for name, value in whole.reduced["moments"].items():
        assert torch.equal(stopped.reduced["moments"][name], value)
    for name in ("chains", "mean", "sd", "reduced"):
        assert stopped.summary()[name] == whole.summary()[name]
    assert stopped.summary()["ended"] == {"reason": "that is enough", "chains_asked": 1000}
    again = ebm.open_run(tmp_path / "stopped")
    for result in (stopped, again):
        assert torch.equal(result.draws, whole.draws)
        assert torch.equal(result.stages[0].draws, whole.stages[0].draws)
        assert torch.equal(result.stats["acceptance_rate"], whole.stats["acceptance_rate"])
        assert repr(result).startswith("Result: 320 chains x 6 steps")


def test_in_memory_too_and_another_run_may_begin_where_it_ended(tmp_path):
    whole, stopped = run(320), run(1000, observers=[StopAt(300)])
    assert torch.equal(stopped.draws, whole.draws)
    run(1000, observers=[StopAt(300)], out=tmp_path / "stopped")
    on = ebm.sample(
        ebm.use("gaussian", variance=[1.0, 0.25]),
        ebm.use("ula", step_size=0.02),
        init=str(tmp_path / "stopped"),
        steps=1,
    )
    assert on.final.shape == (320, 2)


def test_what_it_is_asked_does_not_depend_on_chunks_and_is_of_the_first_chains_alone():
    asked = []
    for settings in WAYS.values():
        observer = StopAt(10_000)
        assert "ended" not in run(1000, observers=[observer], **settings).summary()
        asked.append(observer.asked)
    wanted = list(range(64, 1000, 64))
    whole = run(1000)
    for observer in asked:
        assert [summary["chains"] for summary in observer] == wanted
        for summary, first in zip(observer, asked[0], strict=True):
            assert torch.equal(summary["mean"], first["mean"])
            draws = whole.draws[: summary["chains"]].double().flatten(0, 1)
            torch.testing.assert_close(summary["mean"], draws.mean(0))
            torch.testing.assert_close(summary["sd"], draws.std(0))


@pytest.mark.parametrize("way", WAYS)
def test_what_its_directory_says_is_of_the_chains_that_are_kept(way, tmp_path):
    stopped = run(1000, out=tmp_path / "stopped", observers=[StopAt(300)], **WAYS[way])
    job, manifest, _ = rundir.read(tmp_path / "stopped")
    assert job.chains == manifest["identity"]["run.chains"] == 320
    log = rundir.read_log(tmp_path / "stopped")
    chunks = sorted((commit.chunk.lo, commit.chunk.hi) for commit in log.commits)
    assert [lo for lo, _ in chunks] == [0, *(hi for _, hi in chunks[:-1])]
    assert chunks[-1][1] == 320
    writers = {"npy": ebm.load("writer", "npy")()}
    assert [each for commit in log.commits for each in damage(job, writers, commit.chunk, commit.blocks)] == []
    again = tomllib.loads((tmp_path / "stopped" / "run.toml").read_text())
    assert again["run"]["chains"] == 320
    assert stopped.provenance["ended"]["chains_asked"] == 1000


@pytest.mark.parametrize("way", ["two workers", "one chunk"])
def test_a_resume_ends_it_at_the_same_chains_and_without_the_observer_goes_on_to_all(way, tmp_path):
    whole = run(1000, out=tmp_path / "whole", **WAYS[way])
    run(1000, out=tmp_path / "run", observers=[StopAt(300)], **WAYS[way])
    before = digests(tmp_path / "run" / "data")
    again = run(1000, out=tmp_path / "run", observers=[StopAt(300)], resume=True, **WAYS[way])
    assert again.summary()["chains"] == 320
    assert digests(tmp_path / "run" / "data") == before
    on = run(1000, out=tmp_path / "run", resume=True, **WAYS[way])
    assert "ended" not in on.summary()
    assert torch.equal(on.draws, whole.draws)
    assert digests(tmp_path / "run" / "data") == digests(tmp_path / "whole" / "data")


CUT = ["rewrite", "truncate", "renew", "finish"]


@pytest.mark.parametrize("moment", CUT)
def test_a_process_that_dies_while_it_cuts_leaves_a_run_that_can_be_resumed(moment, tmp_path, monkeypatch):
    class Dies(BaseException):
        pass

    with monkeypatch.context() as patch:
        target = ebm.load("writer", "npy") if moment == "truncate" else rundir
        real = getattr(target, moment)

        def after(*arguments, **named):
            real(*arguments, **named)
            raise Dies

        patch.setattr(target, moment, after)
        with pytest.raises(Dies):
            run(1000, out=tmp_path / "run", observers=[StopAt(300)], **WAYS["two workers"])
    again = run(1000, out=tmp_path / "run", observers=[StopAt(300)], resume=True, **WAYS["two workers"])
    assert again.summary()["chains"] == 320
    run(320, out=tmp_path / "whole")
    assert digests(tmp_path / "run" / "data") == digests(tmp_path / "whole" / "data")


@pytest.mark.parametrize(
    ("chains", "unit", "wanted"),
    [(64, 64, []), (65, 64, [64]), (200, 192, [192]), (1, 64, []), (1000, 256, [256, 512, 768])],
)
def test_marks(chains, unit, wanted):
    assert list(marks(chains, unit)) == wanted


def test_a_run_of_any_size_has_at_most_a_hundred_marks():
    for chains in (6_400, 6_401, 50_000, 10**6, 10**8 + 1):
        found = list(marks(chains, 64))
        assert 90 <= len(found) <= 100 or chains < 10_000
        assert all(mark % 64 == 0 and mark < chains for mark in found)


def test_chains_that_begin_at_one_point_are_not_parted():
    """A mark is a multiple of 64 and of the 5 chains of each point."""
    observer = StopAt(10_000)
    run(1000, init={"use": "normal", "repeat": 5}, observers=[observer])
    assert [summary["chains"] for summary in observer.asked] == [320, 640, 960]


def test_a_writer_that_cannot_end_early_is_refused_before_the_run(tmp_path):
    @dataclass(frozen=True)
    class Plain:
        parallel: ClassVar[bool] = False

        def prepare(self, path, layout, committed): ...
        def open(self, path, layout): ...
        def finish(self, path, layout, summary): ...

    with pytest.raises(ebm.InputError, match=r"writer 'Plain' must have `truncate` where an observer may end the run"):
        run(1000, out=tmp_path / "out", writers=Plain(), observers=[StopAt(300)])
    assert not (tmp_path / "out").exists()


def test_an_observer_that_raises_when_it_is_asked_is_left_out_and_the_run_goes_on():
    class Faulty:
        @ebm.hookimpl
        def ebmcore_should_stop(self, summary):
            raise ZeroDivisionError

    with pytest.warns(ebm.EbmcoreWarning, match="ebmcore_should_stop raised ZeroDivisionError"):
        result = run(1000, observers=[Faulty()])
    assert torch.equal(result.draws, run(1000).draws)


def test_the_command_line_says_that_it_ended_and_why(tmp_path, capsys):
    (tmp_path / "job.toml").write_text(
        '[model]\nuse = "gaussian"\nvariance = [1.0]\n[sampler]\nuse = "ula"\nstep_size = 0.1\n'
        "[run]\nchains = 100_000\nsteps = 50\nseed = 1\n"
        '[[observer]]\nuse = "early_stop"\nbound = 0.02\n'
    )
    assert main(["run", str(tmp_path / "job.toml"), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert main(["show", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "3,072 chains x 50 steps" in out
    assert "ended early  of 100,000 chains: standard_error is below 0.02" in out
    assert "draws [3072, 1, 1] float32" in out
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["chains"] == 3072
