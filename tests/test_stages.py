"""Runs of several stages: the same chains under one sampler after the other, each with draws of its own."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import ebmcore as ebm
from ebmcore.cli import main

FILE = """\
[model]
use = "double_well"
dim = 2

[[stage]]
sampler = {use = "ula", step_size = 0.02}
steps = 200

[[stage]]
sampler = {use = "mala", step_size = 0.05}
steps = 300
draws = 100
warmup = 30

[run]
chains = 500
seed = 3
"""

ULA = ebm.use("ula", step_size=0.01)
STILL = ebm.use("ula", step_size=1e-9, noise_std=0.0)


def run(stages, **settings):
    arguments = {"chains": 300, "seed": 4, **settings}
    return ebm.sample(ebm.use("double_well", dim=2), list(stages), **arguments)


def arrays(result):
    """Return every array of every stage that kept draws, by stage and name."""
    found = {}
    for number, stage in enumerate(result.stages):
        try:
            names = stage.layout.arrays
        except ebm.InputError:
            continue
        found |= {(number, name): stage.read(name) for name in names}
    return found


def assert_same(one, two):
    first, second = arrays(one), arrays(two)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


# -------------------------------------------------------------------------------- from a file


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    (folder / "two.toml").write_text(FILE)
    assert main(["run", str(folder / "two.toml"), "--quiet"]) == 0
    return folder


def test_a_file_of_ula_then_mala_runs_and_keeps_the_draws_of_the_second(ran):
    result = ebm.open_run(ran / "runs" / "two")
    assert np.load(result.path / "data/npy/draws.npy").shape == (500, 100, 2)
    first, second = result.stages
    assert (first.sampler["use"], second.sampler["use"]) == ("ula", "mala")
    with pytest.raises(ebm.InputError, match="stage 0 must keep draws to be read; got draws=0"):
        _ = first.draws
    assert second.draws.shape == result.draws.shape == (500, 100, 2)
    manifest = json.loads((result.path / "manifest.json").read_text())
    assert [record["name"] for record in manifest["plugins"] if record["kind"] == "sampler"] == ["ula", "mala"]


def test_each_stage_has_the_statistics_of_its_own_sampler(ran):
    first, second = ebm.open_run(ran / "runs" / "two").stages
    assert "acceptance_rate" in second.stats
    assert second.stats["acceptance_rate"].shape == (500, 100)
    assert 0.5 < float(second.stats["acceptance_rate"].mean()) < 1.0
    with pytest.raises(ebm.InputError, match="must keep draws"):
        list(first.stats)


def test_the_second_stage_samples_the_target(ran):
    # The second moment of exp(-2 (x^2 - 1)^2) by quadrature. Chains are independent, so the standard error is that of
    # their 500 means a coordinate; a ULA stage that leaked into the draws would be off by its bias alone, a start
    # that was not forgotten by more.
    x = np.linspace(-4, 4, 20_001)
    weight = np.exp(-2 * (x**2 - 1) ** 2)
    exact = float((x**2 * weight).sum() / weight.sum())
    means = ebm.open_run(ran / "runs" / "two").draws.double().square().mean(1).flatten()
    assert abs(float(means.mean()) - exact) < 5 * float(means.std()) / len(means) ** 0.5


@pytest.mark.parametrize(
    "more",
    [
        ["engine.executor=serial"],
        ["engine.executor={use = 'threads', workers = 3}", "engine.chunk_size=64"],
        ["engine.chunk_size=192"],
        ["engine.devices=['cpu:0', 'cpu:1']", "engine.chunk_size=128"],
    ],
    ids=lambda more: more[0].partition(".")[2],
)
def test_the_file_gives_the_same_bytes_on_any_workers_and_chunks(ran, tmp_path, more):
    sets = [word for override in more for word in ("--set", override)]
    assert main(["run", str(ran / "two.toml"), *sets, "--out", str(tmp_path / "run"), "--quiet"]) == 0
    files = sorted(file.relative_to(tmp_path / "run") for file in (tmp_path / "run/data").rglob("*.npy"))
    assert len(files) > 1
    for file in files:
        assert (tmp_path / "run" / file).read_bytes() == (ran / "runs/two" / file).read_bytes(), file


# ----------------------------------------------------------------------------------- in Python


def test_stages_that_keep_draws_are_each_read_from_their_own_folder(tmp_path):
    mala = ebm.use("mala", step_size=0.1)
    stages = [ebm.Stage(ULA, 20, draws=2, warmup=3), ebm.Stage(mala, 9, draws=3), ebm.Stage(ULA, 8, draws=8)]
    result = run(stages, out=tmp_path / "run")
    assert [tuple(stage.draws.shape) for stage in result.stages] == [(300, 2, 2), (300, 3, 2), (300, 8, 2)]
    assert np.load(tmp_path / "run/data/npy/0/draws.npy").shape == (300, 2, 2)
    assert np.load(tmp_path / "run/data/npy/1/draws.npy").shape == (300, 3, 2)
    assert np.load(tmp_path / "run/data/npy/draws.npy").shape == (300, 8, 2)
    assert_same(ebm.open_run(tmp_path / "run"), result)
    assert [len(stage.stats) > 0 for stage in result.stages] == [False, True, False]


def test_a_stage_begins_where_the_one_before_ended():
    stages = [ebm.Stage(ULA, 30, draws=1), ebm.Stage(STILL, 5, draws=5)]
    first, second = run(stages).stages
    for draw in range(5):
        # A step of 1e-9 without noise moves a position by less than its rounding.
        torch.testing.assert_close(second.draws[:, draw], first.final, rtol=0, atol=1e-6)


def test_two_stages_of_one_sampler_are_one_run_cut_in_two():
    # t runs on: the second stage has the noise that the whole run has there. ULA has no state beside its position.
    whole = run([ebm.Stage(ULA, 50, draws=50)])
    cut = run([ebm.Stage(ULA, 20, draws=20), ebm.Stage(ULA, 30, draws=30)])
    assert torch.equal(cut.stages[0].draws, whole.draws[:, :20])
    assert torch.equal(cut.stages[1].draws, whole.draws[:, 20:])


def test_noise_is_not_repeated_from_stage_to_stage():
    # Unit noise and next to no drift: a stage's increments are its noise.
    walk = ebm.use("ula", step_size=1e-12, noise_std=1.0)
    flat = ebm.use("gaussian", dim=2)
    result = ebm.sample(flat, [ebm.Stage(walk, 4, draws=4), ebm.Stage(walk, 4, draws=4)], chains=300, seed=1)
    first, second = (stage.draws.double() for stage in result.stages)
    before = first.diff(dim=1).flatten()
    after = torch.cat([second[:, :1] - first[:, -1:], second.diff(dim=1)], 1)[:, 1:].flatten()
    # The product of two independent standard normals has standard deviation 1; noise that is repeated gives 1.
    assert abs(float((before * after).mean())) < 5 / len(before) ** 0.5


@pytest.mark.parametrize("chunk_size", [64, 128, 300])
@pytest.mark.parametrize("executor", ["serial", ebm.use("threads", workers=3)], ids=["serial", "threads"])
def test_every_stage_has_the_same_bits_on_any_workers_and_chunks(chunk_size, executor):
    stages = [ebm.Stage(ULA, 12, draws=3), ebm.Stage(ebm.use("mala", step_size=0.1), 10, draws=5, warmup=4)]
    one = run(stages, executor="serial")
    assert_same(run(stages, executor=executor, chunk_size=chunk_size), one)


def test_the_moments_of_the_summary_are_those_of_the_last_stage():
    result = run([ebm.Stage(ULA, 10, draws=10), ebm.Stage(ULA, 10, draws=5)])
    exact = result.draws.double().mean((0, 1))
    torch.testing.assert_close(torch.tensor(result.summary()["mean"], dtype=torch.float64), exact)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "a list of stages must have at least one"),
        ([ebm.Stage(ULA, 10)], "`draws` of the last stage must be >= 1, or the run keeps nothing; got 0. Set draws=1"),
        (
            [ebm.Stage(ULA, 10, draws=3), ebm.Stage(ULA, 4, draws=1)],
            "`draws` must divide `steps`.*got draws=3, steps=10",
        ),
        ([ebm.Stage(ULA, 0), ebm.Stage(ULA, 4, draws=1)], "`steps` must be a whole number >= 1; got 0"),
        ([ebm.Stage(ULA, 4, draws=1, warmup=-1)], "`warmup` must be a whole number >= 0; got -1"),
        ([ebm.Stage("ulla", 4, draws=1)], "no sampler is named 'ulla'"),
        ([ULA], "a list in place of a sampler must hold stages; got dict"),
    ],
)
def test_wrong_stages_have_their_message(stages, message):
    with pytest.raises(ebm.InputError, match=message):
        run(stages)


@pytest.mark.parametrize("argument", ["steps", "draws", "warmup"])
def test_steps_draws_and_warmup_belong_to_the_stages(argument):
    with pytest.raises(ebm.InputError, match="must be left out beside a list of stages"):
        run([ebm.Stage(ULA, 10, draws=1)], **{argument: 2})
