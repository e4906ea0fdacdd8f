"""The examples that people run first: the run files, the energy beside them, and the demo."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch

from ebmcore.cli import main
from ebmcore.config import RunConfig

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
RUN_FILES = sorted(EXAMPLES.glob("*.toml"))
MADE_BY_DEMO = Path("runs/demo")


def module(name):
    spec = spec_from_file_location(name, EXAMPLES / f"{name}.py")
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def demo():
    return module("demo")


# -------------------------------------------------------------------------------- run files


@pytest.mark.parametrize("file", RUN_FILES, ids=lambda file: file.stem)
def test_a_run_file_runs_small(file, tmp_path):
    small = ["--set", "run.chains=200", "--set", "run.steps=3"]
    assert main(["run", str(file), *small, "--out", str(tmp_path / "out"), "--quiet"]) == 0
    draws = np.load(tmp_path / "out" / "data" / "npy" / "draws.npy")
    assert draws.shape == (200, 1, 2)
    assert np.isfinite(draws).all()


@pytest.mark.parametrize(
    ("name", "chains", "steps"),
    [("double_well", 50_000, 1000), ("mlp_own", 10_000, 1000), ("million", 1_000_000, None)],
)
def test_the_run_files_are_the_jobs_of_the_guide(name, chains, steps):
    arguments = RunConfig.load(EXAMPLES / f"{name}.toml").arguments()
    assert arguments["chains"] == chains
    assert steps in (None, arguments["steps"])
    assert [writer["use"] for writer in arguments["writers"]] == ["npy"]
    if name == "million":
        assert arguments["energy"]["hidden"] == [64, 64]


# ------------------------------------------------------------------------ the energy of one's own


def test_weights_are_seeded_and_leave_the_global_generator_alone():
    energy = module("my_energy").MyEnergy
    before = torch.get_rng_state()
    weights = [torch.cat([p.flatten() for p in energy(seed=seed).parameters()]) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert len(weights[0]) == (2 * 32 + 32) + (32 * 32 + 32) + (32 + 1)


@pytest.mark.parametrize("seed", range(5))
def test_the_density_exists(seed):
    # A network of SELU grows at most linearly: far out, 1/2 |x|^2 is what remains of U.
    energy = module("my_energy").MyEnergy(confinement=1.0, seed=seed)
    angle = torch.linspace(0, 2 * torch.pi, 100)
    for radius in (1e3, 1e4):
        u = energy(radius * torch.stack([angle.cos(), angle.sin()], 1)).detach()
        assert (u / (0.5 * radius**2) - 1).abs().max() < 100 / radius


# ---------------------------------------------------------------------------- the demo's pieces


def test_the_demo_replaces_only_what_a_demo_made(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    demo.fresh_folder(MADE_BY_DEMO)
    (MADE_BY_DEMO / "older").touch()
    demo.fresh_folder(MADE_BY_DEMO)
    assert [path.name for path in MADE_BY_DEMO.iterdir()] == [demo.MARK]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(SystemExit, match="must not exist, or be an older demo's"):
        demo.fresh_folder(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_one_and_two_workers_give_the_same_bytes(demo, tmp_path, capfd):
    demo.same_bytes(tmp_path, "--set", "run.chains=1000", "--set", "run.steps=5")
    first, second = re.findall(r"[0-9a-f]{64}", capfd.readouterr().out)
    assert first == second
    assert demo.draws_of(tmp_path / "double_well_2").shape == (1000, 1, 2)


def test_a_run_that_is_killed_and_resumed_gives_the_same_bytes(demo, tmp_path, capfd):
    small = ("--set", "run.chains=4000", "--set", "run.steps=300", "--set", "engine.chunk_size=64")
    demo.ebmcore_run("million.toml", tmp_path / "whole", "--quiet", *small)
    demo.killed_and_resumed("million.toml", tmp_path / "killed", tmp_path / "whole", *small)
    out = capfd.readouterr().out
    first, second = re.findall(r"[0-9a-f]{64}", out)
    assert first == second
    assert re.search(r"killed \(SIGKILL\) with \d+ of 63 chunks done", out)
    assert demo.draws_of(tmp_path / "killed").shape == (4000, 1, 2)


def test_other_bytes_end_the_demo(demo, tmp_path, monkeypatch):
    def run(file, out, *options):
        (out / "data" / "npy").mkdir(parents=True)
        (out / "data" / "npy" / "draws.npy").write_text(out.name)

    monkeypatch.setattr(demo, "ebmcore_run", run)
    with pytest.raises(SystemExit, match="must be equal; got two digests"):
        demo.same_bytes(tmp_path)


def test_a_job_that_fails_ends_the_demo_with_its_code(demo, tmp_path, capfd):
    with pytest.raises(SystemExit) as ended:
        demo.ebmcore_run("double_well.toml", tmp_path / "out", "--set", "run.steps=0")
    assert ended.value.code == 2
    assert "run.steps" in capfd.readouterr().err


def test_the_picture_is_small_and_names_e_x2(demo, tmp_path, capsys):
    # Two points a coordinate, at -1 and 1: E x^2 is 1, and the double well's own (barrier 2) is 0.8521 by quadrature.
    draws = np.random.default_rng(0).choice([-1.0, 1.0], (4000, 1, 2))
    demo.picture(draws, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (tmp_path / "picture.png").stat().st_size < 150_000
    assert "1.0000 +- 0.0000, exactly 0.8521" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_whole_demo(demo, tmp_path):
    script = [sys.executable, str(EXAMPLES / "demo.py")]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stderr
    killed, undisturbed, one, two = re.findall(r"[0-9a-f]{64}", done.stdout)
    assert killed == undisturbed
    assert one == two
    chunks, of = map(int, re.search(r"killed \(SIGKILL\) with (\d+) of (\d+) chunks done", done.stdout).groups())
    assert of / 2 <= chunks < of
    assert "picture: runs/demo/double_well.png" in done.stdout
    out = tmp_path / MADE_BY_DEMO
    million = demo.draws_of(out / "million")
    assert million.shape == (1_000_000, 1, 2)
    assert np.isfinite(million).all()
    # E |x| and E x^2 by quadrature on a grid. ULA's bias at the file's step size, 0.01, is 1.5 % of them. Chains
    # that stay at their start, N(0, 1), are off by 8 % and 17 %; one at half the temperature by 7 % in both.
    x = np.linspace(-4, 4, 8001)
    density = np.exp(-2 * (x**2 - 1) ** 2)
    density /= density.sum()
    well = np.asarray(demo.draws_of(out / "double_well"))
    for power in (1, 2):
        exact = density @ np.abs(x) ** power
        standard_error = (density @ np.abs(x) ** (2 * power) - exact**2) ** 0.5 / well.size**0.5
        assert abs((np.abs(well) ** power).mean() - exact) < 0.02 * exact + 5 * standard_error
