from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ebmcore.errors import SettingsError
from ebmcore.protocols import HasEnsembleSize, HasKeep, HasNeeds, HasReduce, HasSamplerSupport
from ebmcore_wrappers.projected import Projected, ProjectedState

OPTIONAL = (HasNeeds, HasSamplerSupport, HasEnsembleSize, HasKeep, HasReduce)


class Bare(NamedTuple):
    position: Tensor


@dataclass(frozen=True)
class Shift:
    """Moves every coordinate by `by`, in place."""

    by: float = 0.0

    def init(self, energy, position, noise):
        return Bare(position)

    def step(self, energy, state, noise):
        return Bare(state.position.add_(self.by)), None


class Deep(NamedTuple):
    position: Tensor
    square: Tensor


class Counting(NamedTuple):
    position: Tensor
    age: Tensor
    deep: Deep


class CountingInfo(NamedTuple):
    lp: Tensor


@dataclass(frozen=True)
class Counter:
    """Moves chain c by `by` * c, counts steps since `init`, keeps the square of the position two levels down."""

    by: float = 1.0

    needs: ClassVar = frozenset({"gradient"})
    support: ClassVar = frozenset({"real", "binary"})
    ensemble_size: ClassVar = 2
    keep: ClassVar = ("age",)
    reduce: ClassVar = {"lp": "max"}

    def init(self, energy, position, noise):
        return Counting(position, torch.zeros(len(position)), Deep(position, position**2))

    def step(self, energy, state, noise):
        rows = torch.arange(len(state.position), dtype=state.position.dtype)
        x = state.position + self.by * rows.reshape(-1, *(1,) * (state.position.ndim - 1))
        return Counting(x, state.age + 1, Deep(x, x**2)), CountingInfo(-x.reshape(len(x), -1).sum(1))


def project(x, **settings):
    """Return where one step of a sampler that stands still puts positions that are at `x`."""
    wrapper = Projected(Shift(), **settings)
    state, _ = wrapper.step(None, ProjectedState(x.clone(), Bare(x.clone())), None)
    assert torch.equal(wrapper.init(None, x.clone(), None).position.nan_to_num(), state.position.nan_to_num())
    assert state.inner.position is state.position
    return state.position


def mirrored(x: float, low: float | None, high: float | None) -> Fraction:
    """Mirror at one bound at a time, exactly, until the point is inside."""
    point = Fraction(x)
    while True:
        if low is not None and point < Fraction(low):
            point = 2 * Fraction(low) - point
        elif high is not None and point > Fraction(high):
            point = 2 * Fraction(high) - point
        else:
            return point


BOUNDS = [(-1.0, 1.0), (0.0, 1.0), (-0.3, 0.7), (2.0, 2.5), (0.0, None), (0.7, None), (None, 0.0), (None, -0.3)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("low", "high"), BOUNDS)
@given(data=st.data())
def test_reflect_mirrors_as_often_as_it_takes(low, high, dtype, data):
    """Within 4 rounding errors of numbers as large as the largest that occur, up to a hundred widths away."""
    low, high = (None if bound is None else float(torch.tensor(bound, dtype=dtype)) for bound in (low, high))
    x = torch.tensor(data.draw(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=20)), dtype=dtype)
    got = project(x, low=low, high=high, how="reflect")
    for value, at in zip(x.tolist(), got.tolist(), strict=True):
        exact = mirrored(value, low, high)
        scale = max(abs(value), abs(low or 0), abs(high or 0), 1.0)
        assert abs(Fraction(at) - exact) <= 4 * Fraction(torch.finfo(dtype).eps) * Fraction(scale)
        assert low is None or at >= low
        assert high is None or at <= high
        if exact == Fraction(value):
            assert at == value, "inside, to the bit"


