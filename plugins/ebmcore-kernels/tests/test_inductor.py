"""The gradient backend `inductor`: right, sees new weights, compiled before the workers start."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn

import ebmcore as ebm
from ebmcore_kernels.inductor import Inductor

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(shutil.which("c++") is None and shutil.which("g++") is None, reason="no C++ compiler here"),
]

CPU = torch.device("cpu")


class Swish(nn.Module):
    """A network that no kernel of ours knows: a product of two hidden layers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.out = nn.Linear(3, 16), nn.Linear(3, 16), nn.Linear(16, 1)

    def forward(self, x):
        return self.out(torch.sin(self.a(x)) * self.b(x)).squeeze(-1) + x.square().sum(-1)


def by_autograd(energy, x):
    leaf = x.clone().requires_grad_(True)
    u = energy(leaf)
    return u.detach(), torch.autograd.grad(u.sum(), leaf)[0]


def test_it_is_autograd_for_any_number_of_chains_and_sees_new_weights():
    energy = Swish().requires_grad_(False)
    both = Inductor().build(energy, (3,), torch.float32, CPU)
    for scale in (1.0, 1.7):
        with torch.no_grad():
            energy.a.weight.mul_(scale)
        for n in (0, 1, 2, 63, 1000):
            x = torch.randn(n, 3, generator=torch.Generator().manual_seed(n))
            for own, wanted in zip(both(x), by_autograd(energy, x), strict=True):
                torch.testing.assert_close(own, wanted)


def test_a_run_names_it_and_says_what_it_took():
    energy, ula = Swish(), ebm.use("ula", step_size=0.01)
    run = {"chains": 500, "shape": (3,), "steps": 20, "seed": 1}
    result = ebm.sample(energy, ula, gradient="inductor", **run)
    assert result.provenance["gradient"] == "inductor"
    assert result.provenance["gradient_seconds"] > 0.1
    torch.testing.assert_close(result.final, ebm.sample(energy, ula, gradient="autograd", **run).final)
    assert ebm.sample(energy, ula, **run).provenance["gradient"] == "autograd"


def test_many_energies_of_one_process():
    for k in range(10):
        both = Inductor().build(lambda x, k=k: k * x.square().sum(-1), (2,), torch.float32, CPU)
        torch.testing.assert_close(both(torch.ones(5, 2))[1], torch.full((5, 2), 2.0 * k))


def test_what_cannot_be_compiled_is_refused_in_one_line():
    def branching(x):
        return x.square().sum(-1) if x[0, 0].item() < 1e9 else x.sum(-1)

    with pytest.raises(ebm.InputError, match="gradient backend 'inductor' must be able to compile the energy; got"):
        ebm.sample(branching, ebm.use("ula", step_size=0.01), gradient="inductor", chains=64, shape=(2,), steps=2)
