"""The triton backend against the reference and, bit by bit, against numba: on a GPU, else under Triton's interpreter.

Without a GPU these are skipped here, and `test_triton_anywhere` runs this file again with TRITON_INTERPRET=1, which
has to be set before Triton is imported.
"""

from __future__ import annotations

import os

import numba
import pytest
import torch

import ebmcore as ebm
from ebmcore.protocols import Key
from ebmcore_kernels.intrinsics import fma
from ebmcore_kernels.numba_noise import Numba
from ebmcore_kernels.triton_noise import Triton

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
CUDA = torch.cuda.is_available() and not INTERPRETED
if not (INTERPRETED or CUDA):
    pytest.skip("without a GPU, test_triton_anywhere runs this file under the interpreter", allow_module_level=True)

import triton  # noqa: E402 - only where it runs
import triton.language as tl  # noqa: E402

from ebmcore_kernels import triton_kernels  # noqa: E402
from ebmcore_kernels.triton_variates import threefry  # noqa: E402

DEVICE = torch.device("cuda" if CUDA else "cpu")
NUMBA, TRITON = Numba(), Triton()
REFERENCE = ebm.load("noise", "reference")()
KEY = Key((7, 2**32 - 11), 2**32 - 5, (3 << 24) + 3)
DTYPES = (torch.float32, torch.float64)
FIRSTS = (0, 7, 2**32 - 64, 2**33 + 1, 2**40)
needs_cuda = pytest.mark.skipif(not CUDA, reason="needs a GPU")


@pytest.fixture(autouse=True, scope="module")
def rounded_once():
    """The interpreter's fma rounds twice; with one that rounds once, as a GPU's, bits can be compared."""
    with pytest.MonkeyPatch.context() as patch:
        if INTERPRETED:
            from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

            fused = numba.vectorize(["f4(f4,f4,f4)", "f8(f8,f8,f8)"])(lambda a, b, c: fma(a, b, c))

            def create_fma(self, a, b, c):
                return TensorHandle(fused(a.data, b.data, c.data), c.dtype.scalar)

            patch.setattr(InterpreterBuilder, "create_fma", create_fma)
        yield


def made(backend, kind, chains, shape, dtype=torch.float32, key=KEY):
    """What a backend makes, on the CPU; numba and the reference make it there too."""
    device = DEVICE if backend is TRITON else torch.device("cpu")
    ids = chains.to(device) if isinstance(chains, torch.Tensor) else chains
    out = torch.full((len(chains), *shape), torch.nan, dtype=dtype, device=device)
    return backend.fill_(out, kind, key, ids).cpu()


@triton.jit
def cipher(words, out):
    k0, k1 = tl.load(words).to(tl.uint32), tl.load(words + 1).to(tl.uint32)
    c0, c1 = tl.load(words + 2).to(tl.uint32), tl.load(words + 3).to(tl.uint32)
    x0, x1 = threefry(k0, k1, c0, c1)
    tl.store(out, x0.to(tl.int64))
    tl.store(out + 1, x1.to(tl.int64))


