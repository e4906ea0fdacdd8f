"""`ebmcore plan`: what it says is what `run` does; and the measurement behind its estimate."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import shlex
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import ebmcore as ebm
from ebmcore import measure, prepare, sampling
from ebmcore.cli import main
from ebmcore.protocols import Receipt

FILE = """\
[model]
use = "double_well"
dim = 2
[sampler]
use = "ula"
step_size = 0.01
[run]
chains = 1000
steps = 20
draws = 5
seed = 7
[engine]
devices = ["cpu", "cpu", "cpu"]
chunk_size = 300
"""

STAGES = """\
[model]
use = "gaussian"
dim = 3
[[stage]]
sampler = {use = "ula", step_size = 0.1}
steps = 10
draws = 2
[[stage]]
sampler = {use = "mala", step_size = 0.1}
steps = 30
draws = 10
warmup = 5
[run]
chains = 200
seed = 7
"""

GIB = 2**30


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "job.toml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    # Short probes: what is tested is what is said of them.
    monkeypatch.setattr(measure, "SHORT", 0.001)
    return tmp_path


def planned(capsys, *words):
    """Return the lines of a plan by their labels, and its first and last line."""
    assert main(["plan", "job.toml", *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    first, *rest, last = out.splitlines()
    lines = {}
    for line in rest:
        lines.setdefault(line[2:14].strip(), []).append(line[15:])
    return first, {label: " | ".join(texts) for label, texts in lines.items()}, last


def tree(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


# ------------------------------------------------------------------------------ what it says


def test_a_plan_writes_nothing_and_its_last_line_runs_as_planned(folder, capsys):
    before = tree(folder)
    first, lines, last = planned(capsys, "--set", "engine.executor=threads", "--out", "a dir/run")
    assert tree(folder) == before
    assert first == "double_well with ula: 1,000 chains x 20 steps, seed 7"
    command = shlex.split(last.removeprefix("next: ebmcore "))
    assert main([*command, "--quiet"]) == 0
    manifest = json.loads((folder / "a dir/run/manifest.json").read_text())
    assert lines["devices"] == "3 x cpu: as the run file says"
    assert lines["executor"] == "threads, 3 workers: as the run file says"
    chunks = re.match(
        r"(\d+) of at most (\d+) chains: as the run file says, rounded up to a multiple of 64", lines["chunks"]
    )
    assert [int(chunks[1]), int(chunks[2])] == [manifest["plan"]["chunks"], manifest["plan"]["chunk_size"]] == [4, 320]
    assert lines["noise"] == manifest["job"]["noise"]
    assert lines["gradient"] == manifest["gradient"]
    draws = np.load(folder / "a dir/run/data/npy/draws.npy")
    assert lines["writer"] == f"npy: {draws.nbytes / 1e3:.1f} kB, if it does not compress"
    assert lines["disk"].startswith(f"{draws.nbytes / 1e3:.1f} kB of ")
    assert lines["disk"].endswith(f" free in {folder}/a dir/run")


def test_what_is_left_to_the_host_is_said_with_its_reason(folder, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    (folder / "job.toml").write_text(FILE.partition("[engine]")[0].replace("seed = 7\n", ""))
    first, lines, last = planned(capsys)
    assert first.endswith(", a new seed each time")
    assert lines["devices"].endswith("cpu: torch sees no accelerator, so one worker a core")
    assert "worker" in lines["executor"]
    assert "chains / workers, within bounds on its bytes" in lines["chunks"]
    assert last == "next: ebmcore run job.toml"


def test_a_grain_that_makes_one_chunk_is_said(folder, capsys):
    _, lines, _ = planned(capsys, "--set", "run.chains=50")
    assert lines["chunks"] == "1 of 50 chains: a chunk begins at a multiple of 64, so that there is one"
    (folder / "pairs.py").write_text(
        "from dataclasses import dataclass\n"
        "from ebmcore_langevin.ula import ULA\n"
        "@dataclass(frozen=True)\n"
        "class Groups(ULA):\n"
        "    ensemble_size = 250\n"
    )
    _, lines, _ = planned(capsys, "--set", "sampler.use=./pairs.py:Groups")
    assert lines["chunks"] == (
        "1 of 1,000 chains: a chunk begins at a multiple of 8000: of 64, ensembles of chains and writers' alignment, "
        "so that there is one"
    )
    assert lines["executor"].startswith("serial, 1 worker: there is nothing to do for a second")


def test_each_stage_is_said(folder, capsys):
    (folder / "job.toml").write_text(STAGES)
    first, lines, _ = planned(capsys)
    assert first == "gaussian with ula, then mala: 200 chains x 45 steps, seed 7"
    assert lines["stage 0"] == "ula, 10 steps, keeps 2 draws a chain"
    assert lines["stage 1"] == "mala, 30 steps after 5 of warmup, keeps 10 draws a chain"
    assert {"step of 0", "step of 1"} <= set(lines)
    assert main(["run", "job.toml", "--quiet", "--out", "run"]) == 0
    # The header of a .npy file takes 128 bytes, which are not counted.
    files = list((folder / "run/data").rglob("*.npy"))
    stored = sum(file.stat().st_size - 128 for file in files)
    assert len(files) > 2
    assert lines["writer"] == f"npy: {stored / 1e3:.1f} kB, if it does not compress"


def test_several_writers_add_up_and_memory_is_no_disk(folder, capsys):
    more = '[[writer]]\nuse = "npy"\n[[writer]]\nuse = "npy"\nname = "copy"\n[[writer]]\nuse = "memory"\n'
    (folder / "job.toml").write_text(FILE + more)
    _, lines, _ = planned(capsys)
    # 1000 chains, 5 draws, 2 coordinates of 4 bytes.
    assert [text.partition(",")[0] for text in lines["writer"].split(" | ")] == [
        "npy: 40.0 kB",
        "copy: 40.0 kB",
        "memory: 40.0 kB of memory",
    ]
    assert lines["disk"].startswith("80.0 kB of ")


def test_a_disk_that_is_too_small_is_said(folder, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=GIB, used=GIB - 39_000, free=39_000))
    _, lines, _ = planned(capsys)
    assert "40.0 kB of 39.0 kB free" in lines["disk"]
    assert "IT DOES NOT FIT; keep fewer draws, or choose another disk" in lines["disk"]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=GIB, used=GIB - 40_000, free=40_000))
    assert "FIT" not in planned(capsys)[1]["disk"]


def test_an_older_run_is_left_and_said(folder, capsys):
    assert main(["run", "job.toml", "--quiet"]) == 0
    before = tree(folder)
    _, _, last = planned(capsys)
    assert last == "next: ebmcore run job.toml --overwrite   (there is a run in that place, which this replaces)"
    assert tree(folder) == before


def test_a_run_that_diverges_at_once_is_said(folder, capsys):
    _, lines, _ = planned(capsys, "--set", "sampler.step_size=50")
    assert lines["time"].startswith("not known, a probe of some steps failed: chain ")
    assert "must stay finite" in lines["time"]
    assert "halve it" in lines["time"]


def test_small_chunks_are_advised_against(folder, capsys, monkeypatch):
    costs = [measure.Cost(step=9e-6, chain=1e-9, memory=None)]
    monkeypatch.setattr(measure, "measure", lambda prepared, index: costs[index])
    _, lines, _ = planned(capsys, "--set", "engine.chunk_size=64", "--set", "run.chains=6400")
    assert lines["advice"] == "99% of a step does not depend on its chains: a larger chunk_size takes less"
    assert lines["step"] == "9 us and 1 ns a chain"
    costs = [measure.Cost(step=1e-6, chain=1e-6, memory=None)]
    assert "advice" not in planned(capsys, "--set", "engine.chunk_size=64", "--set", "run.chains=6400")[1]


def test_the_time_is_that_of_the_rounds_of_chunks(folder, capsys, monkeypatch):
    monkeypatch.setattr(measure, "measure", lambda prepared, index: measure.Cost(0.5, 0.001, None))
    # 4 chunks of 320 chains on 3 workers are two rounds; 20 steps of 0.5 + 0.32 s each.
    assert planned(capsys)[1]["time"].startswith(f"about {2 * 20 * 0.82:.1f} s without writing")


# ----------------------------------------------------------------------------- the measurement


def prepared(**settings):
    arguments = {"chains": 1000, "steps": 20, "seed": 1, "devices": ["cpu", "cpu"], "chunk_size": 500, **settings}
    sampler = arguments.pop("sampler", ebm.use("ula", step_size=0.01))
    return prepare.prepare(prepare.Request(energy=ebm.use("double_well", dim=2), sampler=sampler, **arguments))


@pytest.mark.parametrize("chunk_size", [64, 500, 1000])
@pytest.mark.parametrize(("step", "chain"), [(1e-5, 1e-8), (1e-3, 0.0), (0.0, 1e-5)])
def test_fixed_cost_and_cost_a_chain_are_told_apart(monkeypatch, chunk_size, step, chain):
    def run_chunk(job, chunk, device):
        # A chunk costs something once, too, which must not count.
        return Receipt(chunk, device, 0.004 + (chunk.stop - chunk.start) * (step + (chunk.hi - chunk.lo) * chain))

    monkeypatch.setattr(measure, "run_chunk", run_chunk)
    cost = measure.measure(prepared(chunk_size=chunk_size), 0)
    assert cost.step == pytest.approx(step, rel=1e-6, abs=1e-12)
    assert cost.chain == pytest.approx(chain, rel=1e-6, abs=1e-15)
    assert cost.seconds(200, 7) == pytest.approx(7 * (step + 200 * chain))


def test_a_measurement_leaves_the_run_as_it_was(monkeypatch):
    monkeypatch.setattr(measure, "SHORT", 0.001)
    # Two stages, so that what is measured of the second does not follow the first.
    ula = ebm.use("ula", step_size=0.01)
    stages = [ebm.Stage(ula, 4, draws=2), ebm.Stage(ebm.use("mala", step_size=0.1), 6, draws=6)]
    settings = {"sampler": stages, "steps": None}
    torch.manual_seed(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    looked_at = prepared(**settings)
    for index in range(2):
        cost = measure.measure(looked_at, index)
        assert cost.step + cost.chain >= 0
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    one = sampling.execute(looked_at, progress=False)
    two = sampling.execute(prepared(**settings), progress=False)
    for first, second in zip(one.stages, two.stages, strict=True):
        assert torch.equal(first.draws, second.draws)
    assert one.summary()["mean"] == two.summary()["mean"]


def test_memory_counts_states_gradient_and_a_block_of_draws():
    # ULA's state is the position, 8 bytes; twice, and a gradient; 20 draws of 8 bytes.
    assert measure.memory_needed(prepared(draws=20), 0) == 512 * (3 * 8 + 20 * 8)
    # MALA keeps value and gradient too: 8 + 4 + 8 bytes, and stores three statistics: 8 + 4 + 4 + 1 bytes a draw.
    assert measure.memory_needed(prepared(sampler=ebm.use("mala", step_size=0.1)), 0) == 512 * (2 * 20 + 8 + 17)


def test_memory_that_the_energy_takes_is_measured():
    class Hungry(torch.nn.Module):
        def forward(self, x):
            # 512 chains x 40,000 floats: 82 MB, more than an allocator keeps for later.
            return (x.repeat(1, 20_000) ** 2).sum(-1)

    request = prepare.Request(
        energy=Hungry(), sampler=ebm.use("ula", step_size=1e-6), chains=1000, shape=2, steps=4, chunk_size=512, seed=1
    )
    grown = measure.measure(prepare.prepare(request), 0).memory
    if grown is None:
        pytest.skip("this system does not say the peak of a process")
    assert grown > 512 * 40_000 * 4


def test_a_request_has_the_defaults_of_sample():
    defaults = {field.name: field.default for field in dataclasses.fields(prepare.Request)}
    parameters = inspect.signature(ebm.sample).parameters
    assert set(defaults) - {"origin"} == set(parameters) - {"progress"}
    for name in set(defaults) - {"energy", "sampler", "origin"}:
        assert defaults[name] == parameters[name].default, name
