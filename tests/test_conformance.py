"""Every first-party plugin passes the conformance kit, and the kit is used as its page says."""

from __future__ import annotations

import tomllib

import pytest
import torch

import ebmcore as ebm
from ebmcore.cli import main
from ebmcore.registry import default
from ebmcore.settings_examples import examples
from ebmcore.testing import (
    ConformanceError,
    Pair,
    check,
    energy,
    kind_of,
    model_checks,
    noise,
    outcomes,
    pairs,
    parametrize_with_checks,
    sampler_checks,
)
from ebmcore.testing.running import OWN
from tests.documents import ROOT
from tests.mutants.models import Quadratic
from tests.mutants.reducers import Mean
from tests.mutants.samplers import MALA, ULA, AcceptsAll, StandsStill

SLOW = {"inductor", "numba", "conv", "npy", "processes", "torchebm_hmc"}
"""Plugins that compile or write much."""

NO_GPU = {"triton"} if not torch.cuda.is_available() else set()

GIVEN = {"torchebm": {"model": "DoubleWellModel"}}
"""Settings of plugins whose types do not say what suits."""

APART = {"import_is_light", "processes"}
"""Checks that start processes."""

LONG_CHECKS = {*APART, "serial_and_threads", "resumes", "in_a_run", "any_blocks"}
"""Checks of which a seed changes little."""

SEEDS = range(20)


def first_party():
    for project in [ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]:
        found = tomllib.loads(project.read_text())["project"]
        for group, entries in found.get("entry-points", {}).items():
            kind = group.removeprefix("ebmcore.").removesuffix("s")
            yield from ((found["name"], kind, name) for name in entries if name not in NO_GPU)


OURS = list(first_party())


def made(home, kind, name):
    target = default().load(kind, f"{name}@{home}").target
    table = next(iter(examples(target, subject=name, plugin=OWN.get)))
    for each in examples(target, subject=name, plugin=OWN.get):
        try:
            return default().build(kind, {"use": f"{name}@{home}", **each, **GIVEN.get(name, {})}).object
        except ebm.SettingsError:
            continue
    raise AssertionError(table)


def failures(checks, without=()):
    checks = (pair for pair in checks if pair.check.name not in without)
    return [f"{each.check.name}: {each.text}" for each in outcomes(checks) if each.state == "failed"]


@pytest.mark.parametrize(("home", "kind", "name"), [each for each in OURS if each[2] not in SLOW])
def test_first_party_plugins_pass(home, kind, name):
    assert not failures(pairs(kind, made(home, kind, name)), without=APART)


@pytest.mark.long
@pytest.mark.parametrize(("home", "kind", "name"), [each for each in OURS if each[2] in SLOW])
def test_first_party_plugins_that_take_time_pass(home, kind, name):
    assert not failures(pairs(kind, made(home, kind, name)), without=APART)


@pytest.mark.long
@pytest.mark.parametrize(("home", "kind", "name"), OURS)
def test_first_party_plugins_pass_in_other_processes(home, kind, name):
    assert not failures(pair for pair in pairs(kind, made(home, kind, name)) if pair.check.name in APART)


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
def test_no_right_plugin_fails_by_chance(seed):
    # What depends on the seed in earnest: samplers against laws, and the others where that is cheap.
    failed = []
    for home, kind, name in OURS:
        if name not in SLOW and kind in ("sampler", "model", "reducer", "noise"):
            failed += failures(pairs(kind, made(home, kind, name), seed=seed), without=LONG_CHECKS)
    for sampler in (ULA(), MALA(), MALA(step_size=1.0)):
        failed += failures(sampler_checks(sampler, seed=seed), without=LONG_CHECKS)
    assert not failed


# ------------------------------------------------------------------------------- the kit itself


@parametrize_with_checks([Quadratic()], seeds=(0, 1))
def test_parametrize_runs_each_check_of_each_seed(obj, check):
    check(obj)


def test_check_returns_what_passed_and_was_skipped():
    found = check(Quadratic())
    assert {each.state for each in found} == {"passed", "skipped"}
    assert all(each.text for each in found if each.state == "skipped")
    assert check("reducer", Mean())[0].check.name == "accumulators"


def test_check_names_every_failure_with_rule_sight_and_mend():
    with pytest.raises(ConformanceError) as caught:
        check(AcceptsAll())
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("checks of sampler AcceptsAll failed:")
    (moments,) = [line for line in lines if line.startswith("  gaussian_moments: ")]
    assert "must keep exp(-U/T) as it is; got variance" in moments
    assert "standard errors" in moments
    assert "Check the acceptance ratio" in moments


