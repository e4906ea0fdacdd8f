from __future__ import annotations

import dataclasses
import itertools
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebmcore_schedules.constant import Constant
from ebmcore_schedules.cosine import Cosine
from ebmcore_schedules.exponential import Exponential
from ebmcore_schedules.linear import Linear

RAMPS = [Linear, Cosine, Exponential]
ANY = st.floats(-1e300, 1e300)
POSITIVE = st.floats(1e-300, 1e300)


@pytest.mark.parametrize("schedule", RAMPS)
@given(data=st.data(), steps=st.integers(2, 400), warmup=st.integers(0, 20))
def test_the_ends_are_exact_and_it_is_monotone_between(schedule, data, steps, warmup):
    values = POSITIVE if schedule is Exponential else ANY
    start, end = data.draw(values), data.draw(values)
    path = [schedule(start, end)(step, steps) for step in range(-warmup, steps)]
    assert path[: warmup + 1] == [start] * (warmup + 1), "through the warmup and at step 0"
    assert path[-1] == end
    assert schedule(start, end)(steps + 5, steps) == end
    pairs = list(itertools.pairwise(path))
    assert all(a <= b for a, b in pairs) if start <= end else all(a >= b for a, b in pairs)
    assert all(type(value) is float for value in path)


@pytest.mark.parametrize("schedule", RAMPS)
def test_long_stages_are_monotone_too(schedule):
    path = [schedule(0.1, 0.3)(step, 1_000_000) for step in itertools.chain(range(2000), range(998_000, 1_000_000))]
    assert all(a <= b for a, b in itertools.pairwise(path))


@pytest.mark.parametrize("schedule", RAMPS)
def test_a_stage_of_one_step_is_at_its_start(schedule):
    assert schedule(2.0, 1.0)(0, 1) == 2.0


@pytest.mark.parametrize("step", [0, 1, 5, 10])
def test_the_values_between_are_the_equations(step):
    f = step / 10
    assert Linear(3.0, 1.0)(step, 11) == pytest.approx(3 - 2 * f, rel=1e-14)
    assert Cosine(3.0, 1.0)(step, 11) == pytest.approx(1 + (1 + math.cos(math.pi * f)), rel=1e-14)
    assert Exponential(3.0, 0.01)(step, 11) == pytest.approx(3 * (0.01 / 3) ** f, rel=1e-13)


def test_exponential_goes_by_equal_factors():
    path = [Exponential(1e-3, 10.0)(step, 30) for step in range(30)]
    factor = 1e4 ** (1 / 29)
    assert all(b / a == pytest.approx(factor, rel=1e-12) for a, b in itertools.pairwise(path))


@given(value=ANY, step=st.integers(-100, 100), steps=st.integers(1, 100))
def test_constant_is_constant(value, step, steps):
    assert Constant(value)(step, steps) == value


@pytest.mark.parametrize("schedule", [Constant, *RAMPS])
def test_settings_carry_descriptions_and_schedules_are_values(schedule):
    fields = dataclasses.fields(schedule)
    assert all(field.metadata["description"] for field in fields)
    assert all((field.metadata.get("gt") == 0) == (schedule is Exponential) for field in fields)
    one = schedule(*(1.0 for _ in fields))
    assert pickle.loads(pickle.dumps(one)) == one
