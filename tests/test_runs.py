"""Runs through the Python API: arguments, results, the run directory, interruption."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ebmcore as ebm

ULA = ebm.use("ula", step_size=0.01)


def quadratic(x):
    return 0.5 * (x**2).sum(-1)


def run(**settings):
    arguments = {"chains": 200, "shape": (2,), "steps": 4, "seed": 1, **settings}
    return ebm.sample(arguments.pop("energy", quadratic), arguments.pop("sampler", ULA), **arguments)


# ------------------------------------------------------------------ results


def test_the_result_says_what_was_kept_and_how_to_repeat_it():
    result = run(steps=10)
    assert repr(result) == (
        "Result: 200 chains x 10 steps, kept the last draw of each (draws=steps keeps all), "
        "draws [200, 1, 2] in memory; seed=1 repeats it"
    )
    assert result.draws.shape == (200, 1, 2)
    assert torch.equal(result.final, result.draws[:, -1])
    assert torch.equal(result.read("draws", slice(10, 20)), result.draws[10:20])
    assert result.path is None
    assert len(result.stats) == 0


def test_a_seed_that_was_not_given_is_named_and_repeats_the_run():
    first = run(seed=None)
    assert torch.equal(run(seed=first.seed).final, first.final)
    assert not torch.equal(run(seed=None).final, first.final)


@pytest.mark.parametrize("shape", [(), (3,), (1, 4, 4)])
def test_positions_have_any_shape(shape):
    result = run(energy=lambda x: 0.5 * (x**2).reshape(len(x), -1).sum(-1), shape=shape, chains=70)
    assert result.final.shape == (70, *shape)


def test_one_chain_is_enough():
    assert run(chains=1).final.shape == (1, 2)


def test_shape_and_chains_follow_from_the_energy_and_from_init():
    assert ebm.sample(ebm.use("gaussian", dim=3), ULA, chains=5, steps=1).final.shape == (5, 3)
    assert ebm.sample(quadratic, ULA, init=torch.zeros(7, 4), steps=1).final.shape == (7, 4)


def test_init_by_name_tensor_and_function():
    start = torch.randn(200, 2)
    still = ebm.use("ula", step_size=1e-12, noise_std=0.0)
    assert torch.equal(run(sampler=still, init=start, shape=None, chains=None, steps=1).final, start)
    uniform = run(sampler=still, init="uniform", steps=1, chains=5000).final
    assert -1 <= uniform.min() < -0.99
    assert 0.99 < uniform.max() < 1
    normal = run(sampler=still, init="normal", steps=1, chains=5000).final
    assert abs(float(normal.var()) - 1) < 5 * (2 / 10_000) ** 0.5
    ids = run(sampler=still, init=lambda chains, noise: chains[:, None].float().expand(-1, 2), steps=1, chunk_size=64)
    assert ids.final[:, 0].tolist() == list(range(200))


def test_the_tensor_given_as_init_is_not_overwritten():
    start = torch.ones(100, 2)
    run(init=start, chains=None)
    assert torch.equal(start, torch.ones(100, 2))


def test_modules_keep_their_flags_and_gradients():
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0))
    net(torch.ones(3, 2)).sum().backward()
    grads = [p.grad.clone() for p in net.parameters()]
    run(energy=net)
    assert all(p.requires_grad and torch.equal(p.grad, g) for p, g in zip(net.parameters(), grads, strict=True))


# ------------------------------------------------------------------ on disk


def test_a_run_directory_holds_all_and_opens_again(tmp_path):
    out = tmp_path / "run"
    result = run(out=out, steps=6, draws=3, chunk_size=64)
    on_disk = np.load(out / "data" / "npy" / "draws.npy", mmap_mode="r")
    assert on_disk.shape == (200, 3, 2)
    np.testing.assert_array_equal(on_disk, run(steps=6, draws=3).draws.numpy())
    again = ebm.open_run(out)
    assert torch.equal(again.draws, result.draws)
    assert again.seed == result.seed
    assert again.summary() == result.summary() == json.loads((out / "summary.json").read_text())
    manifest = json.loads((out / "manifest.json").read_text())
    assert {p["name"]: p.get("distribution") for p in manifest["plugins"] if "name" in p}["ula"] == "ebmcore-langevin"
    commits = [json.loads(line) for line in (out / "commits.jsonl").read_text().splitlines()]
    assert sorted(c["chunk"]["lo"] for c in commits) == [0, 64, 128, 192]


def test_a_folder_is_never_overwritten_unless_told_and_never_if_it_is_no_run(tmp_path):
    out = tmp_path / "run"
    run(out=out)
    before = (out / "manifest.json").read_bytes()
    with pytest.raises(ebm.InputError, match=r"must not exist yet; got .*--overwrite"):
        run(out=out)
    assert (out / "manifest.json").read_bytes() == before
    run(out=out, overwrite=True, seed=2)
    assert ebm.open_run(out).seed == 2
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("x")
    with pytest.raises(ebm.InputError, match="holds other files"):
        run(out=mine, overwrite=True)
    assert (mine / "thesis.tex").exists()
    with pytest.raises(ebm.InputError, match="must be a folder"):
        run(out=mine / "thesis.tex" / "run")


def test_a_mistake_beside_overwrite_leaves_the_old_run(tmp_path):
    out = tmp_path / "run"
    run(out=out)
    with pytest.raises(ebm.InputError):
        run(out=out, overwrite=True, steps=0)
    with pytest.raises(ebm.EnergyError):
        run(out=out, overwrite=True, energy=lambda x: x.sum())
    assert ebm.open_run(out).seed == 1


def test_open_run_refuses_what_is_no_whole_run(tmp_path):
    with pytest.raises(ebm.InputError, match=r"a run must have a manifest\.json"):
        ebm.open_run(tmp_path)
    out = tmp_path / "run"
    run(out=out)
    (out / "summary.json").unlink()
    with pytest.raises(ebm.InputError, match="must be whole"):
        ebm.open_run(out)


def test_opening_a_run_never_imports_a_file_that_its_manifest_names(tmp_path):
    out = tmp_path / "run"
    run(out=out)
    trap = tmp_path / "trap.py"
    trap.write_text("raise SystemExit('the trap was run')\nclass W: ...\n")
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["job"]["writers"] = [{"use": f"{trap}:W", "name": "npy"}]
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ebm.InputError, match="must have a writer that can be read"):
        _ = ebm.open_run(out).draws


def test_to_datatree_follows_arvizs_schema():
    arviz = pytest.importorskip("arviz")
    tree = run(energy=quadratic, steps=8, draws=8).to_datatree()
    assert tree["posterior"]["x"].dims == ("chain", "draw", "dim_0")
    assert {"created_at", "inference_library", "settings"} <= set(tree["posterior"].attrs)
    assert float(arviz.rhat(tree["posterior"].to_dataset())["x"].max()) > 0
    assert run().to_datatree()["posterior"]["x"].dims == ("sample", "dim_0")


# ------------------------------------------------------------------ arguments


class Fixed:
    shape = (3,)

    def __call__(self, x):
        return quadratic(x)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": None}, "`steps` must be set"),
        ({"steps": 0}, "`steps` must be a whole number >= 1; got 0"),
        ({"steps": 2.5}, "`steps` must be a whole number >= 1; got 2.5"),
        ({"chains": 0}, "`chains` must be a whole number >= 1; got 0"),
        ({"chains": True}, "`chains` must be a whole number"),
        ({"chains": None}, "`chains` must be set"),
        ({"shape": None}, "`shape` must be known"),
        ({"shape": (0,)}, "`shape` must be a whole number >= 1"),
        ({"energy": Fixed()}, r"`shape` must be that of the energy, \[3\]; got \[2\]"),
        ({"draws": 3}, "`draws` must divide `steps`.*got draws=3, steps=4. Take draws=2, or steps=3"),
        ({"draws": 8}, "`draws` must divide `steps`"),
        ({"draws": 0}, "`draws` must be a whole number >= 1"),
        ({"warmup": -1}, "`warmup` must be a whole number >= 0"),
        ({"temperature": 0.0}, "`temperature` must be a number > 0"),
        ({"temperature": float("nan")}, "`temperature` must be a number > 0"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"precision": "float8"}, "`precision` must be one of float32, float64, bfloat16, float16; got 'float8'"),
        ({"devices": "tpu"}, "a device must be one that torch sees here; got 'tpu'"),
        ({"devices": "cuda:99"}, "got 'cuda:99'"),
        ({"devices": []}, "at least one device"),
        ({"executor": "procs"}, "no executor is named 'procs'"),
        ({"noise": "numb"}, "no noise"),
        ({"chunk_size": 0}, "`chunk_size` must be a whole number >= 1"),
        ({"init": "zeros"}, "`init` must be a tensor, a function, auto, normal, uniform, a .npy .*; got 'zeros'"),
        ({"init": torch.zeros(200, 3)}, r"`shape` must be that of `init`, \[3\]; got \[2\]"),
        ({"init": torch.zeros(100, 2)}, "`init` must have one row a chain, here 200; got 100"),
        ({"init": torch.zeros(200, 2, dtype=torch.int64)}, "must be a floating tensor"),
        ({"init": lambda ids, noise: torch.zeros(3)}, r"must return positions \[3, 2\]"),
        ({"condition": {"y": torch.zeros(3)}}, "condition 'y' must have one row a chain, here 200"),
        ({"condition": {"y": 3.0}}, "must map names to tensors or paths"),
        ({"sampler": "ulla"}, "no sampler is named 'ulla'. Did you mean 'ula'"),
        ({"sampler": "double_well"}, "'double_well' is a model"),
        ({"sampler": {"step_size": 0.1}}, "must have `use`"),
        ({"sampler": ebm.use("ula")}, "`step_size` must be set"),
        ({"sampler": ebm.use("ula", step_size=-0.1)}, "`step_size` must be > 0; got -0.1"),
        ({"sampler": ebm.use("ula", step_size=True)}, "step_size"),
        ({"sampler": ebm.use("ula", step_sise=0.1)}, "Did you mean `step_size`"),
        ({"sampler": ebm.use("ula", step_size=0.1, noise_std=0.1, noise_scale=1.0)}, "noise_s"),
        ({"writers": ["npy"]}, "`out` must be set when writers are named"),
        ({"energy": 3}, "must be"),
        ({"energy": ebm.use("mlp", dim=2, weights="missing.safetensors")}, "`weights` must name a file"),
        ({"energy": ebm.use("double_well", weights="w.safetensors")}, "`weights` must go with a model that has some"),
    ],
)
def test_every_wrong_argument_has_its_message_and_writes_nothing(settings, message, tmp_path):
    out = None if "writers" in settings else tmp_path / "run"
    with pytest.raises(ebm.InputError, match=message) as caught:
        run(out=out, **settings)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_two_writers_of_one_name_are_refused(tmp_path):
    with pytest.raises(ebm.InputError, match="must have names of their own; got 'npy' twice"):
        run(out=tmp_path / "run", writers=["npy", "npy"])
    result = run(out=tmp_path / "run", writers=["npy", ebm.use("npy", name="copy")])
    assert (tmp_path / "run/data/copy/draws.npy").read_bytes() == (tmp_path / "run/data/npy/draws.npy").read_bytes()
    assert result.draws.shape == (200, 1, 2)


# ------------------------------------------------------------------ weights


def test_weights_come_from_safetensors_and_must_fit(tmp_path):
    from safetensors.torch import save_file

    donor = ebm.load("model", "mlp")(dim=2, hidden=[8], seed=5)
    save_file(donor.state_dict(), tmp_path / "w.safetensors")
    still = ebm.use("ula", step_size=1e-3)
    given = ebm.sample(donor, still, chains=64, steps=3, seed=1)
    loaded = ebm.sample(
        ebm.use("mlp", dim=2, hidden=[8], weights="w.safetensors"), still, chains=64, steps=3, seed=1, base=tmp_path
    )
    assert torch.equal(given.final, loaded.final)
    with pytest.raises(ebm.InputError, match=r"fit the architecture.*\[8\].*\[16\]"):
        ebm.sample(ebm.use("mlp", dim=2, hidden=[16], weights="w.safetensors"), still, chains=4, steps=1, base=tmp_path)
    torch.save(donor.state_dict(), tmp_path / "w.pt")
    with pytest.raises(ebm.InputError, match="must be a safetensors file"):
        ebm.sample(ebm.use("mlp", dim=2, hidden=[8], weights="w.pt"), still, chains=4, steps=1, base=tmp_path)


# ------------------------------------------------------------------ reducers, observers


def test_reducers_are_fed_all_draws_whatever_the_cut():
    @dataclass(frozen=True)
    class Extremes:
        def start(self, layout):
            return {"low": torch.tensor(float("inf")), "count": torch.tensor(0)}

        def update(self, acc, block):
            x = block.arrays["draws"]
            return {"low": torch.minimum(acc["low"], x.min()), "count": acc["count"] + x.numel()}

        def merge(self, a, b):
            return {"low": torch.minimum(a["low"], b["low"]), "count": a["count"] + b["count"]}

        def finish(self, acc):
            return acc

    result = run(chains=1000, steps=200, draws=100, reducers=[Extremes()], chunk_size=128)
    reduced = result.reduced["Extremes"]
    assert int(reduced["count"]) == 1000 * 100 * 2
    assert float(reduced["low"]) == float(result.draws.min())


def test_observers_hear_of_the_run_and_a_broken_one_is_left_out():
    heard = []

    class Listener:
        @ebm.hookimpl
        def ebmcore_run_started(self, run):
            heard.append(("started", run.chains))

        @ebm.hookimpl
        def ebmcore_chunk_done(self, chunk):
            heard.append(("chunk", chunk.lo))

        @ebm.hookimpl
        def ebmcore_run_finished(self, run, result):
            heard.append(("finished", result.seed))

    class Broken:
        @ebm.hookimpl
        def ebmcore_chunk_done(self, run):
            raise RuntimeError("mine")

    with pytest.warns(ebm.EbmcoreWarning, match="Broken"):
        result = run(observers=[Broken(), Listener()], chunk_size=64, executor="serial")
    assert heard == [("started", 200), ("chunk", 0), ("chunk", 64), ("chunk", 128), ("chunk", 192), ("finished", 1)]
    assert torch.equal(result.final, run().final)


# ------------------------------------------------------------------ faults and interruption


class Walk(NamedTuple):
    position: Tensor


@dataclass(frozen=True)
class Slow:
    """Steps of ten milliseconds."""

    def init(self, energy, position, noise):
        return Walk(position)

    def step(self, energy, state, noise):
        time.sleep(0.01)
        return state, None


@pytest.mark.parametrize("executor", ["serial", ebm.use("threads", workers=2)])
def test_ctrl_c_stops_at_the_next_step_and_leaves_no_worker(executor, tmp_path):
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(sampler=Slow(), steps=100_000, executor=executor, chunk_size=64, out=tmp_path / "run")
    assert time.monotonic() - started < 30
    assert not [t for t in threading.enumerate() if t.name.startswith("ebmcore")]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(ebm.InputError, match="must be whole"):
        ebm.open_run(tmp_path / "run")
    assert run().final.shape == (200, 2), "the next run is not disturbed"


@dataclass(frozen=True)
class Failing:
    """Fails in one chunk, after its first steps."""

    def init(self, energy, position, noise):
        return Walk(position)

    def step(self, energy, state, noise):
        time.sleep(0.001)
        if noise.step == 20 and (state.position[:, 0] == 64).any():
            raise ZeroDivisionError("mine")
        return state, None


def test_a_fault_in_one_worker_ends_the_others_and_is_the_one_that_is_told():
    with pytest.raises(ZeroDivisionError, match="mine"):
        run(
            sampler=Failing(),
            init=lambda ids, noise: ids[:, None].float().expand(-1, 2),
            steps=3000,
            executor=ebm.use("threads", workers=3),
            chunk_size=64,
        )
    assert not [t for t in threading.enumerate() if t.name.startswith("ebmcore")]
