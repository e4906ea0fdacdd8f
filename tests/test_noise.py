"""Random numbers: the cipher, the layout of the elements, distributions, independence, the bookkeeping of calls.

Tolerances of statistical tests are 5 standard errors, or a p-value of 6e-7, which is the same;
the seeds are fixed, so that a test that passes once passes always.
"""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ebmcore.errors import InputError, RunError, SamplerError
from ebmcore.noise import INIT, MINIBATCH, STEP, TUNE, CounterNoise, check_seed
from ebmcore.protocols import Key
from ebmcore.reference import Reference, threefry, threefry_words

FIVE_SIGMA = 6e-7
KEY = Key((7, 0), 0, 0)
M32 = 2**32 - 1
Kind = Literal["normal", "uniform"]
words32 = st.integers(0, M32)
repeatable = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads of torch that wait for a busy core cost these small operations fivefold."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noise(seed=7, chains=range(8), *, dtype=torch.float32, stream=STEP, t=0, step=0, steps=10, backend=None):
    backend = backend or Reference()
    device = torch.device("cpu")
    return CounterNoise(backend, seed, chains, dtype=dtype, device=device, stream=stream, t=t, step=step, steps=steps)


def fill(shape, chains, kind: Kind = "normal", key=KEY, dtype=torch.float32):
    return Reference().fill_(torch.empty(shape, dtype=dtype), kind, key, chains)


# ---------------------------------------------------------------- the definition again, on Python's integers and floats


