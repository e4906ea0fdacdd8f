"""Several steps in one call: the same draws however steps are cut, and never past a draw, a look or a stop."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor

import ebmcore as ebm
from ebmcore.engine import CHECK_EVERY
from ebmcore.strides import LONGEST, Pace

WELL = ebm.use("double_well", dim=3)
ULA = ebm.use("ula", step_size=0.01)
RUN = {"chains": 700, "steps": 300, "seed": 4, "progress": False}


class Counting(NamedTuple):
    """Where the chains are: at the number of steps that they took."""

    position: Tensor


@dataclass(frozen=True)
class Counter:
    """Adds 1 a step, in strides, and notes them."""

    pause: float = 0.0
    strides: ClassVar[list[tuple[int, int]]] = []
    needs: ClassVar[frozenset[str]] = frozenset({"gradient"})
    law: ClassVar[str] = "other"

    def init(self, energy, position, noise):
        return Counting(torch.zeros_like(position))

    def step(self, energy, state, noise):
        return Counting(state.position + 1), None

    def stride(self, energy, noise):
        def move(state, count):
            time.sleep(self.pause * count)
            self.strides.append((noise.step, count))
            noise.advance(noise.t + count - 1, noise.step + count - 1)
            return Counting(state.position + count)

        return move


@pytest.fixture
def strides():
    Counter.strides.clear()
    return Counter.strides


def gradient_of(result):
    return result.provenance["gradient"]


def test_the_double_well_takes_strides_and_autos_name_says_so():
    assert gradient_of(ebm.sample(WELL, ULA, **RUN)) == "polynomial"


@pytest.mark.parametrize(
    "more",
    [
        {"sampler": ebm.use("ula", step_size={"use": "linear", "start": 0.02, "end": 0.01})},
        {"sampler": ebm.use("mala", step_size=0.01)},
        {"noise": "reference"},
        {"gradient": "closed_form"},
    ],
    ids=["schedule", "statistics", "noise without strides", "by name"],
)
def test_where_steps_go_one_by_one_the_closed_form_stays(more):
    result = ebm.sample(WELL, more.pop("sampler", ULA), **RUN, **more)
    assert gradient_of(result) == "closed_form"


@pytest.mark.parametrize(
    "more",
    [
        {"chunk_size": 64},
        {"chunk_size": 320, "devices": ["cpu", "cpu"]},
        {"draws": 300},
        {"draws": 20},
        {"steps": 200, "warmup": 100},
        {"on_nonfinite": "freeze"},
    ],
    ids=str,
)
def test_the_bits_do_not_depend_on_how_steps_are_cut(more):
    whole = ebm.sample(WELL, ULA, **RUN).final
    assert torch.equal(ebm.sample(WELL, ULA, **{**RUN, **more}).final, whole)


def test_strides_sample_what_steps_sample():
    # Rounding apart, since ula contracts within the wells.
    by_steps = ebm.sample(WELL, ULA, gradient="closed_form", **RUN).final
    torch.testing.assert_close(ebm.sample(WELL, ULA, **RUN).final, by_steps, rtol=0, atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_law_at_a_temperature(temperature, precision):
    k, eps, chains, dim = 2.0, 0.3, 20_000, 2
    sampler = ebm.use("ula", step_size=eps)
    result = ebm.sample(
        ebm.use("harmonic", k=k, dim=dim),
        sampler,
        chains=chains,
        steps=100,
        seed=1,
        temperature=temperature,
        precision=precision,
        progress=False,
    )
    assert gradient_of(result) == "polynomial"
    stiffness = k / temperature
    exact = 1 / (stiffness * (1 - eps * stiffness / 2))
    # The variance of n normals has the relative standard error sqrt(2 / n); five of them.
    assert result.final.double().var().item() == pytest.approx(exact, rel=5 * (2 / (chains * dim)) ** 0.5)


def test_a_session_takes_strides_with_the_bits_of_a_run():
    x = torch.randn(700, 3, generator=torch.Generator().manual_seed(0))
    session = ebm.Session(WELL, ULA, seed=4)
    twice = session.run(session.run(x, 130), 170)
    assert torch.equal(ebm.sample(WELL, ULA, init=x, **RUN).final, twice)


def test_a_session_sees_an_energy_whose_slope_changes():
    class Spring:
        k = 1.0

        @property
        def slope(self):
            return 0.0, self.k

        def __call__(self, x):
            return 0.5 * self.k * x.square().sum(1)

        def gradient(self, x):
            return self.k * x

    energy, x = Spring(), torch.ones(100, 2)
    session = ebm.Session(energy, ebm.use("ula", step_size=0.1, noise_scale=0.0), seed=0)
    torch.testing.assert_close(session.run(x, 3), x * 0.9**3)
    energy.k = 5.0
    torch.testing.assert_close(session.run(x, 3), x * 0.5**3)


def test_a_slope_that_is_not_the_gradients_is_left_out():
    class Lying:
        slope = (0.0, 3.0)

        def __call__(self, x):
            return 0.5 * x.square().sum(1)

        def gradient(self, x):
            return x.clone()

    with pytest.warns(
        ebm.EbmcoreWarning,
        match="'polynomial' must agree with the energy .* from the closed form",
    ):
        result = ebm.sample(Lying(), ULA, shape=(2,), **RUN)
    assert gradient_of(result) == "closed_form"


def test_a_chain_that_leaves_the_finite_numbers_is_named_as_step_by_step():
    said = []
    for gradient in ("auto", "closed_form"):
        with pytest.raises(ebm.NonFiniteError) as error:
            ebm.sample(WELL, ebm.use("ula", step_size=0.24), gradient=gradient, **RUN)
        said.append(str(error.value))
    assert said[0] == said[1]
    assert "at step" in said[0]


class Inheriting(Counter):
    """A step of its own, and a stride that is not of it."""

    def step(self, energy, state, noise):
        return Counting(state.position + 2), None


@dataclass(frozen=True)
class Thinning:
    """A setting of that name."""

    stride: int = 2

    def init(self, energy, position, noise):
        return Counting(torch.zeros_like(position))

    def step(self, energy, state, noise):
        return Counting(state.position + self.stride), None


@dataclass(frozen=True)
class HandingOn:
    """Another sampler with its steps taken twice."""

    inner: ClassVar[Counter] = Counter()
    needs: ClassVar[frozenset[str]] = frozenset({"gradient"})

    def init(self, energy, position, noise):
        return self.inner.init(energy, position, noise)

    def step(self, energy, state, noise):
        return self.inner.step(energy, self.inner.step(energy, state, noise)[0], noise)

    def __getattr__(self, name):
        return getattr(self.inner, name)


@pytest.mark.parametrize(
    "sampler", [Inheriting(), HandingOn(), Thinning()], ids=["inherited", "handed on", "a setting"]
)
def test_a_stride_that_is_not_of_the_step_is_not_taken(strides, sampler):
    result = ebm.sample(WELL, sampler, chains=64, steps=10, seed=0, devices="cpu", progress=False)
    assert result.final.unique().tolist() == [20.0]
    assert not strides


@pytest.mark.parametrize(("steps", "draws", "warmup"), [(300, 1, 0), (301, 7, 0), (12, 12, 5), (260, 2, 133)])
def test_no_stride_passes_a_draw_or_a_look(strides, steps, draws, warmup):
    result = ebm.sample(
        WELL, Counter(), chains=64, steps=steps, draws=draws, warmup=warmup, seed=0, devices="cpu", progress=False
    )
    thin = steps // draws
    kept = result.draws[0, :, 0].tolist()
    assert kept == [warmup + thin * (k + 1) for k in range(draws)]
    assert sum(count for _, count in strides) == warmup + steps
    assert max(count for _, count in strides) > 1 or draws == steps
    for step, count in strides:
        inside = range(step, step + count - 1)
        assert not any(s >= 0 and (s + 1) % thin == 0 for s in inside)
        assert not any((warmup + s + 1) % CHECK_EVERY == 0 for s in inside)


def test_a_stop_waits_for_one_stride_at_most(strides):
    # A step of 10 ms: 100 of them would be a second.
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ebm.sample(
            WELL, Counter(pause=0.01), chains=64, steps=100_000, seed=0, progress=False, observers=[Interrupting()]
        )
    assert max(count for _, count in strides) <= 16
    assert time.monotonic() - began < 30


class Interrupting:
    """Presses Ctrl-C at the first report."""

    @ebm.hookimpl
    def ebmcore_progress(self, run, chunk, step, stats):
        import _thread

        _thread.interrupt_main()


def test_the_pace_fits_strides_into_the_longest_wait():
    pace = Pace()
    assert pace.most == 1
    pace.took(1, 0.001)
    assert pace.most == 16
    pace.took(16, 0.016)
    assert pace.most == int(LONGEST / 0.001)
    pace.took(1, 10.0)
    assert pace.most == 1
