"""State that no recorded call shows: the energy is refused, or its change is noticed."""

from __future__ import annotations

import pytest
import torch
from perceptrons import by_autograd, seeded, stack
from torch import nn

from ebmcore_kernels.mlp import MLP

CPU = torch.device("cpu")
SETTINGS = {"k": 1.0}
NET = seeded(lambda: stack(2, (8,), nn.SELU))
X = 2 * torch.randn(100, 2, generator=torch.Generator().manual_seed(1))


class Called:
    def __call__(self, x):
        return NET(x)[:, 0] * SETTINGS["k"]


class Computed(nn.Module):
    def __getattr__(self, name):
        return SETTINGS["k"] if name == "scale" else super().__getattr__(name)

    def forward(self, x):
        return NET(x)[:, 0] * self.scale


class Operand:
    def __rmul__(self, other):
        return other * SETTINGS["k"]


OPERAND = Operand()


def swallows(x):
    try:
        scale = float(x.detach().max())
    except BaseException:
        scale = 1.0
    return NET(x)[:, 0] * scale


def by_globals(x):
    return NET(x)[:, 0] * globals()["SETTINGS"]["k"]


def with_default(x, *, k=1.0):
    return NET(x)[:, 0] * k


@pytest.mark.parametrize(
    "energy",
    [Called(), Computed(), swallows, by_globals, with_default, lambda x: NET(x)[:, 0] * OPERAND],
    ids=["called", "computed", "swallows", "globals", "default", "operand"],
)
def test_what_no_call_shows_is_noticed_or_refused(energy, monkeypatch):
    both = MLP().build(energy, (2,), torch.float32, CPU)
    if both is None:
        return
    torch.testing.assert_close(both(X), by_autograd(energy, X), rtol=1e-4, atol=1e-5)
    monkeypatch.setitem(SETTINGS, "k", 3.0)
    monkeypatch.setattr(with_default, "__kwdefaults__", {"k": 5.0})
    torch.testing.assert_close(both(X), by_autograd(energy, X), rtol=1e-4, atol=1e-5)
