"""The numba backend against the reference: the same integers, close normals, one set of bits for every cut and CPU."""

from __future__ import annotations

import os
import subprocess
import sys

import llvmlite.binding as llvm
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ebmcore as ebm
from ebmcore.protocols import Key
from ebmcore_kernels.numba_noise import Numba

NUMBA = Numba()
REFERENCE = ebm.load("noise", "reference")()
KEY = Key((7, 11), 5, 3)
DTYPES = (torch.float32, torch.float64)
FIRSTS = (0, 7, 2**31 - 64, 2**32 - 64, 2**33 + 1, 2**40)


def filled(backend, kind, chains, d, dtype=torch.float32, key=KEY):
    return backend.fill_(torch.full((len(chains), d), torch.nan, dtype=dtype), kind, key, chains)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("first", FIRSTS)
def test_uniforms_are_those_of_the_reference(dtype, d, first):
    chains = range(first, first + 1500)
    assert torch.equal(filled(NUMBA, "uniform", chains, d, dtype), filled(REFERENCE, "uniform", chains, d, dtype))


@pytest.mark.parametrize("d", [1, 2, 3, 7])
@pytest.mark.parametrize("first", FIRSTS)
def test_normals_are_within_four_ulp_of_the_reference(d, first):
    chains = range(first, first + 100_001)
    ours, truth = filled(NUMBA, "normal", chains, d), filled(REFERENCE, "normal", chains, d)
    ulp = (ours.view(torch.int32) - truth.view(torch.int32)).abs()
    # Where cos or sin crosses 0 the reference itself is off by 1e-16: there the distance is absolute.
    assert int(ulp[truth.abs() > 1e-6].max()) <= 4
    assert float((ours - truth).abs()[truth.abs() <= 1e-6].sum()) < 1e-12


def test_float64_normals_are_the_references_to_its_own_error():
    # The reference rounds 2 pi u in float64: an error of up to 4.4e-16, times a radius below 6.7.
    chains = range(200_001)
    ours, truth = (filled(backend, "normal", chains, 3, torch.float64) for backend in (NUMBA, REFERENCE))
    assert float((ours - truth).abs().max()) < 4e-15


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_of_ids_give_the_numbers_of_their_chains(dtype):
    ids = torch.tensor([5, 2**33, 0, 5, 17])
    for d in (1, 2, 5):
        rows = filled(NUMBA, "normal", ids, d, dtype)
        for row, chain in zip(rows, ids.tolist(), strict=True):
            assert torch.equal(row, filled(NUMBA, "normal", range(chain, chain + 1), d, dtype)[0])
    assert torch.equal(
        filled(NUMBA, "normal", range(0, 20, 2), 3, dtype), filled(NUMBA, "normal", range(20), 3, dtype)[::2]
    )


@given(data=st.data(), d=st.integers(1, 9), n=st.integers(1, 5000), first=st.sampled_from(FIRSTS))
def test_any_cut_gives_the_same_bits(data, d, n, first):
    whole = filled(NUMBA, "normal", range(first, first + n), d)
    cut = data.draw(st.integers(0, n))
    parts = [
        filled(NUMBA, "normal", chains, d) for chains in (range(first, first + cut), range(first + cut, first + n))
    ]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("drift", [True, False])
