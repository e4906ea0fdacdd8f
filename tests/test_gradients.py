"""Where gradients come from: closed form, backends, autograd; a backend that is wrong changes no sample."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

import ebmcore as ebm
from ebmcore.cli import main
from ebmcore.registry.process import renew

plan = importlib.import_module("ebmcore.cli.plan")  # the package has a command of that name

RUN = {"chains": 200, "shape": (2,), "steps": 40, "seed": 3}
ULA = ebm.use("ula", step_size=0.01)


def quartic(x):
    return x.pow(4).sum(-1)


class Quartic(nn.Module):
    """An energy of a weight, that no kernel of ours knows."""

    def __init__(self):
        super().__init__()
        self.k = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return self.k * x.pow(4).sum(-1)


def values(energy, x):
    leaf = x.detach().requires_grad_(True)
    with torch.enable_grad():
        u = energy(leaf)
        return u.detach(), torch.autograd.grad(u.sum(), leaf)[0]


@dataclass(frozen=True)
class Exact:
    """Autograd by another name, which says when it is called."""

    calls: ClassVar[list[int]] = []

    def build(self, energy, shape, dtype, device):
        def both(x):
            self.calls.append(len(x))
            return values(energy, x)

        return both


@dataclass(frozen=True)
class Refusing:
    def build(self, energy, shape, dtype, device):
        return None


@dataclass(frozen=True)
class Wrong:
    def build(self, energy, shape, dtype, device):
        return lambda x: (values(energy, x)[0], 1.01 * values(energy, x)[1])


@dataclass(frozen=True)
class Raising:
    def build(self, energy, shape, dtype, device):
        raise KeyError("layer")


@dataclass(frozen=True)
class Compiling(Exact):
    compiles: ClassVar[bool] = True


@dataclass(frozen=True)
class Stale:
    """Copies the weight when it is built: right until it changes."""

    def build(self, energy, shape, dtype, device):
        k = energy.k.detach().clone()
        return lambda x: (k * x.pow(4).sum(-1), 4 * k * x.pow(3))


@pytest.fixture
def backend():
    """Register one gradient backend of this process."""
    renew()
    yield lambda target: ebm.register("gradient", "mine")(target)
    renew()
    Exact.calls.clear()


def test_auto_takes_an_installed_backend_that_agrees(backend):
    without = ebm.sample(quartic, ULA, **RUN)
    assert without.provenance["gradient"] == "autograd"
    backend(Exact)
    with_it = ebm.sample(quartic, ULA, **RUN)
    assert with_it.provenance["gradient"] == "mine"
    assert with_it.provenance["job"]["gradient"] == "mine"
    assert sum(Exact.calls) >= 200 * 40
    assert torch.equal(with_it.draws, without.draws)


def test_auto_prefers_the_closed_form(backend):
    backend(Exact)
    for model, sampler, source in (
        ("double_well", ebm.use("mala", step_size=0.01), "closed_form"),
        ("rastrigin", ULA, "closed_form"),
        ("double_well", ULA, "polynomial"),  # a compiled form of it
    ):
        assert ebm.sample(model, sampler, **RUN).provenance["gradient"] == source
    assert not Exact.calls


def test_autograd_in_place_of_a_closed_form(backend):
    closed = ebm.sample(ebm.use("double_well"), ULA, **RUN)
    auto = ebm.sample(ebm.use("double_well"), ULA, gradient="autograd", **RUN)
    assert auto.provenance["gradient"] == "autograd"
    torch.testing.assert_close(auto.draws, closed.draws)


def test_a_backend_that_compiles_is_used_only_when_it_is_named(backend):
    backend(Compiling)
    assert ebm.sample(quartic, ULA, **RUN).provenance["gradient"] == "autograd"
    named = ebm.sample(quartic, ULA, gradient="mine", **RUN)
    assert named.provenance["gradient"] == "mine"
    assert "gradient_seconds" in named.provenance


@pytest.mark.parametrize(
    ("target", "said"),
    [(Wrong, "gradients that differ from autograd's in [0-9]+ of 200 chains"), (Raising, "KeyError")],
)
def test_a_backend_nobody_named_is_left_out_when_it_is_wrong(backend, target, said):
    expected = ebm.sample(quartic, ULA, **RUN).draws
    backend(target)
    with pytest.warns(ebm.EbmcoreWarning, match=f"gradient backend 'mine' must agree .*{said}"):
        result = ebm.sample(quartic, ULA, **RUN)
    assert result.provenance["gradient"] == "autograd"
    assert torch.equal(result.draws, expected)


@pytest.mark.parametrize(
    ("target", "energy", "more", "said"),
    [
        (Wrong, quartic, {}, "got gradients that differ from autograd's"),
        (Refusing, quartic, {}, "got function, which it does not handle"),
        (Exact, lambda x, y: quartic(x) + y, {"condition": {"y": torch.zeros(200)}}, "got an energy with conditions"),
    ],
)
def test_a_backend_that_was_named_is_never_substituted(backend, target, energy, more, said):
    backend(target)
    with pytest.raises(ebm.InputError, match=f"gradient backend 'mine' must be able to take this energy; {said}"):
        ebm.sample(energy, ULA, gradient="mine", **RUN, **more)


def test_what_the_energy_does_not_have_is_refused():
    with pytest.raises(ebm.InputError, match="got 'closed_form', and it has none"):
        ebm.sample(quartic, ULA, gradient="closed_form", **RUN)

    class Score:
        def gradient(self, x):
            return x

    with pytest.raises(ebm.InputError, match="got 'autograd' for one without a value"):
        ebm.sample(Score(), ULA, gradient="autograd", **RUN)


def test_an_unknown_backend_is_named():
    with pytest.raises(ebm.PluginError, match="no gradient is named 'nlp'"):
        ebm.sample(quartic, ULA, gradient="nlp", **RUN)


def test_temperature_applies_to_a_backend(backend):
    backend(Exact)
    warm = ebm.sample(quartic, ULA, temperature=4.0, **RUN)
    assert warm.provenance["gradient"] == "mine"
    exact = ebm.sample(quartic, ULA, temperature=4.0, gradient="autograd", **RUN)
    assert torch.equal(warm.draws, exact.draws)


def test_a_session_sees_new_weights_through_a_backend(backend):
    backend(Exact)
    energy = Quartic()
    session, plain = (ebm.Session(energy, ULA, seed=1, gradient=name) for name in ("mine", "autograd"))
    x = y = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    for k in (1.0, 2.0, 0.5):
        with torch.no_grad():
            energy.k.fill_(k)
        x, y = session.run(x, 5), plain.run(y, 5)
        assert torch.equal(x, y)
    assert Exact.calls


def test_a_session_drops_a_backend_that_misses_new_weights(backend):
    backend(Stale)
    energy = Quartic()
    session, plain = (ebm.Session(energy, ULA, seed=1, gradient=name) for name in ("auto", "autograd"))
    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(session.run(x, 5), plain.run(x, 5))
    with torch.no_grad():
        energy.k.fill_(3.0)
    with pytest.warns(ebm.EbmcoreWarning, match="gradient backend 'mine' must agree with autograd"):
        after = session.run(x, 5)
    assert torch.equal(after, plain.run(x, 5))


def test_a_run_file_names_it(tmp_path):
    file = tmp_path / "job.toml"
    text = '[model]\nuse = "double_well"\n[sampler]\nuse = "ula"\nstep_size = 0.01\n[run]\nchains = 64\nsteps = 5\n'
    file.write_text(text + 'shape = [2]\n[engine]\ngradient = "autograd"\n')
    assert main(["run", str(file), "--quiet"]) == 0
    assert ebm.open_run(tmp_path / "runs" / "job").provenance["gradient"] == "autograd"
    assert 'gradient = "autograd"' in (tmp_path / "runs" / "job" / "run.toml").read_text()


@dataclass(frozen=True)
class Quick:
    """The closed form of `Slow`."""

    compiles: ClassVar[bool] = True

    def build(self, energy, shape, dtype, device):
        return lambda x: (x.square().sum(-1), 2 * x)


SLOW = """
class Slow:
    shape = (2,)

    def __call__(self, x):
        for _ in range(200):
            x = x + 0.0
        return x.square().sum(-1)
