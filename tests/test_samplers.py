"""What the engine does with any sampler: nested states, kept fields, folded statistics, inner samplers, refusals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor

import ebmcore as ebm
from ebmcore.noise import STEP, CounterNoise
from ebmcore.reference import Reference
from ebmcore.states import map_state, select_rows


def flat(x):
    return 0.0 * x.sum(-1)


def quadratic(x):
    return 0.5 * (x**2).sum(-1)


class Walk(NamedTuple):
    position: Tensor


@dataclass(frozen=True)
class RandomWalk:
    """A sampler written in a notebook."""

    scale: float = field(default=1.0, metadata={"gt": 0})

    def init(self, energy, position, noise):
        return Walk(position)

    def step(self, energy, state, noise):
        return Walk(noise.perturb_(state.position, self.scale)), None


def test_a_sampler_defined_in_a_notebook_runs_as_an_object_and_by_its_registered_name():
    ebm.register("sampler", "my_walk")(RandomWalk)
    run = {"chains": 500, "shape": (2,), "steps": 9, "seed": 1}
    as_object = ebm.sample(quadratic, RandomWalk(0.5), **run)
    by_name = ebm.sample(quadratic, ebm.use("my_walk", scale=0.5), **run)
    assert torch.equal(as_object.final, by_name.final)
    with pytest.raises(ebm.SettingsError, match="`scale` must be > 0"):
        ebm.sample(quadratic, ebm.use("my_walk", scale=-1.0), **run)
    with pytest.raises(ebm.SettingsError, match="`scale` must be > 0"):
        ebm.sample(quadratic, RandomWalk(-1.0), **run)


class Counting(NamedTuple):
    position: Tensor
    log_weight: Tensor


class CountingInfo(NamedTuple):
    acceptance_rate: Tensor
    accepted: Tensor
    diverging: Tensor
    lp: Tensor
    tree_depth: Tensor
    peak: Tensor


@dataclass(frozen=True)
class Counts:
    """Statistics whose folded values are known: the step's index in several dresses."""

    keep: ClassVar[tuple[str, ...]] = ("log_weight",)
    reduce: ClassVar[dict[str, str]] = {"peak": "max"}

    def init(self, energy, position, noise):
        return Counting(position, torch.zeros(len(position)))

    def step(self, energy, state, noise):
        n = len(state.position)
        now = torch.full((n,), float(noise.step))
        info = CountingInfo(
            now, torch.ones(n, dtype=torch.int64), now == 3, now, torch.full((n,), noise.step % 3), 10 - now
        )
        return Counting(state.position, state.log_weight + 1), info


def test_statistics_are_folded_between_draws_by_their_rule():
    result = ebm.sample(flat, Counts(), chains=70, shape=(2,), warmup=2, steps=8, draws=2, seed=1)
    expected = {
        "acceptance_rate": [1.5, 5.5],  # a float: the mean of 0..3 and of 4..7
        "accepted": [4, 4],  # an integer: the sum
        "diverging": [True, False],  # a bool: any
        "lp": [3.0, 7.0],  # by name: the last
        "tree_depth": [2, 2],  # by name: the largest
        "peak": [10.0, 6.0],  # as the sampler's `reduce` says: the largest
    }
    assert set(result.stats) == set(expected)
    for name, value in expected.items():
        assert result.stats[name][69].tolist() == value, name
    assert result.read("state.log_weight")[0].tolist() == [6.0, 10.0]


class Inner(NamedTuple):
    position: Tensor
    steps: Tensor


class Outer(NamedTuple):
    position: Tensor
    inner: Inner


@dataclass(frozen=True)
class Nested:
    """A wrapper whose state holds the state of an inner kernel."""

    def init(self, energy, position, noise):
        return Outer(position, Inner(position.clone(), torch.zeros(len(position))))

    def step(self, energy, state, noise):
        moved = noise.perturb_(state.inner.position, 1.0)
        return Outer(moved.clone(), Inner(moved, state.inner.steps + 1)), None