def test_the_update_is_its_formula(dtype, drift):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1001, 3, dtype=dtype, generator=generator)
    g = torch.randn(1001, 3, dtype=dtype, generator=generator) if drift else None
    z = filled(NUMBA, "normal", range(1001), 3, dtype).double()
    exact = 0.9 * x.double() + 0.3 * z + (0 if g is None else -0.1 * g.double())
    moved = NUMBA.perturb_(x, 0.3, KEY, range(1001), decay=0.9, drift=g, drift_scale=-0.1 if drift else 0.0)
    assert moved is x
    torch.testing.assert_close(moved.double(), exact, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
def test_factors_may_be_one_a_chain_or_broadcast(dtype):
    x, g = torch.ones(6, 2, dtype=dtype), torch.full((6, 2), 2.0, dtype=dtype)
    scale, decay = torch.arange(6.0), torch.full((1, 2), 0.5)
    z = filled(NUMBA, "normal", range(6), 2, dtype)
    moved = NUMBA.perturb_(x.clone(), scale, KEY, range(6), decay=decay, drift=g, drift_scale=0.25)
    torch.testing.assert_close(moved, scale[:, None].to(dtype) * z + 0.5 * x + 0.25 * g)


def test_memory_outside_is_not_touched():
    room = torch.zeros(300)
    NUMBA.fill_(room[100:200].view(50, 2), "normal", KEY, range(50))
    assert torch.equal(room[:100], torch.zeros(100))
    assert torch.equal(room[200:], torch.zeros(100))
    assert (room[100:200] != 0).all()


def test_strided_positions_and_empty_ones():
    spread = torch.zeros(50, 4)
    NUMBA.fill_(spread[:, ::2], "normal", KEY, range(50))
    assert torch.equal(spread[:, ::2], filled(NUMBA, "normal", range(50), 2))
    assert NUMBA.fill_(torch.empty(0, 2), "normal", KEY, range(0)).shape == (0, 2)
    assert NUMBA.perturb_(torch.empty(0, 2), 1.0, KEY, range(0)).shape == (0, 2)


def test_a_step_counter_in_a_tensor_is_that_step():
    assert torch.equal(
        filled(NUMBA, "normal", range(9), 2, key=Key((7, 11), torch.tensor(5), 3)), filled(NUMBA, "normal", range(9), 2)
    )


def test_ids_beyond_the_counter_are_refused():
    with pytest.raises(ebm.InputError, match="must stay < 2"):
        filled(NUMBA, "normal", range(2**62, 2**62 + 4), 2)


HASH = """
import hashlib, torch
from ebmcore.protocols import Key
from ebmcore_kernels.numba_noise import Numba
from ebmcore_kernels.polynomial import Polynomial

class Well:
    slope = (0.1, -8.0, 0.3, 8.0, 0.01)
    def __call__(self, x):
        return x.sum(1)

out = []
for dtype in (torch.float32, torch.float64):
    for n, d, first in ((1000, 3, 0), (777, 1, 2**33 + 5), (64, 2, 7), (1, 1, 3)):
        x, g = torch.ones(n, d, dtype=dtype), torch.full((n, d), 0.3, dtype=dtype)
        for t in range(3):
            key = Key((3, 4), t, 0)
            Numba().perturb_(x, 0.7, key, range(first, first + n), decay=0.99, drift=g, drift_scale=-0.01)
        out.append(x.numpy().tobytes())
        # The same chains, one at a time: bodies of vectors and tails must agree.
        y = torch.ones(n, d, dtype=dtype)
        for t in range(3):
            for row in range(n):
                Numba().perturb_(
                    y[row : row + 1], 0.7, Key((3, 4), t, 0), range(first + row, first + row + 1),
                    decay=0.99, drift=g[row : row + 1], drift_scale=-0.01,
                )
        assert torch.equal(x, y), (dtype, n, d)
        # In strides, whole and one chain at a time.
        gradient = Polynomial().build(Well(), (d,), dtype, torch.device("cpu"))
        chains, factors = range(first, first + n), {"decay": 0.99, "drift_scale": -0.01}
        Numba().stride(gradient, chains, 0.1, **factors)(x, Key((3, 4), 3, 0), 5)
        out.append(x.numpy().tobytes())
        for row in range(n):
            one = range(first + row, first + row + 1)
            Numba().stride(gradient, one, 0.1, **factors)(y[row : row + 1], Key((3, 4), 3, 0), 5)
        assert torch.equal(x, y), (dtype, n, d)
print(hashlib.sha256(b"".join(out)).hexdigest())
"""


def bits_on(cpu, folder):
    """Return the hash of a CPU target; None is this CPU."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / str(cpu))}
    if cpu is not None:
        environment["NUMBA_CPU_NAME"] = cpu
    done = subprocess.run(
        [sys.executable, "-c", HASH], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FEATURES = llvm.get_host_cpu_features()


@pytest.mark.skipif(not FEATURES.get("avx2"), reason="the target is an x86 with AVX2")
def test_an_older_cpu_has_the_same_bits(tmp_path):
    assert bits_on("haswell", tmp_path) == bits_on(None, tmp_path)


@pytest.mark.long
@pytest.mark.skipif(not FEATURES.get("avx512vl"), reason="two of the targets have AVX-512")
def test_five_kinds_of_cpu_have_the_same_bits(tmp_path):
    targets = ("haswell", "x86-64-v3", "skylake", "skylake-avx512", "x86-64-v4")
    assert len({bits_on(cpu, tmp_path) for cpu in targets}) == 1