M32 = 2**32 - 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((0, 0, 0, 0), (0x6B200159, 0x99BA4EFE)),
        ((M32, M32, M32, M32), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344, 0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_random123s_known_answers(words, expected):
    out = torch.zeros(2, dtype=torch.int64, device=DEVICE)
    cipher[(1,)](torch.tensor(words, device=DEVICE), out)
    assert tuple(out.tolist()) == expected


@pytest.mark.parametrize(("d", "dtype"), [(1, torch.float32), (2, torch.float32), (3, torch.float64)])
@pytest.mark.parametrize("first", FIRSTS)
def test_uniforms_are_those_of_the_reference(d, dtype, first):
    chains = range(first, first + 700)
    truth = made(REFERENCE, "uniform", chains, (d,), dtype)
    assert torch.equal(made(TRITON, "uniform", chains, (d,), dtype), truth)
    ids = torch.tensor(chains).flip(0)
    assert torch.equal(made(TRITON, "uniform", ids, (d,), dtype), truth.flip(0))


@pytest.mark.parametrize("first", [0, 2**32 - 64, 2**40 + 1])
def test_normals_are_within_four_ulp_of_the_reference(first, monkeypatch):
    if INTERPRETED:
        monkeypatch.setattr(triton_kernels, "PAIRS", 1 << 14)  # it takes as long for a wide program as for a narrow one
    chains = range(first, first + 30_001)
    ours, truth = (made(backend, "normal", chains, (3,)) for backend in (TRITON, REFERENCE))
    ulp = (ours.view(torch.int32) - truth.view(torch.int32)).abs()
    # Where cos or sin crosses 0 the reference itself is off by 1e-16: there the distance is absolute.
    assert int(ulp[truth.abs() > 1e-6].max()) <= 4
    assert float((ours - truth).abs()[truth.abs() <= 1e-6].sum()) < 1e-12
    ours, truth = (made(backend, "normal", chains, (3,), torch.float64) for backend in (TRITON, REFERENCE))
    # The reference rounds 2 pi u in float64: an error of up to 4.4e-16, times a radius below 6.7.
    assert float((ours - truth).abs().max()) < 4e-15


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_bits_are_those_of_numba(dtype, d):
    x, g = torch.ones(600, d, dtype=dtype), torch.linspace(-1, 1, 600 * d, dtype=dtype).view(600, d)
    for drift in (g, None):
        factors = {"decay": 0.9, "drift_scale": -0.1 if drift is g else 0.0}
        expected = NUMBA.perturb_(x.clone(), 0.3, KEY, range(9, 609), drift=drift, **factors)
        drift = drift if drift is None else drift.to(DEVICE)
        ours = TRITON.perturb_(x.clone().to(DEVICE), 0.3, KEY, range(9, 609), drift=drift, **factors)
        assert torch.equal(ours.cpu(), expected)
    ours, expected = (made(backend, "normal", range(9, 609), (d,), dtype) for backend in (TRITON, NUMBA))
    assert torch.equal(ours, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (2,), (3, 1), (5,)])
def test_chains_in_any_order_and_repeated(dtype, shape):
    ids = [5, 2**33, 0, 5, 17, 2**50 + 1]
    rows = [made(TRITON, "normal", range(c, c + 1), shape, dtype) for c in ids]
    assert torch.equal(made(TRITON, "normal", torch.tensor(ids), shape, dtype), torch.cat(rows))
    every = made(TRITON, "normal", range(20), shape, dtype)
    assert torch.equal(made(TRITON, "normal", range(0, 20, 2), shape, dtype), every[::2])


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("cut", [1, 64, 500])
def test_any_cut_gives_the_same_bits(d, cut):
    whole = made(TRITON, "normal", range(7, 707), (d,))
    parts = [made(TRITON, "normal", chains, (d,)) for chains in (range(7, 7 + cut), range(7 + cut, 707))]
    assert torch.equal(torch.cat(parts), whole)


N = 21
FACTORS = {
    "float": lambda shape: 0.7,
    "int": lambda shape: 2,
    "one a chain": lambda shape: torch.linspace(0.1, 2.0, shape[0], dtype=torch.float64),
    "column": lambda shape: torch.linspace(-1.0, 1.0, shape[0]).view(-1, *(1,) * (len(shape) - 1)),
    "same for all chains": lambda shape: torch.linspace(0.2, 0.9, shape[-1]).view(*(1,) * (len(shape) - 1), -1),
    "whole": lambda shape: torch.linspace(-2.0, 2.0, shape[0] * shape[-1]).view(shape[0], *(1,) * (len(shape) - 2), -1),
}