def test_a_class_is_made_with_the_first_settings_that_suit():
    (first, *_) = pairs("sampler", ebm.load("sampler", "ula"))
    assert first.object == ebm.load("sampler", "ula")(step_size=0.01)


@pytest.mark.parametrize(("home", "kind", "name"), OURS)
def test_kinds_are_told_apart(home, kind, name):
    assert kind_of(made(home, kind, name)) == kind


def test_what_is_no_plugin_is_refused():
    with pytest.raises(ebm.InputError, match="must be a plugin; got an int"):
        check(3)
    with pytest.raises(ebm.InputError, match="must be one of sampler, model"):
        pairs("smapler", ULA())


def test_each_pair_is_an_object_and_a_check():
    found = list(model_checks(Quadratic(), shape=(3,)))
    assert all(isinstance(each, Pair) and each.object == Quadratic() for each in found)
    assert {"gradient", "shapes"} <= {each.check.name for each in found}
    assert all(each.check.rule.endswith(".") for each in found)


def test_a_models_condition_reaches_its_checks():
    def shifted(x, *, centre):
        return 0.5 * (x - centre[:, None]).square().sum(-1)

    found = {
        each.check.name: each.state for each in outcomes(model_checks(shifted, condition={"centre": torch.arange(3.0)}))
    }
    assert found["conditions_count"] == found["gradient"] == found["chains_are_independent"] == "passed"


def test_checks_leave_threads_and_randomness_alone():
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    list(outcomes(pair for pair in sampler_checks(StandsStill()) if pair.check.name not in APART))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_noise_and_energy_are_those_of_a_run():
    class Noting(ULA):
        def step(self, energy, state, noise):
            seen.append((noise.t, noise.normal(state.position), energy.gradient(state.position)))
            return state, None

    seen: list = []
    ebm.sample(Quadratic(), Noting(), init=torch.ones(70, 3), steps=3, seed=7, noise="reference", executor="serial")
    bound = energy(Quadratic(), 3)
    for t, z, g in seen[-3:]:
        assert torch.equal(noise(7, 70, t).normal(torch.empty(70, 3)), z)
        assert torch.equal(bound.gradient(torch.ones(70, 3)), g)


# ------------------------------------------------------------------------------- from the shell


def test_the_command_prints_each_check_and_counts_them(capsys):
    assert main(["plugins", "check", "sampler:ula", "--set", "step_size=0.1"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("sampler 'ula' (ebmcore-langevin 0.1.0) with step_size = 0.1\n  passed  shapes\n")
    assert "  skipped  binary_frequencies: its support is not binary\n" in printed
    assert printed.endswith("next: ebmcore run FILE.toml\n")


FILE = '''
from dataclasses import dataclass, field
from typing import NamedTuple
from torch import Tensor

class State(NamedTuple):
    position: Tensor

@dataclass(frozen=True)
class Loud:
    """Twice the noise."""
    step_size: float = field(metadata={"gt": 0, "description": "length of a step"})

    def init(self, energy, position, noise):
        return State(position)

    def step(self, energy, state, noise):
        x, g = state.position, energy.gradient(state.position)
        return State(noise.perturb_(x, 2 * self.step_size**0.5, drift=g, drift_scale=-self.step_size)), None
'''


def test_a_failure_is_said_and_the_exit_code_is_1(tmp_path, monkeypatch, capsys):
    (tmp_path / "loud.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", "check", "./loud.py:Loud"]) == 1
    printed = capsys.readouterr().out
    assert "  failed  gaussian_moments: the law of Loud must tend to exp(-U/T)" in printed
    assert printed.endswith("next: mend it, then ebmcore plugins check ./loud.py:Loud\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nope"], "error: no plugin is named 'nope'."),
        (["ula", "--set", "step_size=-1"], "error: `step_size` must be > 0; got -1."),
        (
            ["ula", "--set", "step=1"],
            "error: `step` is not a setting of sampler 'ula' (ebmcore-langevin 0.1.0). Did you mean `step_size`?",
        ),
        (["ula", "--kind", "writer"], "error: no writer is named 'ula': 'ula' is a sampler, not a writer."),
    ],
)
def test_what_cannot_be_checked_is_a_line_and_exit_code_2(words, message, capsys):
    assert main(["plugins", "check", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1
