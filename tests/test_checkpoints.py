"""A chunk in flight goes on from its checkpoint to the same bytes; a checkpoint that is not its own changes nothing."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import ebmcore as ebm
from ebmcore import plan, rundir
from ebmcore.rundir import checkpoints
from tests.test_resume import digests, same

EVERY = "EBMCORE_CHECKPOINT_SECONDS"


class Inner(NamedTuple):
    momentum: torch.Tensor
    count: torch.Tensor


class State(NamedTuple):
    position: torch.Tensor
    inner: Inner


class Info(NamedTuple):
    lp: torch.Tensor
    acceptance_rate: torch.Tensor
    diverging: torch.Tensor
    n_steps: torch.Tensor
    tree_depth: torch.Tensor


@dataclass(frozen=True)
class Odd:
    """A sampler whose state is nested, whose statistics fold in every way, and which counts its steps."""

    keep: ClassVar[tuple[str, ...]] = ()
    taken: ClassVar[list[int]] = []

    def init(self, energy, position, noise):
        momentum = noise.normal(position)
        return State(position, Inner(momentum, torch.zeros(len(position), dtype=torch.int64)))

    def step(self, energy, state, noise):
        if noise.steps > 1:  # the look before a run takes steps of its own
            self.taken.append(noise.t)
        momentum = noise.perturb_(state.inner.momentum, 0.3, decay=0.9)
        position = noise.perturb_(state.position, 0.1, drift=energy.gradient(state.position), drift_scale=-0.01)
        position = position + 0.01 * momentum
        count = state.inner.count + (noise.uniform_per_chain() < 0.5)
        u = energy.value(position)
        return State(position, Inner(momentum, count)), Info(-u, u.sigmoid(), u > 3, count, count % 7)


STAGES = [
    ebm.Stage(Odd(), steps=12, draws=4, warmup=3),
    ebm.Stage(ebm.use("mala", step_size=0.1), steps=5),
    ebm.Stage(Odd(), steps=20, draws=10, warmup=1),
]
STEPS = sum(stage.steps + stage.warmup for stage in STAGES)


def sample(out, stages=STAGES, **settings):
    arguments = {"chains": 150, "shape": 2, "seed": 5, "chunk_size": 128, "executor": "serial", "reducers": ["moments"]}
    return ebm.sample("double_well", stages, out=out, **{**arguments, **settings})


class Killed(BaseException):
    """As a signal would end the process."""


def killed_after(saves, monkeypatch, out, **settings):
    """Run with a checkpoint a step, and end it after some of them."""
    save, left = checkpoints.save, [saves]

    def last(path, checkpoint):
        save(path, checkpoint)
        left[0] -= 1
        if not left[0]:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setenv(EVERY, "0")
        patch.setattr(checkpoints, "save", last)
        with pytest.raises(Killed):
            sample(out, **settings)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    # So small that a chunk writes several blocks a stage.
    monkeypatch.setattr(plan, "BLOCK_BYTES", 128 * 40 * 3)
    monkeypatch.setattr(plan, "GROUP_BYTES", 64 * 40)
    Odd.taken.clear()


@pytest.fixture
def whole(tmp_path):
    return sample(tmp_path / "whole").path


@pytest.mark.parametrize("saves", [1, 3, 4, 9, 15, 16, 18, 20, 21, 24, 30, 40, 41, 42, 50])
def test_a_chunk_goes_on_where_it_was(tmp_path, whole, monkeypatch, saves):
    run = tmp_path / "run"
    killed_after(saves, monkeypatch, run)
    Odd.taken.clear()
    sample(run, resume=True)
    same(run, whole)
    left = [STEPS - saves % STEPS, STEPS] if saves < STEPS else [2 * STEPS - saves]
    # Those of the middle stage are another sampler's, and count nothing.
    assert sum(left) - 5 * len(left) <= len(Odd.taken) <= sum(left)
    assert not list((run / "checkpoints").iterdir())
    assert len(rundir.read_log(run).commits) == 2


def test_killed_at_every_step_and_resumed_each_time(tmp_path, whole, monkeypatch):
    run = tmp_path / "run"
    killed_after(1, monkeypatch, run)
    for _ in range(2 * STEPS - 2):
        killed_after(1, monkeypatch, run, resume=True)
    sample(run, resume=True)
    same(run, whole)


def test_checkpoints_change_nothing(tmp_path, whole, monkeypatch):
    monkeypatch.setenv(EVERY, "0")
    sample(tmp_path / "run")
    same(tmp_path / "run", whole)


def test_float64_and_other_workers_go_on_too(tmp_path, monkeypatch):
    whole = sample(tmp_path / "whole", precision="float64").path
    killed_after(17, monkeypatch, tmp_path / "run", precision="float64")
    sample(tmp_path / "run", precision="float64", resume=True, executor=ebm.use("threads", workers=2))
    same(tmp_path / "run", whole)


# --------------------------------------------------------------------- those that do not count


def flip(file):
    content = bytearray(file.read_bytes())
    content[-3] ^= 4
    file.write_bytes(content)


def swap(file):
    tensors = load_file(file)
    save_file({**tensors, "state/position": tensors["state/position"] + 1}, file)


def strange(change):
    def damage(file):
        found = checkpoints.load_all(file.parent.parent)[0]
        checkpoints.save(file.parent.parent, change(found))

    return damage


DAMAGE = {
    "flipped": flip,
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "empty": lambda file: file.write_bytes(b""),
    "pickle": lambda file: file.write_bytes(pickle.dumps({"a": 1})),
    "changed": swap,
    "no place": strange(lambda found: replace(found, place={})),
    "stage": strange(lambda found: replace(found, place={**found.place, "stage": 7})),
    "step": strange(lambda found: replace(found, place={**found.place, "step": "x"})),
    "leaf": strange(lambda found: replace(found, tensors={**found.tensors, "state/other": torch.zeros(128)})),
    "rows": strange(
        lambda found: replace(found, tensors={**found.tensors, "state/inner.count": torch.zeros(3, dtype=torch.int64)})
    ),
    "buffer": strange(lambda found: replace(found, tensors={**found.tensors, "buffer/draws": torch.zeros(3, 1, 2)})),
    "array": strange(lambda found: replace(found, tensors={**found.tensors, "buffer/../x": torch.zeros(128, 1, 2)})),
    "missing": strange(
        lambda found: replace(found, tensors={k: v for k, v in found.tensors.items() if k != "buffer/draws"})
    ),
    "blocks": strange(lambda found: replace(found, blocks=found.blocks[1:])),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("saves", [10, 36])
def test_a_checkpoint_that_is_not_its_own_costs_time_alone(tmp_path, whole, monkeypatch, how, saves):
    run = tmp_path / "run"
    killed_after(saves, monkeypatch, run)
    DAMAGE[how](run / "checkpoints" / "0-128.safetensors")
    Odd.taken.clear()
    sample(run, resume=True)
    same(run, whole)
    assert len(Odd.taken) >= 2 * (STEPS - 5) or how == "blocks"


def test_one_whose_draws_were_damaged_does_not_count(tmp_path, whole, monkeypatch):
    run = tmp_path / "run"
    killed_after(34, monkeypatch, run)
    draws = np.load(run / "data/npy/0/draws.npy", mmap_mode="r+")
    draws[5, 0, 1] += 1
    draws.flush()
    with pytest.warns(ebm.EbmcoreWarning, match=r"is damaged.*chains \[0, 128\) of 'draws' in '.*/0/draws.npy'"):
        sample(run, resume=True)
    same(run, whole)


def test_one_of_a_chunk_that_the_plan_has_not_does_not_count(tmp_path, whole, monkeypatch):
    run = tmp_path / "run"
    killed_after(20, monkeypatch, run)
    shutil.copy(run / "checkpoints/0-128.safetensors", run / "checkpoints/32-160.safetensors")
    (run / "checkpoints" / "note.txt").touch()
    sample(run, resume=True)
    same(run, whole)
    assert not list((run / "checkpoints").iterdir())


def test_after_an_accepted_change_chunks_begin_anew(tmp_path, monkeypatch):
    run = tmp_path / "run"
    killed_after(20, monkeypatch, run)
    Odd.taken.clear()
    sample(run, seed=6, resume=True, accept_changes=True)
    assert digests(run) == digests(sample(tmp_path / "other", seed=6).path)


def test_the_time_between_them_must_be_a_number(tmp_path, monkeypatch):
    monkeypatch.setenv(EVERY, "soon")
    with pytest.raises(ebm.InputError, match=f"`{EVERY}` must be a number of seconds >= 0; got 'soon'"):
        sample(tmp_path / "run")


def test_a_run_in_memory_has_none(monkeypatch):
    monkeypatch.setenv(EVERY, "0")
    monkeypatch.setattr(checkpoints, "save", None)
    assert sample(None).final.shape == (150, 2)