@cache
def oracle_words(k0, k1, c0, c1):
    """Threefry-2x32-20 as Random123's paper lists it: round by round, a key injected after each fourth."""
    keys = [k0, k1, 0x1BD11BDA ^ k0 ^ k1]
    a, b = (c0 + k0) % 2**32, (c1 + k1) % 2**32
    for round_ in range(20):
        turn = [13, 15, 26, 6, 17, 29, 16, 24][round_ % 8]
        a = (a + b) % 2**32
        b = ((b * 2**turn) % 2**32 + b // 2 ** (32 - turn)) ^ a
        if round_ % 4 == 3:
            s = (round_ + 1) // 4
            a, b = (a + keys[s % 3]) % 2**32, (b + keys[(s + 1) % 3] + s) % 2**32
    return a, b


def oracle(key, chain, d, e, kind, dtype):
    """One number, in float64; a float32 normal before its last rounding."""
    k = oracle_words(*key.seed, key.t, key.call)
    pair, lane = divmod(chain * d + e, 2)
    words = oracle_words(*k, pair % 2**32, pair // 2**32)
    if kind == "uniform":
        return (words[lane] // 256) / 2**24
    real = np.float32 if dtype is torch.float32 else np.float64
    u0, u1 = (float(real(real(w) * real(2.0**-32) + real(2.0**-33))) for w in words)
    wave = math.sin if lane else math.cos
    return math.sqrt(-2 * math.log(u0)) * wave(2 * math.pi * u1)


def assert_is_oracle(out, key, chains, kind):
    """Uniforms to the bit; normals within 1 ulp of float32, 4 of float64 (another library's log and cos).

    1e-15 is added where cos or sin is near 0: the rounding of 2 pi u alone is worth 4e-16 there.
    """
    n = len(out)
    rows = out.reshape(n, -1).numpy()
    d = rows.shape[1]
    expected = np.array([[oracle(key, int(c), d, e, kind, out.dtype) for e in range(d)] for c in chains])
    if kind == "uniform":
        np.testing.assert_array_equal(rows, expected)
    else:
        ulp = np.abs(np.spacing(expected.astype(rows.dtype))).astype(np.float64)
        allowed = (1 if out.dtype is torch.float32 else 4) * ulp + 1e-15
        assert (np.abs(rows - expected) <= allowed).all()


# ---------------------------------------------------------------------------------------------------------- the cipher

KNOWN = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((M32, M32), (M32, M32), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]


def as_pairs(counters):
    return torch.from_numpy(np.array([c0 + (c1 << 32) for c0, c1 in counters], dtype=np.uint64).view(np.int64))


def as_words(w0, w1):
    return [(int(a) & M32, int(b) & M32) for a, b in zip(w0, w1, strict=True)]


@pytest.mark.parametrize(("key", "counter", "words"), KNOWN)
def test_random123s_known_answers(key, counter, words):
    assert threefry(key, counter) == words
    assert as_words(*threefry_words(key, as_pairs([counter]))) == [words]
    assert oracle_words(*key, *counter) == words


@repeatable
@given(st.tuples(words32, words32), st.lists(st.tuples(words32, words32), min_size=1, max_size=40))
def test_the_cipher_on_any_key_and_counter(key, counters):
    expected = [oracle_words(*key, *counter) for counter in counters]
    assert [threefry(key, counter) for counter in counters] == expected
    assert as_words(*threefry_words(key, as_pairs(counters))) == expected


# ---------------------------------------------------------------------------------------------- which number goes where

SHAPES = [(), (1,), (2,), (3,), (5, 1), (3, 4, 4), (1, 3, 3)]
FIRST = [0, 1, 7, 2**31 - 1, 2**32 - 2, 2**40 + 5, 2**48 + 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("first", FIRST)
def test_elements_are_where_the_definition_puts_them(first, shape, kind, dtype):
    key = Key((0x89ABCDEF, 0x01234567), 2**32 - 1, (3 << 24) + 17)
    chains = range(first, first + 5)
    out = fill((5, *shape), chains, kind, key, dtype)
    assert_is_oracle(out, key, chains, kind)
    assert torch.equal(fill((5, *shape), torch.tensor(chains), kind, key, dtype), out)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_normals_against_the_definition(dtype):
    # Enough words that their rounding to float32 goes either way and ends at every exponent from 2**-12 on.
    key = Key((11, 0), 5, 1)
    assert_is_oracle(fill((5000, 3), range(5000), "normal", key, dtype), key, range(5000), "normal")


@pytest.mark.parametrize("first", [2**62, 2**63 - 3])
def test_the_last_ids_that_fit_in_64_bits(first):
    key, d = Key((1, 2), 3, 4), 3 if first == 2**62 else 2
    out = fill((2, d), range(first, first + 2), "uniform", key)
    assert_is_oracle(out, key, range(first, first + 2), "uniform")
    assert torch.equal(fill((2, d), torch.tensor([first, first + 1]), "uniform", key), out)


def test_ids_beyond_64_bits_are_refused():
    with pytest.raises(InputError, match=r"must stay <= 2\*\*64; got ids up to 9223372036854775809 times 3\."):
        fill((1, 3), range(2**63, 2**63 + 1))


@repeatable
@given(
    st.integers(0, 2**48), st.sampled_from(SHAPES), st.lists(st.integers(0, 150), min_size=1, max_size=6), st.booleans()
)
def test_any_split_of_the_chains_gives_the_same_bits(first, shape, sizes, as_tensor):
    n = sum(sizes)
    whole = fill((n, *shape), range(first, first + n))
    ends = [first, *itertools.accumulate(sizes, initial=first)][1:]
    pieces = [range(lo, hi) for lo, hi in itertools.pairwise(ends)]
    made = [fill((len(p), *shape), torch.tensor(p, dtype=torch.int64) if as_tensor else p) for p in pieces]
    assert torch.equal(torch.cat(made), whole)


@repeatable
@given(st.lists(st.integers(0, 2**50), min_size=1, max_size=30), st.sampled_from(SHAPES))
def test_ids_in_any_order_and_repeated(ids, shape):
    out = fill((len(ids), *shape), torch.tensor(ids))
    rows = [fill((1, *shape), range(c, c + 1)) for c in ids]
    assert torch.equal(out, torch.cat(rows))


def test_a_range_with_a_step_is_its_ids():
    assert torch.equal(fill((5, 3), range(3, 18, 3)), fill((18, 3), range(18))[3::3])


@pytest.mark.parametrize("d", [1, 3, 4])
def test_a_request_of_many_blocks_is_its_pieces(d):
    n = 300_001
    whole = fill((n, d), range(5, 5 + n))
    cuts = [0, 1, 64, 99_999, 200_000, n]
    pieces = [fill((hi - lo, d), range(5 + lo, 5 + hi)) for lo, hi in itertools.pairwise(cuts)]
    assert torch.equal(torch.cat(pieces), whole)
    assert torch.equal(fill((n, d), torch.arange(5, 5 + n)), whole)


def test_a_chain_wider_than_a_block():
    d = 300_001
    assert torch.equal(fill((2, d), torch.tensor([4, 3])), fill((2, d), range(3, 5)).flip(0))


def test_the_number_of_threads_changes_no_bit():
    before = torch.get_num_threads()
    made = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            made.append(fill((100_003, 3), range(100_003), dtype=torch.float64))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])


def test_strides_of_the_output_do_not_matter():
    out = torch.full((6, 4), -9.0).t()[:, ::2]
    assert not out.is_contiguous()
    assert Reference().fill_(out, "normal", KEY, range(4)) is out
    assert torch.equal(out, fill((4, 3), range(4)))


@pytest.mark.parametrize("shape", [(0, 2), (3, 0)])
def test_nothing_asked_nothing_made(shape):
    assert fill(shape, range(shape[0])).shape == shape
    assert fill(shape, torch.arange(shape[0])).shape == shape


def test_t_may_be_a_tensor():
    for t in (0, 5, 2**32 - 1):
        key = Key((M32, M32 // 2), t, (MINIBATCH << 24) + 9)
        held = key._replace(t=torch.tensor(t))
        assert torch.equal(fill((9, 3), range(9), key=held), fill((9, 3), range(9), key=key))


def test_uniforms_do_not_depend_on_the_dtype():
    low, high = (fill((1000, 3), range(1000), "uniform", dtype=dtype) for dtype in (torch.float32, torch.float64))
    assert torch.equal(low.double(), high)


# ------------------------------------------------------------------------------------------------------- distributions

BIG = 2**21


@pytest.mark.parametrize("d", [1, 2, 3])
def test_uniforms_are_uniform(d):
    u = fill((BIG // d, d), range(BIG // d), "uniform", dtype=torch.float64).view(-1).numpy()
    k = u * 2**24
    assert (k == np.floor(k)).all()
    assert 0 <= u.min() < 20 / len(u)
    assert 1 - 20 / len(u) < u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > FIVE_SIGMA
    for shift in (0, 8, 16):  # each byte of the 24 bits by itself: a chi-square on 255 degrees of freedom
        counts = np.bincount(k.astype(np.int64) >> shift & 255, minlength=256)
        assert FIVE_SIGMA < stats.chisquare(counts).pvalue < 1 - FIVE_SIGMA


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_normals_are_normal(d, dtype):
    z = fill((BIG // d, d), range(BIG // d), dtype=dtype).view(-1).double().numpy()
    n = len(z)
    assert stats.kstest(z, "norm").pvalue > FIVE_SIGMA
    # E[z**k] and the variance of z**k: 1, 3 - 1, 15, 105 - 9
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - mean) < 5 * math.sqrt(variance / n)
    for far, beyond in ((z > 3, stats.norm.sf(3)), (z < -3, stats.norm.sf(3)), (np.abs(z) > 4, 2 * stats.norm.sf(4))):
        assert abs(far.sum() - n * beyond) < 5 * math.sqrt(n * beyond)
    assert np.abs(z).max() < math.sqrt(2 * 33 * math.log(2)) + 1e-6  # the smallest u is 2**-33


# -------------------------------------------------------------------------------------------------------- independence

ROWS = 2**18


def column(e=0, *, seed=7, t=0, call=0, stream=STEP, lo=0, kind: Kind = "normal"):
    """Element `e` of 6 for 2**18 chains: one sample of that size."""
    key = Key((seed & M32, seed >> 32), t, (stream << 24) + call)
    return fill((ROWS, 6), range(lo, lo + ROWS), kind, key, torch.float64)[:, e].numpy()


OTHERS = {
    "chains": {"lo": 1},
    "chains 64 apart": {"lo": 64},
    "chains 2**32 apart": {"lo": 2**32},
    "lanes of a pair": {"e": 1},
    "neighbouring pairs": {"e": 2},
    "far pairs": {"e": 5},
    "steps": {"t": 1},
    "steps 2**16 apart": {"t": 2**16},
    "calls": {"call": 1},
    "step and init": {"stream": INIT},
    "step and tune": {"stream": TUNE},
    "step and minibatch": {"stream": MINIBATCH},
    "seeds s and s+1": {"seed": 8},
    "seeds 2**32 apart": {"seed": 7 + 2**32},
    "seed and step exchanged": {"seed": 0, "t": 7},
}


@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_numbers_for_different_things_are_independent(other, kind):
    a, b = column(kind=kind), column(kind=kind, **other)
    bound = 5 / math.sqrt(ROWS)
    for f, g in itertools.product((lambda x: x, np.square, np.abs), repeat=2):
        assert abs(np.corrcoef(f(a), g(b))[0, 1]) < bound


def test_the_two_lanes_of_a_pair_fill_the_plane_evenly():
    # Box-Muller gone wrong shows in the joint law: the angle is uniform, and exp(-r**2 / 2) is.
    z = fill((BIG, 2), range(BIG), dtype=torch.float64).numpy()
    angle = np.arctan2(z[:, 1], z[:, 0]) / (2 * np.pi) % 1
    assert stats.kstest(angle, "uniform").pvalue > FIVE_SIGMA
    assert stats.kstest(np.exp(-(z**2).sum(1) / 2), "uniform").pvalue > FIVE_SIGMA


# ------------------------------------------------------------------------------------------------------------- perturb_

N = 40
FACTORS = {
    "float": lambda shape: 0.7,
    "int": lambda shape: 2,
    "one a chain": lambda shape: torch.linspace(0.1, 2.0, shape[0]),
    "column": lambda shape: torch.linspace(-1.0, 1.0, shape[0]).view(-1, *(1,) * (len(shape) - 1)),
    "same for all chains": lambda shape: torch.linspace(0.2, 0.9, math.prod(shape[1:])).view(1, *shape[1:]),
    "whole": lambda shape: torch.linspace(-2.0, 2.0, math.prod(shape)).view(shape),
}


def by_hand(x, scale, z, decay, drift, drift_scale):
    """The update in numpy, where no product is fused with a sum."""

    def array(factor):
        if not isinstance(factor, torch.Tensor):
            return x.numpy().dtype.type(factor)
        return factor.numpy().reshape(-1, *(1,) * (x.ndim - 1)) if factor.ndim == 1 else factor.numpy()

    moved = array(decay) * x.numpy()
    if drift is not None:
        moved = moved + array(drift_scale) * drift.numpy()
    return moved + array(scale) * z.numpy()


@pytest.mark.parametrize("shape", [(N,), (N, 3), (N, 1, 2, 5)])
@pytest.mark.parametrize("which", ["scale", "decay", "drift_scale"])
@pytest.mark.parametrize("factor", FACTORS.values(), ids=FACTORS)
def test_perturb_is_its_formula(factor, which, shape):
    x, drift = (torch.sin(torch.arange(math.prod(shape)) * a).view(shape) for a in (1.3, 0.7))
    factors = {"scale": 0.3, "decay": 0.9, "drift_scale": -0.01, which: factor(shape)}
    z = noise(chains=range(N)).normal(x)
    expected = by_hand(x, factors["scale"], z, factors["decay"], drift, factors["drift_scale"])
    scale = factors.pop("scale")
    out = noise(chains=range(N)).perturb_(x, scale, drift=drift, **factors)
    assert out is x
    np.testing.assert_array_equal(x.numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_perturb_without_drift_or_decay(dtype):
    x = torch.linspace(-1, 1, 3 * N, dtype=dtype).view(N, 3)
    z = noise(chains=range(N)).normal(x)
    expected = by_hand(x, 0.3, z, 1.0, None, 0.0)
    np.testing.assert_array_equal(noise(chains=range(N)).perturb_(x, 0.3).numpy(), expected)


def test_a_float64_factor_is_rounded_to_the_positions_dtype():
    x, factor = torch.ones(N, 3), torch.full((N,), 0.1, dtype=torch.float64)
    out = noise(chains=range(N)).perturb_(x.clone(), factor, decay=factor)
    assert torch.equal(out, noise(chains=range(N)).perturb_(x.clone(), 0.1, decay=0.1))


@pytest.mark.parametrize("piece", [64, 192, 512])
@pytest.mark.parametrize("shape", [(), (3,), (2,)])
def test_perturb_in_pieces_is_perturb_in_one(shape, piece):
    n = 1000
    x, drift = (torch.sin(torch.arange(n * math.prod(shape)) * a).view(n, *shape) for a in (1.3, 0.7))
    step = torch.linspace(0.001, 0.1, n)

    def moved(lo, hi):
        rows = slice(lo, hi)
        at = noise(chains=range(lo, hi), t=3)
        return at.perturb_(x[rows].clone(), step[rows], decay=0.9, drift=drift[rows], drift_scale=step[rows])

    pieces = [moved(lo, min(lo + piece, n)) for lo in range(0, n, piece)]
    assert torch.equal(torch.cat(pieces), moved(0, n))


# --------------------------------------------------------------------------------------- calls, views, streams, steps


class Recording:
    """A backend that notes what it is asked for."""

    devices = ("cpu",)

    def __init__(self):
        self.asked = []

    def fill_(self, out, kind, key, chains, /):
        self.asked.append((key, list(chains)))
        return out.zero_()

    def perturb_(self, x, scale, key, chains, /, *, decay=1.0, drift=None, drift_scale=0.0):
        self.asked.append((key, list(chains)))
        return x


def test_a_call_is_numbered_within_its_step_and_stream():
    backend, x = Recording(), torch.zeros(3, 2)
    at = noise((9 << 32) + 5, range(4, 7), stream=TUNE, t=10, step=-2, backend=backend)
    at.normal(x), at.uniform(x), at.perturb_(x, 1.0), at.uniform_per_chain(), at.shared(2)
    at.advance(11, -1)
    at.normal(x)
    numbers = [(TUNE << 24) + call for call in (0, 1, 2, 3, 4, 0)]
    assert [key for key, _ in backend.asked] == [
        Key((5, 9), t, number) for t, number in zip([10] * 5 + [11], numbers, strict=True)
    ]
    assert [chains for _, chains in backend.asked] == [[4, 5, 6]] * 4 + [[0]] + [[4, 5, 6]]


def test_every_call_gives_other_numbers():
    x, at = torch.zeros(8, 3), noise()
    made = [at.normal(x), at.normal(x), at.perturb_(torch.zeros(8, 3), 1.0)]
    for a, b in itertools.combinations(made, 2):
        assert not (a == b).any()


def test_a_step_repeats_itself_and_no_other():
    x, at = torch.zeros(8, 3), noise(t=4)
    first = at.normal(x)
    at.advance(5, 1)
    assert not (at.normal(x) == first).any()
    at.advance(4, 0)
    assert torch.equal(at.normal(x), first)


def test_step_and_t_follow_advance_in_every_view():
    at = noise(t=4, step=-1, steps=30)
    views = [at, at.select(torch.tensor([1])), at.expand(2)]
    assert [(v.t, v.step, v.steps) for v in views] == [(4, -1, 30)] * 3
    at.advance(5, 0)
    assert [(v.t, v.step, v.steps) for v in views] == [(5, 0, 30)] * 3


def test_select_follows_the_chains_and_repeats_them():
    x, index = torch.zeros(8, 3), torch.tensor([5, 0, 5, 7])
    whole = noise(chains=range(100, 108)).normal(x)
    out = noise(chains=range(100, 108)).select(index).normal(x[index])
    assert torch.equal(out, whole[index])
    mask = torch.arange(8) % 3 == 0
    assert torch.equal(noise(chains=range(100, 108)).select(mask).normal(x[mask]), whole[mask])
    none = torch.zeros(0, dtype=torch.int64)
    assert noise().select(none).normal(x[none]).shape == (0, 3)


@pytest.mark.parametrize("chains", [range(3, 6), torch.tensor([3, 4, 5])], ids=["range", "tensor"])
def test_expand_and_select_compose(chains):
    def ids(view):
        backend.asked.clear()
        view.uniform_per_chain()
        return backend.asked[0][1]

    backend = Recording()
    at = noise(chains=chains, backend=backend)
    assert ids(at.expand(2)) == [6, 7, 8, 9, 10, 11]  # row c*k + j has id chain*k + j
    assert ids(at.expand(2).select(torch.tensor([5, 0, 0]))) == [11, 6, 6]
    assert ids(at.select(torch.tensor([2, 0, 0])).expand(2)) == [10, 11, 6, 7, 6, 7]
    assert ids(at.select(torch.tensor([2, 0])).select(torch.tensor([1]))) == [3]
    assert ids(at.expand(2).expand(3)) == list(range(18, 36))


def test_views_count_calls_together():
    backend = Recording()
    at = noise(backend=backend)
    wide, one = at.expand(4), at.select(torch.tensor([3]))
    for view in (at, wide, one, wide.select(torch.tensor([0])), at):
        view.uniform_per_chain()
    assert [key.call for key, _ in backend.asked] == [0, 1, 2, 3, 4]


def test_a_fork_is_another_stream_with_its_own_count():
    x, at = torch.zeros(8, 3), noise(t=6, step=2, steps=9)
    before = at.normal(x)
    fork = at.fork(MINIBATCH)
    assert (fork.t, fork.step, fork.steps) == (6, 2, 9)
    assert torch.equal(fork.normal(x), noise(t=6, stream=MINIBATCH).normal(x))
    fork.advance(7, 3)
    assert (at.t, at.step) == (6, 2)
    again = noise(t=6)
    assert torch.equal(before, again.normal(x))
    assert torch.equal(at.normal(x), again.normal(x))


def test_shared_numbers_are_the_same_whichever_chains_ask():
    ask = [noise(chains=c) for c in (range(8), range(1000, 1064), torch.tensor([5, 5, 2]))]
    ask.append(noise().expand(3))
    made = [at.shared(5) for at in ask]
    for u in made:
        assert torch.equal(u, made[0])
    assert made[0].shape == (5,)
    assert not (ask[0].shared(5) == made[0]).any()


def test_dtypes_of_what_comes_back():
    at = noise(dtype=torch.float64)
    assert at.uniform_per_chain().dtype is at.shared(2).dtype is torch.float64
    assert at.uniform_per_chain().shape == (8,)
    for dtype in (torch.float32, torch.float64):
        x = torch.zeros(8, 2, dtype=dtype, requires_grad=True)
        for z in (at.normal(x), at.uniform(x)):
            assert (z.dtype, z.shape, z.requires_grad) == (dtype, (8, 2), False)


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1, np.int64(12)])
def test_seeds_that_are_seeds(seed):
    assert check_seed(seed) == int(seed)
    assert type(check_seed(seed)) is int


@pytest.mark.parametrize("seed", [-1, 2**63, True, False, 7.0, "7", None])
def test_seeds_that_are_none(seed):
    with pytest.raises(InputError, match=r"^`seed` must be an integer in \[0, 2\*\*63\); got .*\. Choose .*\.$") as got:
        check_seed(seed)
    assert repr(seed) in str(got.value)
    with pytest.raises(InputError, match="`seed` must"):
        noise(seed)


def test_all_bits_of_the_seed_count():
    made = {float(noise(seed).uniform_per_chain()[0]) for seed in (0, *(1 << bit for bit in range(63)))}
    assert len(made) == 64


@pytest.mark.parametrize("t", [-1, 2**32])
def test_t_ends_at_32_bits(t):
    with pytest.raises(RunError, match=rf"`t` must be in \[0, 2\*\*32\); got {t}\."):
        noise(t=t)
    with pytest.raises(RunError, match="`t` must"):
        noise().advance(t, 0)


def test_calls_end_at_24_bits():
    at = noise()
    at._clock.call = 2**24 - 1  # 16 million calls would take a quarter of a minute
    at.uniform_per_chain()
    with pytest.raises(RunError, match=r"must be < 2\*\*24"):
        at.uniform_per_chain()


@pytest.mark.parametrize(
    ("x", "got"),
    [
        (torch.zeros(8, 2, dtype=torch.float16), r"float16 \[8, 2\]"),
        (torch.zeros(8, dtype=torch.int64), r"int64 \[8\]"),
        (torch.zeros(7, 2), r"float32 \[7, 2\]"),
        (torch.zeros(()), r"float32 \[\]"),
    ],
)
def test_what_is_no_position_is_refused(x, got):
    at = noise()
    for call in (at.normal, at.uniform, lambda x: at.perturb_(x, 1.0)):
        with pytest.raises(SamplerError, match=rf"^what noise .* \(8\); got {got}\. .*\.$"):
            call(x)


@pytest.mark.parametrize("name", ["scale", "decay", "drift_scale"])
@pytest.mark.parametrize("factor", [torch.tensor(0.1), torch.ones(7), torch.ones(8, 2), torch.ones(7, 1, 1), "0.1"])
def test_factors_that_fit_no_chain_are_refused(name, factor):
    # [8, 2] against [8, 2, 2] would broadcast, along the wrong axes.
    x, factors = torch.zeros(8, 2, 2), {"scale": 1.0, name: factor}
    with pytest.raises(SamplerError, match=rf"^`{name}` of perturb_ must be a number"):
        noise().perturb_(x, factors.pop("scale"), drift=torch.ones(8, 2, 2), **factors)


def test_a_drift_of_another_make_is_refused():
    x = torch.zeros(8, 2)
    for drift, got in ((x, "x itself"), (torch.zeros(8, 1), r"float32 \[8, 1\]"), (x.double(), r"float64 \[8, 2\]")):
        with pytest.raises(SamplerError, match=rf"^`drift` of perturb_ .*; got {got}\. "):
            noise().perturb_(x, 1.0, drift=drift, drift_scale=0.1)
