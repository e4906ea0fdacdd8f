"""The gradient backend `mlp`: right to float32's own error, the same bits for every cut, NaN stays NaN."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import threading
from pathlib import Path

import llvmlite.binding as llvm
import pytest
import torch
from perceptrons import FORMS, Net, by_autograd, dimension, seeded
from torch import nn

import ebmcore as ebm
from ebmcore_kernels.mlp import MLP

CPU = torch.device("cpu")


def build(energy, d):
    return MLP().build(energy, (d,), torch.float32, CPU)


def positions(n, d, seed=1, scale=2.0):
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("form", FORMS)
def test_it_is_right_to_the_error_of_float32(form):
    """Against float64 autograd, where the energy has a module to convert; else against float32's.

    Eager float32 is held to the same: its error is of the same size. A unit within rounding of a kink
    may take either side: at most 1 % of the chains.
    """
    energy = seeded(FORMS[form])
    d = dimension(energy)
    both = build(energy, d)
    assert both is not None, "not recognised"
    x = positions(500, d)
    u, g = both(x)
    wanted_u, wanted_g = by_autograd(energy, x)
    if isinstance(energy, nn.Module):
        exact = by_autograd(copy.deepcopy(energy).double(), x.double())
        wanted_u, wanted_g = (each.float() for each in exact)
    assert u.shape == wanted_u.shape
    assert g.shape == x.shape
    torch.testing.assert_close(u, wanted_u, rtol=1e-5, atol=2e-6 * float(wanted_u.abs().max()))
    off = ((g - wanted_g).abs() > 1e-5 * wanted_g.abs().max()).any(1)
    assert int(off.sum()) <= 5


@pytest.mark.parametrize("form", ["selu", "gelu", "softplus", "odd widths"])
def test_the_bits_of_a_chain_do_not_depend_on_the_batch(form):
    energy = seeded(FORMS[form])
    d = dimension(energy)
    both = build(energy, d)
    x = positions(1000, d)
    u, g = both(x)
    for size in (1, 5, 63, 64, 65, 500):
        parts = [both(part) for part in x.split(size)]
        assert torch.equal(torch.cat([part[0] for part in parts]), u)
        assert torch.equal(torch.cat([part[1] for part in parts]), g)
    rows = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(both(x[rows])[1], g[rows])


def test_empty_and_strided_positions():
    both = build(seeded(Net), 2)
    assert [each.shape for each in both(torch.empty(0, 2))] == [(0,), (0, 2)]
    x = positions(100, 4)
    for own, wanted in zip(both(x[:, ::2]), both(x[:, ::2].contiguous()), strict=True):
        assert torch.equal(own, wanted)
    assert torch.equal(both(x.t()[:2].t())[1], both(x[:, :2].contiguous())[1])


@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("64 coordinates", "128 units")])
def test_nan_and_infinity_are_not_made_numbers(form):
    energy = seeded(FORMS[form])
    d = dimension(energy)
    both = build(energy, d)
    x = positions(64, d)
    x[3, 0], x[5, d - 1] = torch.nan, torch.nan
    u, g = both(x)
    wanted_u, _ = by_autograd(energy, x)
    assert torch.equal(u.isnan(), wanted_u.isnan())
    assert u[3].isnan()
    assert u[5].isnan()
    # A gradient of NaN positions: never finite where autograd has NaN.
    _, wanted_g = by_autograd(energy, x)
    assert not (g.isfinite() & wanted_g.isnan()).any()


@pytest.mark.parametrize("form", ["selu", "silu", "gelu", "gelu tanh", "softplus", "tanh", "elu"])
@pytest.mark.parametrize("scale", [1e2, 1e4, 1e8])
def test_far_away_it_is_what_torch_says(form, scale):
    energy = seeded(FORMS[form])
    x = positions(200, 2, scale=scale)
    for own, wanted in zip(build(energy, 2)(x), by_autograd(energy, x), strict=True):
        finite = wanted.isfinite()
        assert torch.equal(own.isfinite(), finite)
        torch.testing.assert_close(
            own[finite], wanted[finite], rtol=2e-5, atol=2e-6 * float(wanted[finite].abs().max())
        )


def test_nan_in_the_weights_shows():
    energy = seeded(Net)
    both = build(energy, 2)
    with torch.no_grad():
        energy.layers[2].weight[3, 4] = torch.nan
    assert both(positions(10, 2))[0].isnan().all()


def test_several_threads_may_call_it_at_once():
    energy = seeded(Net)
    both = build(energy, 2)
    parts = positions(8000, 2).split(500)
    wanted = [both(part) for part in parts]
    wrong = []

    def work():
        for _ in range(20):
            wrong.extend(
                1 for part, want in zip(parts, wanted, strict=True) if not all(map(torch.equal, both(part), want))
            )

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.parametrize(("d", "widths"), [(65, (8,)), (2, (129,)), (2, (8, 200, 8)), (2, ()), (2, (4,) * 16)], ids=str)
def test_what_gains_nothing_is_left_to_autograd(d, widths):
    assert build(seeded(lambda: Net(d, widths)), d) is None


def test_other_precisions_devices_and_shapes_are_not_taken():
    assert MLP().build(Net(), (2,), torch.float64, CPU) is None
    assert MLP().build(Net(), (2,), torch.float32, torch.device("cuda")) is None
    assert MLP().build(Net(), (1, 2), torch.float32, CPU) is None
    assert MLP().build(Net(), (), torch.float32, CPU) is None
    assert build(Net().double(), 2) is None
    assert build(Net().bfloat16(), 2) is None


def test_a_run_takes_it_by_itself_and_its_bits_do_not_depend_on_chunks():
    energy, ula = seeded(Net), ebm.use("ula", step_size=0.01)
    run = {"chains": 1000, "shape": (2,), "steps": 50, "seed": 3}
    result = ebm.sample(energy, ula, **run)
    assert result.provenance["gradient"] == "mlp"
    for size, devices in ((64, ["cpu"]), (320, ["cpu", "cpu"]), (1000, ["cpu:0"])):
        assert torch.equal(ebm.sample(energy, ula, chunk_size=size, devices=devices, **run).draws, result.draws)
    by_torch = ebm.sample(energy, ula, gradient="autograd", **run)
    torch.testing.assert_close(result.final, by_torch.final, rtol=0, atol=1e-4)


def test_mala_uses_its_values_too():
    """The law of the run, not its bits: acceptance within 5 standard errors, 0.005 for 4,000 chains."""
    energy, mala = seeded(Net), ebm.use("mala", step_size=0.1)
    run = {"chains": 4000, "shape": (2,), "steps": 60, "seed": 3}
    result = ebm.sample(energy, mala, **run)
    assert result.provenance["gradient"] == "mlp"
    other = ebm.sample(energy, mala, gradient="autograd", **run)
    rates = [float(each.stats["acceptance_rate"].mean()) for each in (result, other)]
    assert abs(rates[0] - rates[1]) < 0.025


def test_a_session_sees_new_weights():
    energy, ula = seeded(Net), ebm.use("ula", step_size=0.01)
    session, plain = (ebm.Session(energy, ula, seed=1, gradient=name) for name in ("mlp", "autograd"))
    x = positions(200, 2)
    optimizer = torch.optim.SGD(energy.parameters(), lr=0.5)
    for _ in range(4):
        after, wanted = session.run(x, 5), plain.run(x, 5)
        torch.testing.assert_close(after, wanted, rtol=0, atol=1e-5)
        (energy(x).mean() - energy(after).mean()).backward()
        optimizer.step()
        x = after


HASH = """
import hashlib, sys, torch
sys.path.insert(0, sys.argv[1])
from perceptrons import FORMS, dimension, seeded
from ebmcore_kernels.mlp import MLP

out = []
for name in ("selu", "gelu", "gelu tanh", "softplus", "silu", "tanh", "relu", "odd widths"):
    energy = seeded(FORMS[name])
    d = dimension(energy)
    both = MLP().build(energy, (d,), torch.float32, torch.device("cpu"))
    x = 2 * torch.randn(1000, d, generator=torch.Generator().manual_seed(0))
    whole = both(x)
    parts = [both(part) for part in x.split(63)]
    for i in range(2):
        assert torch.equal(whole[i], torch.cat([part[i] for part in parts])), name
        out.append(whole[i].numpy().tobytes())
print(hashlib.sha256(b"".join(out)).hexdigest())
"""

FEATURES = llvm.get_host_cpu_features()


@pytest.mark.long
@pytest.mark.skipif(not FEATURES.get("avx512vl"), reason="two of the targets have AVX-512")
def test_kinds_of_cpu_have_the_same_bits(tmp_path):
    def bits(cpu):
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / cpu), "NUMBA_CPU_NAME": cpu}
        words = [sys.executable, "-c", HASH, str(Path(__file__).parent)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert len({bits(cpu) for cpu in ("haswell", "skylake", "skylake-avx512", "x86-64-v4")}) == 1