@pytest.mark.parametrize("how", ["clamp", "reflect"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(x=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_positions_are_within_the_bounds_however_far_out_they_were(how, dtype, x):
    position = torch.tensor(x, dtype=dtype)
    for low, high in BOUNDS[:4]:
        got = project(position, low=low, high=high, how=how)
        assert (got >= low).all()
        assert (got <= high).all()


@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_clamp_is_torchs(low, high):
    x = torch.cat([torch.linspace(-30, 30, 1001), torch.tensor([math.inf, -math.inf, math.nan])]).reshape(-1, 2)
    assert torch.equal(project(x, low=low, high=high).nan_to_num(7.0), torch.clamp(x, low, high).nan_to_num(7.0))


@pytest.mark.parametrize("how", ["clamp", "reflect"])
@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_nan_stays_nan(how, low, high):
    got = project(torch.tensor([0.6, math.nan]), low=low, high=high, how=how)
    assert got.isnan().tolist() == [False, True]


@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_reflect_does_not_hide_an_infinite_position(low, high):
    got = project(torch.tensor([math.inf, -math.inf]), low=low, high=high, how="reflect")
    assert not got.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_chains_bits_do_not_depend_on_the_batch(dtype):
    x = torch.randn(1000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).mul(40).to(dtype)
    for how, low, high in [
        ("reflect", -0.3, 0.7),
        ("reflect", 0.1, None),
        ("reflect", None, 0.1),
        ("clamp", -1.0, 1.0),
    ]:
        whole = project(x, low=low, high=high, how=how)
        for size in (64, 448, 960):
            parts = [project(x[lo : lo + size], low=low, high=high, how=how) for lo in range(0, 1000, size)]
            assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("shape", [(), (2,), (1, 2, 2)])
def test_what_the_inner_state_holds_begins_anew_for_the_chains_that_were_moved(shape):
    """Chain c goes up by c a step and is mirrored at 3: by hand, with the steps since it was mirrored."""
    wrapper = Projected(Counter(), low=0.0, high=3.0, how="reflect")
    state = wrapper.init(None, torch.full((6, *shape), 0.5), None)
    expected, ages, seen = [0.5] * 6, [0] * 6, set()
    for _ in range(4):
        state, info = wrapper.step(None, state, None)
        reached = [x + c for c, x in enumerate(expected)]
        expected = [float(mirrored(x, 0.0, 3.0)) for x in reached]
        ages = [age + 1 if 0 <= x <= 3 else 0 for age, x in zip(ages, reached, strict=True)]
        seen.update(ages)
        each = torch.tensor(expected).reshape(6, *(1,) * len(shape)).expand(6, *shape)
        assert torch.equal(state.position, each)
        assert torch.equal(state.inner.position, each)
        assert torch.equal(state.inner.deep.square, each**2)
        assert state.age.tolist() == ages, "read through the wrapper's state"
        assert torch.equal(info.lp, -math.prod(shape) * torch.tensor(reached)), "of the inner step"
    assert seen == {0, 1, 2, 3, 4}
    assert isinstance(state.inner.deep, Deep)


def test_init_projects():
    wrapper, x = Projected(Counter(), low=0.0, high=1.0), torch.tensor([[-3.0, 0.5], [2.0, 0.25]])
    state = wrapper.init(None, x, None)
    assert state.position.tolist() == state.inner.position.tolist() == [[0.0, 0.5], [1.0, 0.25]]
    assert state.inner.deep.square.tolist() == [[0.0, 0.25], [1.0, 0.0625]]


def test_the_inner_samplers_abilities_are_the_wrappers():
    wrapper, inner = Projected(Projected(Counter(), low=0.0), high=9.0), Counter()
    assert all(isinstance(wrapper, protocol) for protocol in OPTIONAL)
    for name in ("needs", "support", "ensemble_size", "keep", "reduce"):
        assert getattr(wrapper, name) == getattr(inner, name)
    plain = Projected(Shift(), low=0.0)
    assert not any(isinstance(plain, protocol) for protocol in OPTIONAL)
    assert not any(isinstance(dataclasses.replace(wrapper, sampler=Shift()), protocol) for protocol in OPTIONAL)


def test_it_is_a_value_and_its_state_can_be_copied():
    wrapper = Projected(Counter(), low=0.0, how="reflect")
    again = pickle.loads(pickle.dumps(wrapper))
    assert again == wrapper == copy.deepcopy(wrapper)
    assert again.keep == ("age",)
    state = wrapper.init(None, torch.ones(2, 1), None)
    for other in (copy.deepcopy(state), pickle.loads(pickle.dumps(state))):
        assert torch.equal(other.age, state.age)
    assert not hasattr(state, "momentum")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "`low` or `high` must be set; got neither. Give"),
        ({"low": 1.0, "high": 1.0}, "`low` must be < `high`; got 1.0 and 1.0. Exchange"),
        ({"low": 2.0, "high": 1.0, "how": "reflect"}, "`low` must be < `high`; got 2.0 and 1.0. Exchange"),
        ({"low": math.nan, "high": 1.0}, "`low` must be < `high`; got nan and 1.0. Exchange"),
    ],
)
def test_bounds_are_checked(settings, message):
    with pytest.raises(SettingsError) as caught:
        Projected(Shift(), **settings)
    assert str(caught.value).startswith(message)


def test_settings_carry_descriptions():
    fields = {field.name: field for field in dataclasses.fields(Projected)}
    assert list(fields) == ["sampler", "low", "high", "how"]
    assert all(field.metadata["description"] for field in fields.values())
    assert fields["sampler"].default is dataclasses.MISSING