"""


@pytest.mark.parametrize(("long", "advised"), [(0.0, True), (1e9, False)])
def test_plan_measures_a_compiled_gradient_where_the_run_is_long(backend, tmp_path, monkeypatch, capsys, long, advised):
    backend(Quick)
    monkeypatch.setattr(plan, "LONG", long)
    monkeypatch.setattr(plan, "COMPILED", "mine")
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "job.toml").write_text(
        '[model]\nuse = "./slow.py:Slow"\n[sampler]\nuse = "ula"\nstep_size = 0.01\n[run]\nchains = 64\nsteps = 9999\n'
    )
    assert main(["plan", str(tmp_path / "job.toml")]) == 0
    assert ('advice       gradient = "mine" would take about' in capsys.readouterr().out) == advised


def test_a_long_run_by_autograd_names_the_plan(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.import_module("ebmcore.cli.run"), "LONG", 0.0)
    (tmp_path / "slow.py").write_text(SLOW)
    file = tmp_path / "job.toml"
    file.write_text(
        '[model]\nuse = "./slow.py:Slow"\n[sampler]\nuse = "ula"\nstep_size = 0.01\n[run]\nchains = 64\nsteps = 2\n'
    )
    assert main(["run", str(file)]) == 0
    assert f"gradients were autograd's: ebmcore plan {file} measures a compiled one" in capsys.readouterr().out
