"""Chains that leave the finite numbers: named with their step, or held while the others go on unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch

import ebmcore as ebm
from ebmcore.cli import main


class State(NamedTuple):
    position: torch.Tensor
    steps: torch.Tensor  # [n]


class Info(NamedTuple):
    lp: torch.Tensor


@dataclass(frozen=True)
class Failing:
    """A random walk that makes chain `chain` NaN at step `at`, warmup counted, and keeps a count of steps."""

    chain: int = 70
    at: int = 100
    keep = ("steps",)

    def init(self, energy, position, noise):
        return State(position, torch.zeros(len(position)))

    def step(self, energy, state, noise):
        x = noise.perturb_(state.position.clone(), 0.1)
        ids = noise.chains if hasattr(noise, "chains") else None
        rows = torch.tensor([chain == self.chain for chain in ids])
        x[rows & (state.steps + 1 >= self.at)] = torch.nan
        return State(x, state.steps + 1), Info(-energy.value(x))


def flat(x):
    return 0.0 * x.sum(-1)


RUN = {"chains": 200, "shape": (2,), "steps": 300, "draws": 30, "seed": 4}


def sample(sampler, **more):
    return ebm.sample(flat, sampler, **{**RUN, **more})


def test_a_nan_is_named_with_its_chain_and_step():
    with pytest.raises(ebm.NonFiniteError, match=r"chain 70 must stay finite; got nan at step 99 .* halve it"):
        sample(Failing())
    with pytest.raises(ebm.NonFiniteError, match="chain 70 must stay finite; got nan at step 99 "):
        sample(Failing(), warmup=50)


@pytest.mark.parametrize("at", [1, 100, 128, 129, 290, 300])
def test_the_others_keep_their_bits(at):
    healthy, ill = sample(Failing(chain=-1)), sample(Failing(at=at), on_nonfinite="freeze")
    others = torch.arange(200) != 70
    assert torch.equal(ill.draws[others], healthy.draws[others])
    assert torch.equal(ill.stats["lp"][others], healthy.stats["lp"][others])
    assert not ill.stats["frozen"][others].any()
    assert ill.draws.isfinite().all()
    assert ill.summary()["frozen"] == 1
    assert healthy.summary()["frozen"] == 0


@pytest.mark.parametrize("at", [100, 128, 129, 200, 256])
def test_a_chain_is_held_where_it_was_last_looked_through(at):
    """That is after step 128 k: a draw at step s is live while it is finite, then it is the state of the last look."""
    healthy, ill = sample(Failing(chain=-1), draws=300), sample(Failing(at=at), draws=300, on_nonfinite="freeze")
    looked = (at - 1) // 128 * 128
    start = ebm.sample(flat, Failing(chain=-1), **{**RUN, "steps": 1, "draws": 1})
    assert torch.equal(ill.draws[70, : at - 1], healthy.draws[70, : at - 1])
    held = healthy.draws[70, looked - 1] if looked else None
    rest = ill.draws[70, at - 1 :]
    assert (rest == rest[0]).all()
    if held is None:
        # Where it began: a step of the walk away from its first draw.
        assert (rest[0] - start.draws[70, 0]).abs().max() < 1.0
    else:
        assert torch.equal(rest[0], held)
    frozen = ill.stats["frozen"][70]
    assert frozen.dtype == torch.bool
    assert torch.equal(frozen, torch.arange(300) >= at - 1)


@pytest.mark.parametrize("more", [{"chunk_size": 64}, {"devices": ["cpu"] * 3, "chunk_size": 64}, {"draws": 300}])
def test_what_is_held_does_not_depend_on_the_cut(more, tmp_path, monkeypatch):
    monkeypatch.setattr("ebmcore.plan.BLOCK_BYTES", 10_000)  # several blocks a chunk, of other draws in each cut
    whole = sample(
        Failing(), on_nonfinite="freeze", chunk_size=200, out=tmp_path / "whole", draws=more.get("draws", 30)
    )
    cut = sample(Failing(), on_nonfinite="freeze", out=tmp_path / "cut", **more)
    assert torch.equal(cut.draws, whole.draws)
    for name in ("lp", "frozen"):
        assert torch.equal(cut.stats[name].nan_to_num(), whole.stats[name].nan_to_num())
    assert torch.equal(cut.read("state.steps"), whole.read("state.steps"))


def test_a_held_chain_stays_held_in_the_stages_after():
    stages = [ebm.Stage(Failing(), 150, draws=10), ebm.Stage(Failing(chain=-1), 100, draws=10)]
    result = ebm.sample(flat, stages, chains=200, shape=(2,), seed=4, on_nonfinite="freeze")
    first, second = result.stages
    assert torch.equal(second.draws[70], first.draws[70, -1].expand(10, 2))
    assert second.stats["frozen"][70].all()
    assert result.summary()["frozen"] == 1


def test_chains_that_begin_at_no_number_are_refused_in_any_case():
    def begin(ids, noise):
        return torch.where(ids[:, None] == 5, torch.nan, torch.zeros(len(ids), 2))

    for policy in ("raise", "freeze"):
        with pytest.raises(ebm.NonFiniteError, match="chain 5 must stay finite; got nan before its first step"):
            sample(Failing(chain=-1), init=begin, on_nonfinite=policy)


def test_a_real_divergence_is_held():
    """ULA on a quartic: a step too long throws far chains out, and near ones stay."""

    def quartic(x):
        return x.pow(4).sum(-1)

    start = torch.linspace(-4, 4, 400)[:, None]
    run = {"init": start, "steps": 200, "seed": 0, "draws": 20}
    ula = ebm.use("ula", step_size=0.1)
    with pytest.raises(ebm.NonFiniteError, match="halve it"):
        ebm.sample(quartic, ula, **run)
    result = ebm.sample(quartic, ula, on_nonfinite="freeze", **run)
    frozen = result.stats["frozen"][:, -1]
    assert result.summary()["frozen"] == int(frozen.sum()) > 10
    assert result.draws.isfinite().all()
    # Both ends left: |x| > sqrt(1 / 0.2) overshoots further each step.
    assert frozen[0]
    assert frozen[-1]
    assert not frozen[190:210].all()


def test_a_session_holds_too():
    session = ebm.Session(flat, Failing(at=3), seed=4, on_nonfinite="freeze")
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    after = session.run(x, 10)
    assert torch.equal(after[70], x[70])
    assert session.stats["frozen"].nonzero().flatten().tolist() == [70]
    assert after.isfinite().all()
    with pytest.raises(ebm.NonFiniteError, match="chain 70"):
        ebm.Session(flat, Failing(at=3), seed=4).run(x, 10)


def test_a_run_that_was_stopped_holds_the_same_chains(tmp_path, monkeypatch):
    monkeypatch.setenv("EBMCORE_CHECKPOINT_SECONDS", "0")
    whole = sample(Failing(), on_nonfinite="freeze", out=tmp_path / "whole")

    class Stopping:
        @ebm.hookimpl
        def ebmcore_progress(self, run, chunk, step, stats):
            if step > 150:
                raise KeyboardInterrupt

    monkeypatch.setattr("ebmcore.engine.REPORT_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        sample(Failing(), on_nonfinite="freeze", out=tmp_path / "cut", observers=[Stopping()], executor="serial")
    assert list((tmp_path / "cut" / "checkpoints").iterdir())
    resumed = sample(Failing(), on_nonfinite="freeze", out=tmp_path / "cut", resume=True)
    assert resumed.summary()["frozen"] == 1
    for name in ("draws", "stats.frozen", "state.steps"):
        np.testing.assert_array_equal(resumed.read(name), whole.read(name))


def test_the_command_line_says_how_many(tmp_path, capsys):
    (tmp_path / "quartic.py").write_text("def quartic(): return lambda x: x.pow(4).sum(-1)\n")
    (tmp_path / "job.toml").write_text(
        '[model]\nuse = "./quartic.py:quartic"\n[sampler]\nuse = "ula"\nstep_size = 0.3\n'
        '[run]\nchains = 500\nsteps = 100\nseed = 1\nshape = [2]\non_nonfinite = "freeze"\n'
    )
    assert main(["run", str(tmp_path / "job.toml")]) == 0
    assert " of 500 chains left the finite numbers and were held" in capsys.readouterr().out
    assert main(["show", str(tmp_path / "runs" / "job")]) == 0
    assert " of 500 chains left the finite numbers and were held" in capsys.readouterr().out
    assert np.load(tmp_path / "runs/job/data/npy/stats.frozen.npy").dtype == bool


def test_another_policy_is_refused():
    with pytest.raises(ebm.InputError, match="`on_nonfinite` must be one of raise, freeze; got 'drop'"):
        sample(Failing(), on_nonfinite="drop")
