"""A run whose process is killed at random moments and resumed ends with the bytes of one that was not.

SIGKILL cannot be caught, so what is on disk is whatever the process had come to.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import ebmcore as ebm
from ebmcore.cli import main
from ebmcore.registry import default
from tests.test_resume import same

COMMAND = [sys.executable, "-c", "import sys; from ebmcore.cli import main; sys.exit(main())"]

WRITERS = [record.name for record in default().records("writer") if record.name != "memory"]

SLOW = """\
import time
from dataclasses import dataclass
from typing import NamedTuple
from torch import Tensor

class State(NamedTuple):
    position: Tensor
    momentum: Tensor

class Info(NamedTuple):
    potential: Tensor
    acceptance_rate: Tensor

@dataclass(frozen=True)
class Slow:
    "Underdamped: a state of two tensors, two statistics, and a millisecond a step, so that kills come in the middle."
    def init(self, energy, position, noise):
        return State(position, noise.normal(position))
    def step(self, energy, state, noise):
        time.sleep(0.001)
        momentum = noise.perturb_(state.momentum, 0.3, decay=0.95)
        momentum = momentum - 0.05 * energy.gradient(state.position)
        position = state.position + 0.05 * momentum
        u = energy.value(position)
        return State(position, momentum), Info(u, (-u).exp())
"""

HEAD = """\
[model]
use = "double_well"
[engine]
devices = ["cpu:0", "cpu:1"]
executor = "{executor}"
chunk_size = 128
[[writer]]
use = "{writer}"
[[reducer]]
use = "moments"
"""

JOBS = {
    "one stage": """\
[sampler]
use = "./slow.py:Slow"
[run]
chains = 1000
shape = [2]
steps = 240
draws = 30
seed = 5
""",
    "stages": """\
[[stage]]
sampler = {use = "./slow.py:Slow"}
steps = 60
draws = 6
[[stage]]
sampler = {use = "mala", step_size = 0.1}
steps = 20
[[stage]]
sampler = {use = "./slow.py:Slow"}
steps = 160
draws = 16
warmup = 10
[run]
chains = 1000
shape = [2]
seed = 5
""",
}


def made(folder, writer="npy", executor="threads"):
    """Write the run files into a folder."""
    (folder / "slow.py").write_text(SLOW)
    for name, job in JOBS.items():
        (folder / f"{name}.toml").write_text(HEAD.format(writer=writer, executor=executor) + job)
    return folder


def killed(folder, job, out, when, *, from_start=False):
    """Run or resume, and kill after some seconds; say whether it was still running."""
    env = {**os.environ, "EBMCORE_CHECKPOINT_SECONDS": "0.05"}
    words = ["run", f"{job}.toml", "--out", str(out), "--resume"]
    with subprocess.Popen([*COMMAND, *words], cwd=folder, env=env, stderr=subprocess.PIPE, text=True) as running:
        if not from_start:
            assert running.stderr.readline().startswith("started:")
        time.sleep(when)
        running.kill()
        running.communicate()
        return running.returncode < 0


def arrays(run):
    """Return every array of a run, as read back."""
    kept = [(number, stage) for number, stage in enumerate(ebm.open_run(run).stages) if "no draws" not in repr(stage)]
    return {(number, name): stage.read(name).numpy() for number, stage in kept for name in stage.layout.arrays}


def check(folder, job, out, whole):
    assert main(["run", str(folder / f"{job}.toml"), "--out", str(out), "--resume", "--quiet"]) == 0
    assert main(["verify", str(out)]) == 0
    same(out, whole)
    found, wanted = arrays(out), arrays(whole)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


def undisturbed(folder, job):
    whole = folder / "whole"
    began = time.monotonic()
    assert main(["run", str(folder / f"{job}.toml"), "--out", str(whole), "--quiet"]) == 0
    return whole, time.monotonic() - began


@pytest.mark.parametrize("writer", WRITERS)
def test_killed_three_times_and_resumed(tmp_path, writer):
    folder, job = made(tmp_path, writer), "stages"
    whole, seconds = undisturbed(folder, job)
    moments = random.Random(1)
    kills = sum(killed(folder, job, folder / "run", moments.uniform(0, 0.4) * seconds) for _ in range(3))
    assert kills == 3
    check(folder, job, folder / "run", whole)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("writer", "executor", "job"),
    [
        ("npy", "threads", "one stage"),
        ("npy", "processes", "stages"),
        *((writer, "threads", "stages") for writer in WRITERS),
    ],
)
def test_killed_at_twenty_moments(tmp_path, writer, executor, job):
    folder = made(tmp_path, writer, executor)
    whole, seconds = undisturbed(folder, job)
    moments = random.Random(2)
    # What is left is run by threads, which start at once.
    made(tmp_path, writer)
    kills = 0
    for number in range(20):
        out = folder / f"run{number}"
        # Some at the very beginning, where the directory is made.
        if number % 5 == 4:
            kills += killed(folder, job, out, moments.uniform(0.5, 4), from_start=True)
        else:
            made(tmp_path, writer, executor)
            kills += killed(folder, job, out, moments.uniform(0, 1) * seconds)
            made(tmp_path, writer)
        check(folder, job, out, whole)
    assert kills >= 15


def workers_of(process):
    """Return the ids of a process's workers."""
    return [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("job", JOBS)
def test_a_worker_killed_at_ten_moments_is_replaced(tmp_path, job):
    """Two workers a run: a third death of one chunk would end it."""
    folder = made(tmp_path, executor="processes")
    whole, _ = undisturbed(folder, job)
    moments = random.Random(3)
    env = {**os.environ, "EBMCORE_CHECKPOINT_SECONDS": "0.05"}
    kills = 0
    for number in range(20):
        if kills >= 10:
            break
        words = ["run", f"{job}.toml", "--out", f"run{number}"]
        with subprocess.Popen([*COMMAND, *words], cwd=folder, env=env, stderr=subprocess.PIPE, text=True) as running:
            while running.poll() is None and len(workers_of(running)) < 2:
                time.sleep(0.05)
            for _ in range(2):
                time.sleep(moments.uniform(0, 2))
                workers = workers_of(running) if running.poll() is None else []
                if workers:
                    os.kill(moments.choice(workers), signal.SIGKILL)
                    kills += 1
            _, err = running.communicate()
            assert running.returncode == 0, err
        same(folder / f"run{number}", whole)
    assert kills >= 10