def test_states_may_be_nested():
    nested = ebm.sample(quadratic, Nested(), chains=100, shape=(2,), steps=5, seed=1)
    plain = ebm.sample(quadratic, RandomWalk(), chains=100, shape=(2,), steps=5, seed=1)
    assert torch.equal(nested.final, plain.final)
    state = Outer(torch.arange(3.0), Inner(torch.arange(3.0), torch.zeros(3)))
    picked = select_rows(state, torch.tensor([2, 0, 2]))
    assert picked.inner.position.tolist() == [2.0, 0.0, 2.0]
    assert isinstance(map_state(torch.neg, state).inner, Inner)


@dataclass(frozen=True)
class Replicas:
    """Uses everything that replica methods need: expand, select, shared, uniform_per_chain, energy.select."""

    k: int = 3

    def init(self, energy, position, noise):
        return Walk(position)

    def step(self, energy, state, noise):
        n = len(state.position)
        replicas = state.position.repeat_interleave(self.k, 0)
        rows = torch.arange(n).repeat_interleave(self.k)
        replicas = noise.expand(self.k).perturb_(replicas, 1.0)
        values = energy.select(rows).value(replicas).view(n, self.k)
        best = replicas.view(n, self.k, -1)[torch.arange(n), values.argmin(1)]
        swap = noise.shared(1) < 0.5
        coin = (noise.uniform_per_chain() < 0.5) & swap
        half = noise.select(torch.arange(0, n, 2)).normal(best[::2])
        best[::2] += half
        return Walk(torch.where(coin[:, None], state.position, best)), None


def test_replicas_selections_and_shared_numbers_do_not_depend_on_the_cut():
    def energy(x, *, centre):
        return ((x - centre) ** 2).sum(-1)

    centre = torch.linspace(-1, 1, 300)[:, None]
    run = {"chains": 300, "shape": (2,), "steps": 6, "condition": {"centre": centre}, "seed": 4}
    whole = ebm.sample(energy, Replicas(), executor="serial", chunk_size=300, **run)
    parts = ebm.sample(energy, Replicas(), executor="threads", chunk_size=64, **run)
    assert torch.equal(whole.final, parts.final)


@dataclass(frozen=True)
class Pairs:
    """An ensemble method: chains 2i and 2i + 1 step together."""

    ensemble_size: ClassVar[int] = 96

    def init(self, energy, position, noise):
        return Walk(position)

    def step(self, energy, state, noise):
        groups = state.position.view(-1, self.ensemble_size, *state.position.shape[1:])
        return Walk((groups - 0.1 * groups.mean(1, keepdim=True)).reshape(state.position.shape)), None


def test_ensembles_are_never_split():
    run = {"shape": (2,), "steps": 3, "seed": 1}
    whole = ebm.sample(quadratic, Pairs(), chains=960, executor="serial", chunk_size=960, **run)
    parts = ebm.sample(quadratic, Pairs(), chains=960, executor="threads", chunk_size=100, **run)
    assert torch.equal(whole.final, parts.final)
    assert parts.provenance["plan"]["grain"] == 192, "the least common multiple of 64 and 96"
    with pytest.raises(ebm.InputError, match=r"multiple of the sampler's ensemble_size 96; got 1000\. Take 960"):
        ebm.sample(quadratic, Pairs(), chains=1000, **run)


class Subset:
    """An energy over data that is evaluated on a part of it, the same for all chains, another each step."""

    seen: ClassVar[list[float]] = []

    def __call__(self, x, *, part):
        return 0.5 * part * (x**2).sum(-1)

    def minibatch(self, noise):
        part = 1 + noise.shared(1)
        self.seen.append(float(part))
        return {"part": part}


def test_a_minibatch_is_drawn_once_a_step_and_shared_by_all_chains():
    Subset.seen.clear()
    run = {"chains": 256, "shape": (1,), "steps": 5, "seed": 1}
    whole = ebm.sample(Subset(), ebm.use("ula", step_size=0.1), chunk_size=256, **run)
    first = Subset.seen[-5:]
    parts = ebm.sample(Subset(), ebm.use("ula", step_size=0.1), chunk_size=64, executor="serial", **run)
    assert torch.equal(whole.final, parts.final)
    assert len(set(first)) == 5
    assert set(Subset.seen[-20:]) == set(first)


