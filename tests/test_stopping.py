"""Stopped by a signal, a run keeps what its chunks in flight have done, says how it goes on, and does so."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import NamedTuple

import pytest
from torch import Tensor

import ebmcore as ebm
from ebmcore import rundir
from ebmcore.cli import main
from ebmcore.rundir import checkpoints
from tests.test_resume import same

COMMAND = [sys.executable, "-c", "import sys; from ebmcore.cli import main; sys.exit(main())"]

SLOW = """\
import time
from dataclasses import dataclass
from typing import NamedTuple
from torch import Tensor

class State(NamedTuple):
    position: Tensor

@dataclass(frozen=True)
class Slow:
    seconds: float
    def init(self, energy, position, noise):
        return State(position)
    def step(self, energy, state, noise):
        time.sleep(self.seconds if noise.t > 1 else 0)  # a look at it beforehand takes no time
        return State(noise.perturb_(state.position, 0.1)), None
"""

FILE = """\
[model]
use = "double_well"
[sampler]
use = "./slow.py:Slow"
seconds = {seconds}
[run]
chains = 200
shape = [2]
steps = 400
draws = 40
seed = 3
[engine]
executor = {{use = "threads", workers = 2}}
chunk_size = 64
"""


class Walk(NamedTuple):
    position: Tensor


@dataclass(frozen=True)
class Slow:
    """Steps that take some milliseconds until it is told to hurry."""

    def init(self, energy, position, noise):
        return Walk(position)

    def step(self, energy, state, noise):
        time.sleep(0.003)
        return Walk(noise.perturb_(state.position, 0.1)), None


def sample(out, **settings):
    arguments = {"chains": 200, "shape": 2, "steps": 200, "draws": 20, "seed": 3, "chunk_size": 64, **settings}
    return ebm.sample("double_well", Slow(), out=out, **arguments)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return sample(tmp_path_factory.mktemp("whole") / "run", executor=ebm.use("threads", workers=4)).path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("executor", ["serial", ebm.use("threads", workers=2)], ids=["serial", "threads"])
def test_the_first_signal_keeps_the_chunks_in_flight(tmp_path, whole, number, executor):
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
    with pytest.raises(KeyboardInterrupt):
        sample(tmp_path / "run", executor=executor)
    assert {each: signal.getsignal(each) for each in handlers} == handlers
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ebmcore")]
    flying = list((tmp_path / "run/checkpoints").iterdir())
    assert len(flying) == (1 if executor == "serial" else 2)
    sample(tmp_path / "run", resume=True)
    same(tmp_path / "run", whole)


def test_sigterm_is_left_alone_where_nothing_could_be_kept_or_somebody_has_it(tmp_path):
    heard, during = [], []

    class Look:
        @ebm.hookimpl
        def ebmcore_run_started(self):
            during.append(signal.getsignal(signal.SIGTERM))

    def mine(number, frame):
        heard.append(number)

    sample(None, steps=20, observers=[Look()])
    before = signal.signal(signal.SIGTERM, mine)
    try:
        sample(tmp_path / "run", steps=20, observers=[Look()])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert during == [signal.SIG_DFL, mine]


def test_a_fault_in_one_chunk_loses_nothing_of_the_others(tmp_path, whole, monkeypatch):
    """A full disk under one worker: the other's chunk is kept where it is."""
    failing, write = threading.Event(), os.pwrite

    def full(fd, data, offset):
        if failing.is_set() and threading.current_thread().name.startswith("ebmcore"):
            failing.clear()
            raise OSError(28, "No space left on device")
        return write(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    threading.Timer(0.3, failing.set).start()
    with pytest.raises(ebm.RunError, match=r"No space left on device\. Make room on that disk or mend it, and resume"):
        sample(tmp_path / "run", executor=ebm.use("threads", workers=2))
    monkeypatch.undo()
    assert len(list((tmp_path / "run/checkpoints").iterdir())) == 1
    sample(tmp_path / "run", resume=True)
    same(tmp_path / "run", whole)


# ------------------------------------------------------------------------------ as a process


def started(folder, seconds):
    (folder / "slow.py").write_text(SLOW)
    (folder / "job.toml").write_text(FILE.format(seconds=seconds))
    running = subprocess.Popen(
        [*COMMAND, "run", "job.toml"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stderr.readline().startswith("started:")
    return running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_stopped_ends_with_130_and_names_the_one_that_goes_on(tmp_path, monkeypatch, number):
    with started(tmp_path, 0.01) as running:
        time.sleep(0.3)
        running.send_signal(number)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    words = err.splitlines()[-1].removeprefix("error: stopped by the user; what is done stays. Go on: ebmcore ")
    assert shlex.split(words) == ["run", "job.toml", "--resume"]
    monkeypatch.chdir(tmp_path)
    assert len(list((tmp_path / "runs/job/checkpoints").iterdir())) == 2
    # As fast as it can now, which is another run only in its time.
    (tmp_path / "slow.py").write_text(SLOW.replace("self.seconds if", "0 if"))
    assert main([*shlex.split(words), "--quiet", "--accept-changes"]) == 0
    assert main(["run", "job.toml", "--quiet", "--out", "whole"]) == 0
    same(tmp_path / "runs/job", tmp_path / "whole")


def test_a_second_ctrl_c_does_not_wait(tmp_path, capsys):
    with started(tmp_path, 100) as running:
        time.sleep(0.3)
        running.send_signal(signal.SIGINT)
        assert running.stderr.readline().startswith("stopping at the next step")
        assert running.poll() is None
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (130, "")
    assert err == "error: stopped by the user, at once; what was committed stays.\n"
    assert rundir.read_log(tmp_path / "runs/job") == rundir.Log((), (), False)
    assert main(["show", str(tmp_path / "runs/job")]) == 0
    assert shlex.split(capsys.readouterr().out.splitlines()[-1])[-1] == "--resume"


# ------------------------------------------------------------- writers that only the host feeds

ONE = """\
from ebmcore_writers.npy import Npy

class One(Npy):
    "A writer of one process, which holds its `prepare` to what it has."
    parallel = False

    def prepare(self, path, layout, committed):
        super().prepare(path, layout, committed)
        for span in committed:
            rows = self.read(path, layout, "draws", slice(span.lo, span.hi))
            assert rows[:, span.first : span.last].all(), "the host says that it has what it was never given"
"""


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("processes", "serial"),
        pytest.param("threads", "processes", marks=pytest.mark.long),
        pytest.param("processes", "processes", marks=pytest.mark.long),
    ],
)
def test_what_waited_for_the_host_is_not_lost(tmp_path, first, then):
    """Draws so large that a chunk writes blocks long before its end, which a worker's process leaves for the host."""
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "one.py").write_text(ONE)

    def run(out, **settings):
        slow = ebm.use("./slow.py:Slow", seconds=0.005)
        arguments = {"chains": 192, "shape": 4096, "steps": 120, "draws": 40, "seed": 3, "chunk_size": 128}
        arguments |= {"base": tmp_path, "devices": ["cpu:0", "cpu:1"], "writers": [ebm.use("./one.py:One", name="npy")]}
        return ebm.sample("double_well", slow, out=tmp_path / out, **{**arguments, **settings})

    whole = run("whole", executor="threads")

    class Stop:
        @ebm.hookimpl
        def ebmcore_progress(self, chunk, step):
            if chunk.lo == 0 and step > 60:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run("run", executor=first, observers=[Stop()])
    assert [each.blocks[0].last for each in checkpoints.load_all(tmp_path / "run") if each.chunk.lo == 0] == [16]
    assert (first == "processes") == (tmp_path / "run/spool").is_dir()
    run("run", executor=then, resume=True)
    same(tmp_path / "run", whole.path)
    assert not (tmp_path / "run/spool").exists()
