"""A run that goes on ends with the bytes of one that was never disturbed, and refuses to be another run."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import ebmcore as ebm
from ebmcore import rundir
from ebmcore.cli import main

FILE = """\
[model]
use = "./well.py:Well"
height = 2.0
[[stage]]
sampler = {use = "ula", step_size = 0.02}
steps = 6
draws = 3
[[stage]]
sampler = {use = "mala", step_size = 0.1}
steps = 8
draws = 4
warmup = 2
[run]
chains = 500
shape = [2]
seed = 11
[engine]
chunk_size = 64
[[writer]]
use = "npy"
[[reducer]]
use = "moments"
covariance = true
"""

WELL = """\
class Well:
    def __init__(self, height: float = 1.0):
        self.height = height

    def __call__(self, x):
        return self.height * ((x**2 - 1) ** 2).sum(-1)
"""


def digests(run):
    return {str(file.relative_to(run)): file.read_bytes() for file in sorted(run.glob("data/**/*.npy"))}


def same(run, other):
    """Say whether two runs have the same arrays, reduced statistics and moments, to the bit."""
    kept = [json.loads((each / "summary.json").read_text()) for each in (run, other)]
    names = ("mean", "sd", "reduced", "chains", "draws", "seed")
    assert {name: kept[0][name] for name in names} == {name: kept[1][name] for name in names}
    assert digests(run) == digests(other)


@pytest.fixture
def job(tmp_path):
    (tmp_path / "well.py").write_text(WELL)
    (tmp_path / "job.toml").write_text(FILE)
    return tmp_path / "job.toml"


@pytest.fixture
def whole(job):
    assert main(["run", str(job), "--quiet", "--out", str(job.parent / "whole")]) == 0
    return job.parent / "whole"


def cut(whole, name="cut", keep=3, *, torn=0):
    """Copy a run as a kill would have left it after `keep` commits, with `torn` bytes of the next."""
    run = whole.with_name(name)
    shutil.copytree(whole, run)
    (run / "summary.json").unlink()
    lines = (run / "commits.jsonl").read_bytes().splitlines(keepends=True)
    lines.sort(key=lambda line: json.loads(line)["chunk"]["lo"])
    (run / "commits.jsonl").write_bytes(b"".join(lines[:keep]) + lines[keep][:torn])
    done = [(json.loads(line)["chunk"]["lo"], json.loads(line)["chunk"]["hi"]) for line in lines[:keep]]
    for file in run.glob("data/**/*.npy"):
        array = np.load(file, mmap_mode="r+")
        rest = np.ones(len(array), bool)
        for lo, hi in done:
            rest[lo:hi] = False
        array[rest] = np.nan if array.dtype.kind == "f" else 1
    return run


def resume(job, run, *more):
    return main(["run", str(job), "--out", str(run), "--resume", "--quiet", *more])


# ------------------------------------------------------------------------------ what is missing


@pytest.mark.parametrize(("keep", "torn"), [(0, 0), (1, 0), (3, 40), (7, 0)])
def test_only_what_is_missing_runs_and_the_end_is_the_same(job, whole, keep, torn):
    run = cut(whole, keep=keep, torn=torn)
    kept = (run / "commits.jsonl").read_bytes()[: -torn or None]
    assert resume(job, run) == 0
    same(run, whole)
    assert (run / "commits.jsonl").read_bytes().startswith(kept)
    assert len(rundir.read_log(run).commits) == 8
    assert json.loads((run / "summary.json").read_text())["resumed_at"] == min(500, 64 * keep)
    assert (run / "run.toml").read_text() == (whole / "run.toml").read_text()


def test_a_run_that_has_every_chunk_and_no_summary_is_ended(job, whole):
    run = cut(whole, keep=7)
    shutil.copy(whole / "commits.jsonl", run)
    for file in whole.glob("data/**/*.npy"):
        shutil.copy(file, run / file.relative_to(whole))
    assert resume(job, run) == 0
    same(run, whole)


@pytest.mark.parametrize(
    "engine",
    [
        'engine.executor="serial"',
        'engine.executor={use="threads", workers=3}',
        'engine.devices=["cpu:0", "cpu:1"]',
    ],
)
def test_another_executor_or_device_list_goes_on_with_it(job, whole, engine):
    run = cut(whole)
    assert resume(job, run, "--set", engine) == 0
    same(run, whole)


def test_the_seed_chunk_size_and_noise_that_were_chosen_are_kept(tmp_path):
    def sample(out, **settings):
        ula = ebm.use("ula", step_size=0.1)
        return ebm.sample("gaussian", ula, shape=2, chains=3000, steps=5, out=out, **settings)

    whole = sample(tmp_path / "whole", chunk_size=640, noise="reference", gradient="autograd")
    run = cut(whole.path, keep=2)
    again = sample(run, resume=True)
    assert again.seed == whole.seed
    assert again.provenance["plan"]["chunk_size"] == 640
    assert again.provenance["job"]["noise"] == "reference"
    assert again.provenance["job"]["gradient"] == "autograd"
    same(run, whole.path)


def test_a_finished_run_says_so_and_gives_its_result(job, whole, capsys):
    before = {file: file.read_bytes() for file in whole.rglob("*") if file.is_file() and file.name != "lock"}
    assert main(["run", str(job), "--out", str(whole), "--resume"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "this run had ended already: nothing was left to do"
    assert out[-1].startswith("next: ebmcore show")
    assert {file: file.read_bytes() for file in before} == before


def test_resume_where_nothing_is_begins(job, whole):
    assert resume(job, job.parent / "new") == 0
    same(job.parent / "new", whole)
    (job.parent / "empty").mkdir()
    assert resume(job, job.parent / "empty") == 0
    (job.parent / "mine").mkdir()
    (job.parent / "mine" / "thesis.tex").touch()
    assert resume(job, job.parent / "mine") == 2


def test_a_run_of_objects_goes_on_in_another_call(tmp_path):
    net = nn.Sequential(nn.Linear(3, 8), nn.SELU(), nn.Linear(8, 1), nn.Flatten(0))

    def sample(out, **settings):
        start = torch.linspace(-1, 1, 600).reshape(200, 3)
        ula = ebm.use("ula", step_size=0.1)
        return ebm.sample(net, ula, init=start, steps=4, seed=1, chunk_size=64, out=out, **settings)

    whole = sample(tmp_path / "whole")
    run = cut(whole.path, keep=2)
    assert torch.equal(sample(run, resume=True).final, whole.final)
    same(run, whole.path)


# ------------------------------------------------------------------------------- more chains


@pytest.mark.parametrize("first", [500, 512, 100, 64, 1])
@pytest.mark.parametrize("keep", [1, None])
def test_more_chains_extend_a_run(job, first, keep):
    whole, run = job.parent / "whole", job.parent / "run"
    more = ("--set", "run.chains=900")
    assert main(["run", str(job), "--quiet", "--out", str(whole), *more]) == 0
    assert main(["run", str(job), "--quiet", "--out", str(run), "--set", f"run.chains={first}"]) == 0
    if keep is not None:
        if first <= 64:
            pytest.skip("one chunk")
        run = cut(run, keep=keep)
    assert resume(job, run, *more) == 0
    same(run, whole)
    assert ebm.open_run(run).draws.shape == (900, 4, 2)
    # What was whole stays; a ragged end runs again within its chunk.
    resumed = json.loads((run / "summary.json").read_text())["resumed_at"]
    assert resumed == (first // 64 * 64 if keep is None else 64)


def test_more_chains_of_given_starts_extend_a_run(tmp_path):
    rows = torch.linspace(-1, 1, 1800).reshape(900, 2)

    def sample(out, chains, **settings):
        ula = ebm.use("ula", step_size=0.1)
        return ebm.sample(
            "gaussian", ula, init=rows[:chains], steps=4, seed=1, chunk_size=64, out=tmp_path / out, **settings
        )

    whole = sample("whole", 900)
    sample("run", 300)
    sample("run", 900, resume=True)
    same(tmp_path / "run", whole.path)
    rows = rows + 1
    with pytest.raises(ebm.InputError, match=r"run\.init \(its content changed\)"):
        sample("run", 900, resume=True)


def test_fewer_chains_are_refused(job, whole, capsys):
    assert resume(job, whole, "--set", "run.chains=400", "--accept-changes") == 2
    assert "must not become fewer; got 400 for" in capsys.readouterr().err


# ----------------------------------------------------------------------------- what has changed


def edited(job, text, by):
    job.write_text(job.read_text().replace(text, by))


CHANGES = {
    "step size": (lambda job: edited(job, "0.02", "0.01"), "stage 0 sampler.step_size (0.02 before, 0.01 now)"),
    "setting": (lambda job: edited(job, "height = 2.0\n", ""), "model.height (2.0 before, now not there)"),
    "seed": (lambda job: edited(job, "seed = 11", "seed = 12"), "run.seed (11 before, 12 now)"),
    "steps": (lambda job: edited(job, "steps = 8", "steps = 16"), "stage 1.steps (8 before, 16 now)"),
    "warmup": (lambda job: edited(job, "warmup = 2", "warmup = 3"), "stage 1.warmup (2 before, 3 now)"),
    "temperature": (lambda job: edited(job, "seed = 11", "seed = 11\ntemperature = 2.0"), "run.temperature (1.0 bef"),
    "start": (lambda job: edited(job, "seed = 11", 'seed = 11\ninit = "uniform"'), "run.init ('auto' before"),
    "chunks": (lambda job: edited(job, "chunk_size = 64", "chunk_size = 128"), "engine.chunk_size (64 before, 128"),
    "noise": (lambda job: edited(job, "[engine]", '[engine]\nnoise = "reference"'), "engine.noise ("),
    "source": (
        lambda job: (job.parent / "well.py").write_text(WELL.replace("- 1", "- 2")),
        "source of model well.py:Well (its content changed)",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_refused_and_named_and_can_be_accepted(job, whole, capsys, change):
    edit, named = CHANGES[change]
    run = cut(whole)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    edit(job)
    assert resume(job, run) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert named in err
    assert "--accept-changes" in err
    assert {file: file.read_bytes() for file in before} == before
    assert resume(job, run, "--accept-changes") == 0
    manifest = json.loads((run / "manifest.json").read_text())
    assert [entry["accepted"] for entry in manifest["resumed"]] != [[]]
    assert named.split(" (")[0] in manifest["resumed"][0]["accepted"][0]
    assert resume(job, run) == 0, "what was accepted is what the run is now"
    kept = digests(whole)
    for name, content in digests(run).items():
        assert content[: 128 + 64 * 8] == kept[name][: 128 + 64 * 8], "what was committed stays"


@pytest.mark.parametrize(
    ("text", "by"),
    [
        ("draws = 4", "draws = 8"),
        ("shape = [2]", "shape = [3]"),
        ("[engine]", '[engine]\nprecision = "float64"'),
        ('use = "npy"', 'use = "npy"\nname = "other"'),
        ('[[reducer]]\nuse = "moments"\ncovariance = true\n', ""),
    ],
)
def test_what_cannot_be_within_one_run_is_refused_whatever_is_accepted(job, whole, capsys, text, by):
    run = cut(whole)
    edited(job, text, by)
    assert resume(job, run, "--accept-changes") == 2
    assert "must store what it stored" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ebmcore-langevin", "ebmcore", "torch"])
def test_another_version_is_refused(job, whole, capsys, name):
    run = cut(whole)
    manifest = json.loads((run / "manifest.json").read_text())
    now = manifest["identity"][f"version of {name}"]
    manifest["identity"][f"version of {name}"] = "0.0.1"
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert resume(job, run) == 2
    assert f"version of {name} ('0.0.1' before, '{now}' now)" in capsys.readouterr().err


def test_other_weights_are_refused(tmp_path, capsys):
    torch.manual_seed(0)
    job = tmp_path / "job.toml"
    job.write_text(
        '[model]\nuse = "mlp"\ndim = 2\nhidden = [4]\nweights = "w.safetensors"\n[sampler]\nuse = "ula"\n'
        "step_size = 0.1\n[run]\nchains = 200\nsteps = 2\nseed = 1\n[engine]\nchunk_size = 64\n"
    )
    weights = ebm.load("model", "mlp")(dim=2, hidden=[4]).state_dict()
    save_file(weights, tmp_path / "w.safetensors")
    assert main(["run", str(job), "--quiet", "--out", str(tmp_path / "whole")]) == 0
    run = cut(tmp_path / "whole", keep=1)
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 1}, tmp_path / "w.safetensors")
    assert resume(job, run) == 2
    assert "content of model.weights (its content changed)" in capsys.readouterr().err
    save_file(weights, tmp_path / "w.safetensors")
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("job.toml", "w.safetensors", "cut"):
        (tmp_path / name).rename(moved / name)
    assert resume(moved / "job.toml", moved / "cut") == 0, "a folder that was moved as a whole is the same run"
    same(moved / "cut", tmp_path / "whole")


class Spring(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.k = nn.Parameter(torch.tensor(k))

    def forward(self, x):
        return self.k * (x**2).sum(-1)


@dataclass(frozen=True)
class Scaled:
    scale: float

    def init(self, energy, position, noise):
        return ebm.load("sampler", "ula")(step_size=self.scale).init(energy, position, noise)

    def step(self, energy, state, noise):
        return ebm.load("sampler", "ula")(step_size=self.scale).step(energy, state, noise)


def springs(k):
    module, number, rows = Spring(k), k, torch.full((3,), k)
    return {
        "module": module,
        "captured module": lambda x: module(x),
        "captured number": lambda x: number * (x**2).sum(-1),
        "captured tensor": lambda x: rows[0] * (x**2).sum(-1),
    }


@pytest.mark.parametrize("form", springs(1.0))
def test_an_object_is_known_by_its_weights_and_by_what_it_refers_to(tmp_path, form):
    def sample(k, **settings):
        ula = ebm.use("ula", step_size=0.1)
        return ebm.sample(springs(k)[form], ula, shape=2, chains=10, steps=2, seed=1, out=tmp_path / "run", **settings)

    first = sample(1.0)
    assert torch.equal(sample(1.0, resume=True).final, first.final)
    with pytest.raises(ebm.InputError, match=r"must be resumed as it was; got for .*: model object\."):
        sample(1.5, resume=True)


def test_code_and_settings_of_objects_are_compared(tmp_path):
    def sample(energy, scale=0.1, **settings):
        return ebm.sample(energy, Scaled(scale), shape=2, chains=10, steps=2, seed=1, out=tmp_path / "run", **settings)

    sample(lambda x: (x**2).sum(-1))
    sample(lambda x: (x**2).sum(-1), resume=True)
    with pytest.raises(ebm.InputError, match=r"model object\.code"):
        sample(lambda x: (x**4).sum(-1), resume=True)
    with pytest.raises(ebm.InputError, match=r"sampler object\.scale \(0\.1 before, 0\.2 now\)"):
        sample(lambda x: (x**2).sum(-1), 0.2, resume=True)


# ---------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resume": True}, "`out` must be set with `resume`"),
        ({"resume": True, "overwrite": True, "out": "run"}, "must be resumed or overwritten; got both"),
        ({"accept_changes": True, "out": "run"}, "changes must be accepted of a run that is resumed"),
    ],
)
def test_a_wrong_combination_is_refused(settings, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ebm.InputError, match=message):
        ebm.sample("gaussian", ebm.use("ula", step_size=0.1), shape=2, chains=10, steps=2, **settings)
    assert not Path("run").exists()


def test_a_path_that_holds_a_run_is_told_how_to_go_on(job, whole, capsys):
    assert main(["run", str(job), "--out", str(whole)]) == 2
    assert "(--resume)" in capsys.readouterr().err