def test_discrete_supports_are_kept_as_bytes_and_need_a_sampler_of_theirs():
    @dataclass(frozen=True)
    class Flip:
        support: ClassVar[frozenset[str]] = frozenset({"binary"})

        def init(self, energy, position, noise):
            return Walk(position)

        def step(self, energy, state, noise):
            return Walk((noise.uniform(state.position) < 0.5).to(state.position.dtype)), None

    class Spins:
        shape = (5,)
        support = "binary"

        def __call__(self, x):
            return x.sum(-1)

    result = ebm.sample(Spins(), Flip(), chains=1000, steps=2, seed=1)
    assert result.draws.dtype == torch.uint8
    assert set(result.draws.unique().tolist()) == {0, 1}
    with pytest.raises(ebm.InputError, match="must have an energy with support real; got binary"):
        ebm.sample(Spins(), RandomWalk(), chains=10, steps=2)


def test_a_sampler_that_needs_the_value_refuses_a_score_model():
    class Score:
        def gradient(self, x):
            return x

    assert ebm.sample(Score(), ebm.use("ula", step_size=0.1), chains=10, shape=(2,), steps=3).final.shape == (10, 2)
    with pytest.raises(ebm.InputError, match="must have the energy's value; got a model with a gradient alone"):
        ebm.sample(Score(), RandomWalk(), chains=10, shape=(2,), steps=3)


# ------------------------------------------------------------------ wrong samplers


class WrongFirst(NamedTuple):
    weight: Tensor
    position: Tensor


class Scalar(NamedTuple):
    position: Tensor
    count: Tensor


def wrong(step, init=lambda self, energy, position, noise: Walk(position)):
    return dataclass(frozen=True)(type("Wrong", (), {"init": init, "step": step}))()


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (wrong(lambda self, e, s, n: s), r"Wrong\.step must return \(state, statistics or None\)"),
        (wrong(lambda self, e, s, n: (Walk(s.position.double()), None)), r"must keep the position's shape, dtype"),
        (wrong(lambda self, e, s, n: (Walk(s.position[:-1]), None)), r"one row a chain in every state field"),
        (wrong(lambda self, e, s, n: (Scalar(s.position, torch.tensor(1.0)), None)), r"got \[\] in `count`"),
        (wrong(lambda self, e, s, n: (WrongFirst(s.position, s.position), None)), r"first field is `position`"),
        (wrong(lambda self, e, s, n: ([s.position], None)), r"NamedTuple of tensors as its state; got list"),
        (wrong(lambda self, e, s, n: (s, {"lp": s.position})), r"NamedTuple of statistics or None beside its state"),
        (wrong(lambda self, e, s, n: (s, Walk(s.position))), r"statistics of shape \[n\]"),
        (
            wrong(lambda self, e, s, n: (Scalar(s.position, s.position[:, 0]), None)),
            r"the state type of its init, Walk",
        ),
    ],
)
def test_a_sampler_that_breaks_the_contract_is_refused_before_the_run(sampler, message, tmp_path):
    with pytest.raises(ebm.SamplerError, match=message):
        ebm.sample(quadratic, sampler, chains=10, shape=(2,), steps=3, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_sampler_draws_in_init_is_not_what_the_chains_began_from():
    class Both(NamedTuple):
        position: Tensor
        momentum: Tensor

    @dataclass(frozen=True)
    class Momentum:
        keep: ClassVar[tuple[str, ...]] = ("momentum",)

        def init(self, energy, position, noise):
            return Both(position, noise.normal(position))

        def step(self, energy, state, noise):
            return state, None

    stages = [ebm.Stage(Momentum(), steps=1, draws=1), ebm.Stage(Momentum(), steps=1, draws=1)]
    result = ebm.sample(quadratic, stages, chains=1000, shape=(1,), init="normal", seed=1)
    position, first = result.stages[0].final.flatten(), result.stages[0].read("state.momentum").flatten()
    second = result.read("state.momentum").flatten()
    for a, b in ((position, first), (position, second), (first, second)):
        assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 5 / 1000**0.5


def test_noise_counts_its_calls_within_a_step():
    noise = CounterNoise(
        Reference(), 1, range(4), dtype=torch.float32, device=torch.device("cpu"), stream=STEP, t=0, step=0, steps=9
    )
    like = torch.empty(4, 2)
    first, second = noise.normal(like), noise.normal(like)
    noise.advance(0, 0)
    assert torch.equal(noise.normal(like), first)
    assert not torch.equal(first, second)