@pytest.mark.parametrize("chains", [range(3, 3 + N), torch.arange(N).flip(0)], ids=["range", "ids"])
@pytest.mark.parametrize("which", ["scale", "decay", "drift_scale"])
@pytest.mark.parametrize("factor", FACTORS.values(), ids=FACTORS)
def test_the_update_is_its_formula(factor, which, chains):
    shape = (N, 2, 5)
    dtype = torch.float64 if which == "decay" else torch.float32
    x, g = (torch.sin(torch.arange(N * 10, dtype=dtype) * a).view(shape) for a in (1.3, 0.7))
    factors = {"scale": 0.3, "decay": 0.9, "drift_scale": -0.01, which: factor(shape)}
    asked = {"chains": chains, "drift": g, **factors}

    def moved(backend, device):
        on = {name: a.to(device) if isinstance(a, torch.Tensor) else a for name, a in asked.items()}
        start = x.clone().to(device)
        out = backend.perturb_(start, on.pop("scale"), KEY, on.pop("chains"), **on)
        assert out is start
        return out.cpu()

    ours, expected = moved(TRITON, DEVICE), moved(REFERENCE, "cpu")
    torch.testing.assert_close(ours, expected, rtol=0, atol=4e-6 if dtype == torch.float32 else 1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_factor_that_is_a_tensor_rounds_as_a_number_does(dtype):
    x, g = (torch.linspace(a, 2, 200, dtype=dtype, device=DEVICE).view(100, 2) for a in (-1, 1))
    numbers = TRITON.perturb_(x.clone(), 0.3, KEY, range(100), decay=0.9, drift=g, drift_scale=0.1)
    scale = torch.full((100,), 0.3, dtype=torch.float64, device=DEVICE)
    assert torch.equal(TRITON.perturb_(x.clone(), scale, KEY, range(100), decay=0.9, drift=g, drift_scale=0.1), numbers)
    plain = TRITON.perturb_(x.clone(), 0.3, KEY, range(100))
    assert torch.equal(TRITON.perturb_(x.clone(), scale, KEY, range(100)), plain)


@pytest.mark.parametrize("t", [0, 1, 5, 2**32 - 1])
def test_a_step_counter_in_memory_is_that_step(t):
    held = torch.tensor([t], device=DEVICE)
    for chains in (range(9), torch.arange(9)):
        expected = made(TRITON, "normal", chains, (3,), key=KEY._replace(t=t))
        assert torch.equal(made(TRITON, "normal", chains, (3,), key=KEY._replace(t=held)), expected)
    x = torch.ones(9, 3, device=DEVICE)
    expected = TRITON.perturb_(x.clone(), 0.3, KEY._replace(t=t), range(9))
    assert torch.equal(TRITON.perturb_(x, 0.3, KEY._replace(t=held[0]), range(9)), expected)


def test_memory_outside_is_not_touched():
    for chains in (range(1, 34), torch.arange(1, 34, device=DEVICE)):
        room = torch.zeros(300, device=DEVICE)
        TRITON.fill_(room[100:199].view(33, 3), "normal", KEY, chains)
        assert bool((room[100:199] != 0).all())
        assert not room[:100].any()
        assert not room[199:].any()


def test_strides_do_not_matter():
    x, g = torch.ones(4, 50, 2, device=DEVICE), torch.arange(400.0, device=DEVICE).view(50, 2, 4)
    packed, drift = torch.ones(50, 4, device=DEVICE), g[:, 0]
    TRITON.perturb_(packed, 0.3, KEY, range(50), drift=drift.contiguous(), drift_scale=0.1)
    spread = x.permute(1, 0, 2)[..., 1]
    assert TRITON.perturb_(spread, 0.3, KEY, range(50), drift=drift, drift_scale=0.1) is spread
    assert torch.equal(spread, packed)
    assert torch.equal(x[..., 0], torch.ones(4, 50, device=DEVICE))
    assert TRITON.fill_(spread, "normal", KEY, range(50)) is spread
    assert torch.equal(spread.cpu(), made(TRITON, "normal", range(50), (4,)))


@pytest.mark.parametrize("shape", [(0, 2), (3, 0)])
def test_nothing_asked_nothing_made(shape):
    for chains in (range(shape[0]), torch.arange(shape[0])):
        assert TRITON.fill_(torch.empty(shape), "normal", KEY, chains).shape == shape
        assert TRITON.perturb_(torch.empty(shape), 1.0, KEY, chains).shape == shape


def test_ids_beyond_the_counter_are_refused():
    with pytest.raises(ebm.InputError, match="must stay < 2"):
        made(TRITON, "normal", range(2**62, 2**62 + 4), (2,))


@needs_cuda
def test_a_captured_graph_goes_on_with_the_counter_in_memory():
    t = torch.zeros(1, dtype=torch.int64, device=DEVICE)
    x, g = torch.zeros(1000, 2, device=DEVICE), torch.ones(1000, 2, device=DEVICE)
    scale = torch.full((1000,), 0.3, device=DEVICE)

    def block(x):
        for call in range(3):
            TRITON.perturb_(x, 0.3, KEY._replace(t=t, call=call), range(1000), decay=0.9, drift=g, drift_scale=-0.1)
        TRITON.perturb_(x, scale, KEY._replace(t=t, call=3), range(1000), decay=0.9)
        t.add_(1)

    block(torch.zeros_like(x))  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        block(x)
    t.zero_(), x.zero_()
    for _ in range(5):
        graph.replay()
    captured = x.clone()
    t.zero_(), x.zero_()
    for _ in range(5):
        block(x)
    assert torch.equal(captured, x)
    assert int(t) == 5


@needs_cuda
def test_a_run_on_a_gpu_takes_it():
    result = ebm.sample(
        ebm.use("double_well"), ebm.use("ula", step_size=0.01), chains=1000, shape=(2,), steps=10, devices=["cuda"]
    )
    assert result.provenance["job"]["noise"] == "triton"
