"""The command line: what it prints, the code it exits with, and what it does not import."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import types
import warnings
from pathlib import Path

import importlib_metadata
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import ebmcore as ebm
import ebmcore.sampling
from ebmcore import errors
from ebmcore.cli import main
from ebmcore.registry import renew
from ebmcore.request import Request

FILE = """\
[model]
use = "double_well"
[sampler]
use = "ula"
step_size = 0.01
[run]
chains = 50_000
steps = 1000
seed = 7
"""

COMMAND = [sys.executable, "-c", "import sys; from ebmcore.cli import main; sys.exit(main())"]


def process(*args, **options):
    return subprocess.run([*COMMAND, *args], capture_output=True, text=True, stdin=subprocess.DEVNULL, **options)


@pytest.fixture
def job(tmp_path):
    path = tmp_path / "doublewell.toml"
    path.write_text(FILE)
    return path


class Sampling:
    """Stands for `ebmcore.sampling.run`: notes what is asked for, and answers as it would."""

    def __init__(self):
        self.arguments = {}
        self.raises = self.warns = None
        self.moments = {"shape": [2], "mean": [0.5, -0.25], "sd": [1.0, 2.0]}

    def __call__(self, request, *, progress, again):
        arguments = {name: value for name, value in vars(request).items() if value != getattr(Request, name, None)}
        self.arguments = {**arguments, "progress": progress}
        if self.raises is not None:
            raise self.raises
        if self.warns is not None:
            warnings.warn(self.warns, errors.EbmcoreWarning, stacklevel=2)
        out = Path(arguments["out"])
        summary = {
            "chains": 50_000,
            "draws": 1,
            "steps": 1000,
            "seconds": 2.0,
            "chains_per_second": 25_000.0,
            "devices": ["cpu:0", "cpu:1"],
            "workers": 2,
            "chunks": 4,
            "seed": 7,
            "files": {"draws": str(out / "data/npy/draws.npy")},
            **self.moments,
        }
        job = {"energy": arguments["energy"], "stages": [{"sampler": arguments["sampler"], "steps": 1000}]}
        return types.SimpleNamespace(path=out, provenance={"job": job}, summary=lambda: summary)


@pytest.fixture
def sampling(monkeypatch):
    stub = Sampling()
    monkeypatch.setattr(ebmcore.sampling, "run", stub)
    return stub


# ---------------------------------------------------------------------------------- imports


@pytest.mark.parametrize(
    "args",
    [
        ["--version"],
        ["--help"],
        [],
        ["plugins"],
        ["plugins", "list"],
        ["plugins", "list", "--no-plugin", "serial"],
        ["run", "--help"],
        ["plan", "--help"],
        ["show", "--help"],
        ["show", "nonesuch"],
        ["nonesuch"],
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported_to_list_and_to_help(args):
    plugins = {
        entry.value.partition(":")[0].partition(".")[0]
        for entry in importlib_metadata.entry_points()
        if entry.group.startswith("ebmcore.")
    } - {"ebmcore"}
    code = (
        "import json, sys\n"
        "from ebmcore.cli import main\n"
        f"main({args!r})\n"
        "print(json.dumps(sorted(name.partition('.')[0] for name in sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(json.loads(done.stdout.splitlines()[-1]))
    assert "click" in imported
    assert not imported & {"torch", "numpy", "pydantic", "rich", *plugins}


def test_a_mistake_in_a_run_file_is_found_before_torch_is_imported(job):
    job.write_text(FILE.replace("50_000", "0"))
    code = f"import sys\nfrom ebmcore.cli import main\nprint(main(['run', {str(job)!r}]), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 False\n"


# --------------------------------------------------------------------------- outer commands


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ebmcore {importlib_metadata.version('ebmcore')}\n"


def test_a_bare_call_prints_one_line_a_journey(capsys):
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert err == ""
    for words in ("ebm.sample", "ebmcore run", "ebmcore new-plugin"):
        assert words in out


def test_help_lists_the_commands(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in ("plan", "plugins", "run", "show"):
        assert f"\n  {command} " in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["rum"], "no command named 'rum'. Did you mean 'ebmcore run'? Commands: new-plugin, plan, plugins, "),
        (["zzz"], "no command named 'zzz'. No program named 'ebmcore-zzz' is on PATH either."),
        (["job.toml"], "Did you mean 'ebmcore run job.toml'?"),
        (["../x"], "no command named '../x'"),
        (["--versoin"], "--versoin"),
        (["run"], "Missing argument 'FILE'. See: ebmcore run --help"),
        (["run", "x.toml", "--resum"], "--resum"),
        (["run", "none.toml"], "a run file must exist; got none.toml"),
        (["run", "."], "must be a file; got the folder"),
        (["plan"], "Missing argument 'FILE'. See: ebmcore plan --help"),
        (["plan", "none.toml"], "a run file must exist; got none.toml"),
        (["plan", "none.toml", "--overwrite"], "--overwrite"),
        (["show"], "Missing argument 'RUN'. See: ebmcore show --help"),
        (["show", "none"], "a run must have a manifest.json; got 'none', which has none. Check the path."),
        (["plugins", "lst"], "lst"),
    ],
)
def test_a_wrong_line_exits_with_2_and_says_why_in_one(args, words, capsys):
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert words in err
    assert err.count("\n") == 1


def test_another_command_is_a_program_on_path(tmp_path):
    program = tmp_path / "ebmcore-hello"
    program.write_text('#!/bin/sh\necho "hello $# $1 $2"\nexit 7\n')
    program.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = process("hello", "--debug", "two words", env=env)
    assert (done.returncode, done.stdout) == (7, "hello 2 --debug two words\n")


# -------------------------------------------------------------------------------------- run


def test_run_hands_the_file_to_sample(job, sampling):
    assert main(["run", str(job), "--set", "run.chains=1e6", "--set", "run.init=uniform"]) == 0
    assert sampling.arguments == {
        "energy": {"use": "double_well"},
        "sampler": {"use": "ula", "step_size": 0.01},
        "chains": 1_000_000,
        "steps": 1000,
        "seed": 7,
        "init": "uniform",
        "base": job.parent,
        "out": job.parent / "runs" / "doublewell",
        "origin": {"file": str(job), "set": ["run.chains=1e6", "run.init=uniform"]},
        "progress": True,
    }


def test_run_flags(job, sampling, capsys):
    job.write_text(FILE + '[[writer]]\nuse = "memory"\n')
    assert main(["run", str(job), "--out", "here", "--overwrite", "--quiet"]) == 0
    assert sampling.arguments["out"] == Path("here")
    assert sampling.arguments["overwrite"] is True
    assert sampling.arguments["progress"] is False
    assert sampling.arguments["writers"] == ({"use": "memory"},)
    assert capsys.readouterr() == ("", "")


def test_run_ends_with_what_ran_the_moments_the_files_and_the_next_command(job, sampling, capsys):
    assert main(["run", str(job), "--out", "a dir"]) == 0
    first, x0, x1, file, following = capsys.readouterr().out.splitlines()
    assert first == (
        "double_well with ula: 50,000 chains x 1,000 steps on 2 workers in 2.00 s, 25,000 chains/s, seed 7"
    )
    assert x0.split() == ["x[0]", "mean", "0.5", "sd", "1"]
    assert x1.split() == ["x[1]", "mean", "-0.25", "sd", "2"]
    assert file.split(maxsplit=1) == ["draws", "a dir/data/npy/draws.npy"]
    assert following == "next: ebmcore show 'a dir'"


def test_many_coordinates_are_pooled(job, sampling, capsys):
    # Nine coordinates of sd 3 whose means are -4, 0, 4 in equal parts: variance 9 + 32/3.
    sampling.moments = {"shape": [3, 3], "mean": [[-4.0, 0.0, 4.0]] * 3, "sd": [[3.0] * 3] * 3}
    assert main(["run", str(job)]) == 0
    pooled = capsys.readouterr().out.splitlines()[1]
    assert pooled.split() == ["all", "9", "coordinates", "mean", "0", "sd", f"{(9 + 32 / 3) ** 0.5:.6g}"]


def test_coordinates_are_named_by_their_index(job, sampling, capsys):
    sampling.moments = {"shape": [2, 2], "mean": [[0.0, 1.0], [2.0, 3.0]], "sd": [[1.0, 1.0], [1.0, 1.0]]}
    assert main(["run", str(job)]) == 0
    assert [line.split("mean")[0].strip() for line in capsys.readouterr().out.splitlines()[1:5]] == [
        "x[0, 0]",
        "x[0, 1]",
        "x[1, 0]",
        "x[1, 1]",
    ]
    sampling.moments = {"shape": [], "mean": 0.5, "sd": 1.0}
    assert main(["run", str(job)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["x", "mean", "0.5", "sd", "1"]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (errors.InputError("`x` must y; got z."), 2, "error: `x` must y; got z.\n"),
        (errors.ConfigError("x"), 2, "error: x\n"),
        (errors.PluginError("x"), 2, "error: x\n"),
        (errors.RunError("x"), 1, "error: x\n"),
        (errors.NonFiniteError("two\nlines"), 1, "error: two lines\n"),
        (errors.EnergyError("x"), 2, "error: x\n"),
        (errors.SamplerError("x"), 2, "error: x\n"),
        (errors.RunStopped("x"), 130, "error: x\n"),
        (
            KeyboardInterrupt(),
            130,
            "error: stopped by the user; what is done stays. Go on: ebmcore run doublewell.toml --resume\n",
        ),
        (
            ZeroDivisionError("x"),
            1,
            "error: ZeroDivisionError: x. This is a bug in ebmcore or a plugin: rerun with --debug to see where.\n",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
@pytest.mark.parametrize("debug", [(), ("--debug",)], ids=["", "debug"])
def test_errors_are_one_line_and_a_code(job, sampling, capsys, monkeypatch, error, code, words, debug):
    sampling.raises = error
    monkeypatch.chdir(job.parent)
    assert main(["run", job.name, *debug]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.lstrip().endswith(words)
    assert ("Traceback" in err) is bool(debug)
    if not debug:
        assert err.strip() == words.strip()


@pytest.mark.parametrize("args", [["--debug", "run", "none.toml"], ["run", "--debug", "none.toml"]])
def test_debug_works_before_and_after_the_command(args, capsys):
    assert main(args) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.filterwarnings("always")
def test_warnings_of_ebmcore_are_one_line(job, sampling, capsys):
    sampling.warns = "an observer was left out"
    assert main(["run", str(job), "--quiet"]) == 0
    assert capsys.readouterr().err == "warning: an observer was left out\n"


# ------------------------------------------------------------------------- run, the real one


def test_a_run_from_file_to_file(job):
    small = ("--set", "run.chains=256", "--set", "run.shape=[2]", "--set", "run.steps=10")
    done = process("run", job.name, *small, cwd=job.parent)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("started: 256 chains x 10 steps")
    assert np.load(job.parent / "runs/doublewell/data/npy/draws.npy").shape == (256, 1, 2)
    following = done.stdout.splitlines()[-1].removeprefix("next: ebmcore ")
    shown = process(*shlex.split(following), cwd=job.parent)
    assert shown.stdout.splitlines()[0] == done.stdout.splitlines()[0]
    following = shown.stdout.splitlines()[-1].removeprefix("next: python ")
    opened = subprocess.run([sys.executable, *shlex.split(following)], capture_output=True, text=True, cwd=job.parent)
    assert "256 chains x 10 steps" in opened.stdout
    again = process("run", job.name, *small, cwd=job.parent)
    assert (again.returncode, again.stdout, again.stderr.count("\n")) == (2, "", 1)


@pytest.mark.long
def test_ctrl_c_ends_a_run_with_130_and_one_line(job):
    with subprocess.Popen(
        [*COMMAND, "run", str(job), "--set", "run.shape=[2]", "--set", "run.steps=100_000"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr.readline().startswith("started:")
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert out == ""
    start, command = err.splitlines()[-1].split(" Go on: ebmcore ")
    assert start == "error: stopped by the user; what is done stays."
    assert shlex.split(command)[-1] == "--resume"
    assert "Traceback" not in err


# ------------------------------------------------------------------------------------- show

TWO = """\
[model]
use = "gaussian"
dim = 1
[[stage]]
sampler = {use = "ula", step_size = 0.1}
steps = 10
warmup = 2
[[stage]]
sampler = {use = "ula", step_size = 0.01}
steps = 20
draws = 4
[run]
chains = 200
seed = 3
[engine]
devices = ["cpu", "cpu"]
chunk_size = 64
"""


@pytest.fixture
def two(tmp_path):
    """A finished run of two stages."""
    file = tmp_path / "two.toml"
    file.write_text(TWO)
    assert main(["run", str(file), "--quiet", "--out", str(tmp_path / "two")]) == 0
    return tmp_path / "two"


def test_run_and_show_say_each_stage(two, capsys):
    assert main(["show", str(two)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("gaussian with ula, then ula: 200 chains x 32 steps on 2 workers in ")
    assert lines[1].split(maxsplit=2)[2] == "ula, 10 steps after 2 of warmup, keeps no draw"
    assert lines[2].split(maxsplit=2)[2] == "ula, 20 steps, keeps 4 draws a chain"
    assert main(["run", str(two.with_suffix(".toml")), "--out", str(two), "--overwrite"]) == 0
    assert capsys.readouterr().out.splitlines()[1:3] == lines[1:3]


def test_show_names_draws_files_versions_and_plugins(two, capsys):
    assert main(["show", str(two)]) == 0
    out = capsys.readouterr().out
    summary = json.loads((two / "summary.json").read_text())
    assert f"mean {summary['mean'][0]: .6g}   sd {summary['sd'][0]:.6g}" in out
    size = (two / "data/npy/draws.npy").stat().st_size
    for words in (
        "seed 3",
        "draws [200, 4, 1] float32",
        f"{two}/data/npy   {size / 1000:.1f} kB",
        f"ebmcore {importlib_metadata.version('ebmcore')}",
        f"sampler ula (ebmcore-langevin {importlib_metadata.version('ebmcore-langevin')})",
        json.loads((two / "manifest.json").read_text())["created_at"],
    ):
        assert words in out, words


def test_show_of_an_unfinished_run_says_how_far_it_came_and_how_to_go_on(two, capsys):
    draws = (two / "data/npy/draws.npy").read_bytes()
    (two / "summary.json").unlink()
    commits = (two / "commits.jsonl").read_text().splitlines()
    assert len(commits) == 4
    # Killed while it wrote: the last line is cut.
    (two / "commits.jsonl").write_text("\n".join([commits[0], commits[1], commits[2][:20]]))
    done = sum(json.loads(line)["chunk"]["hi"] - json.loads(line)["chunk"]["lo"] for line in commits[:2])
    assert main(["show", str(two)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(f"unfinished, 2 of 4 chunks are committed, {done} of 200 chains, seed 3")
    again = shlex.split(lines[-1].removeprefix("next: ebmcore "))
    assert again == ["run", str(two.with_suffix(".toml")), "--out", str(two), "--resume"]
    assert main([*again, "--quiet"]) == 0
    assert (two / "data/npy/draws.npy").read_bytes() == draws


def test_show_of_an_unfinished_run_of_objects_does_not_name_a_command_that_fails(tmp_path, capsys):
    ula = ebm.use("ula", step_size=0.1)
    ebm.sample(lambda x: x.square().sum(-1), ula, chains=64, shape=(2,), steps=2, out=tmp_path / "run")
    (tmp_path / "run/summary.json").unlink()
    assert main(["show", str(tmp_path / "run")]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"next: in the program that made it, ebmcore.sample(..., out='{tmp_path / 'run'}', resume=True)"


def test_show_reads_the_directory_alone(two, capsys):
    before = {path: path.read_bytes() for path in two.rglob("*") if path.is_file()}
    code = (
        "import json, sys\nfrom ebmcore.cli import main\n"
        f"main(['show', {str(two)!r}])\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = json.loads(done.stdout.splitlines()[-1])
    assert not [name for name in imported if name in ("torch", "numpy", "pydantic") or name.startswith("ebmcore_")]
    assert {path: path.read_bytes() for path in two.rglob("*") if path.is_file()} == before


# ------------------------------------------------------------------------------ the written run file

ENERGY = """\
import torch

class Bowl(torch.nn.Module):
    def __init__(self, width: int = 3):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(width))
        self.shape = (width,)

    def forward(self, x, y, sigma):
        return 0.5 * (self.weight * (x - y) ** 2).sum(-1) / sigma

def begin(ids, noise):
    return ids[:, None].double().expand(-1, 3) / 100
"""

RUN_FILES = {
    "one stage": (
        """
        [sampler]
        use = "ula"
        step_size = 0.1
        """,
        "steps = 20\ndraws = 5\nwarmup = 3\ninit = 'start.npy'",
    ),
    "two stages": (
        """
        [[stage]]
        sampler = {use = "ula", step_size = 0.1}
        steps = 20
        [[stage]]
        sampler = {use = "ula", step_size = 0.05}
        steps = 10
        draws = 2
        """,
        "init = 'mine.py:begin'",
    ),
    "init table": (
        """
        [sampler]
        use = "ula"
        step_size = 0.1
        """,
        "steps = 20\ninit = {use = 'few.npy', scale = 2, repeat = 10}",
    ),
    "init by law": (
        """
        [sampler]
        use = "ula"
        step_size = 0.1
        """,
        "steps = 20\ninit = {use = 'uniform', scale = 2, repeat = 10}\ntemperature = 2.0",
    ),
}


@pytest.mark.parametrize("name", RUN_FILES)
def test_the_run_file_in_a_run_directory_runs_again_from_anywhere_to_the_same_bytes(name, tmp_path, monkeypatch):
    moves, run = RUN_FILES[name]
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "mine.py").write_text(ENERGY)
    rng = np.random.default_rng(1)
    np.save(folder / "start.npy", rng.normal(size=(130, 3)).astype("f4"))
    np.save(folder / "few.npy", rng.normal(size=(13, 3)).astype("f4"))
    np.save(folder / "y.npy", rng.normal(size=(130, 3)).astype("f4"))
    np.save(folder / "sigma.npy", np.float32(2.0))
    save_file({"weight": torch.tensor([1.0, 2.0, 3.0])}, folder / "w.safetensors")
    (folder / "job.toml").write_text(
        f"""
        [model]
        use = "./mine.py:Bowl"
        weights = "w.safetensors"
        {moves}
        [run]
        chains = 130
        seed = 5
        {run}
        [engine]
        chunk_size = 64
        [condition]
        y = "y.npy"
        [shared]
        sigma = "sigma.npy"
        """
    )
    assert main(["run", str(folder / "job.toml"), "--quiet"]) == 0
    first = folder / "runs" / "job"
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(first / "run.toml"), "--out", "again", "--quiet"]) == 0
    draws = (first / "data/npy/draws.npy").read_bytes()
    assert len(set(np.load(first / "data/npy/draws.npy").flatten())) > 100
    assert (tmp_path / "again/data/npy/draws.npy").read_bytes() == draws
    # And once more from the second: nothing is lost from one to the next.
    assert (tmp_path / "again/run.toml").read_text() == (first / "run.toml").read_text()


# -------------------------------------------------------------------------------- --no-plugin


@pytest.mark.parametrize(
    "args",
    [["--no-plugin", "executor:threads", "plugins"], ["plugins", "list", "--no-plugin", "executor:threads"]],
    ids=["before", "after"],
)
def test_no_plugin_works_before_and_after_the_command(args, capsys):
    assert main(args) == 0
    blocked = [line.split()[:3] for line in capsys.readouterr().out.splitlines() if " blocked " in line]
    assert blocked == [["executor", "threads", "blocked"]]
    assert main(["plugins"]) == 0
    assert " blocked " not in capsys.readouterr().out


def test_no_plugin_may_be_repeated_and_adds_to_the_environment(monkeypatch, capsys):
    monkeypatch.setenv("EBMCORE_NO_PLUGIN", "ula")
    renew()
    assert main(["--no-plugin", "serial", "plugins", "--no-plugin", "npy"]) == 0
    blocked = [line.split()[1] for line in capsys.readouterr().out.splitlines() if " blocked " in line]
    assert sorted(blocked) == ["npy", "serial", "ula"]
    assert os.environ["EBMCORE_NO_PLUGIN"] == "ula"
    monkeypatch.delenv("EBMCORE_NO_PLUGIN")
    renew()


def test_a_blocked_plugin_is_not_used(job, capsys):
    assert main(["run", str(job), "--no-plugin", "sampler:ula"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {job}:4: sampler 'ula' (ebmcore-langevin ")
    assert "is blocked by 'sampler:ula'. Take that out of --no-plugin or EBMCORE_NO_PLUGIN to use it." in err


@pytest.mark.parametrize("entry", ["nonesuch", "sampler:npy", "model:ula"])
def test_blocking_what_does_not_exist_is_a_mistake(job, entry, capsys):
    assert main(["run", str(job), "--no-plugin", entry]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"got '{entry}', which is none." in err


# ---------------------------------------------------------------------------------- plugins


def test_plugins_lists_what_metadata_says(capsys):
    assert main(["plugins", "list"]) == 0
    listed = capsys.readouterr().out
    assert main(["plugins"]) == 0
    assert capsys.readouterr().out == listed
    heading, *rows = [line.split() for line in listed.splitlines()]
    assert heading == ["KIND", "NAME", "STATE", "DISTRIBUTION", "REASON"]
    version = importlib_metadata.version("ebmcore")
    assert ["executor", "serial", "available", "ebmcore", version] in rows
    assert ["noise", "reference", "available", "ebmcore", version] in rows
    assert rows[-1][0] == "next:"


def test_plugins_says_why_one_cannot_be_had():
    done = process("plugins", env={**os.environ, "EBMCORE_NO_PLUGIN": "executor:threads"})
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("executor  threads")]
    assert row.split()[2] == "blocked"
    assert row.endswith("blocked by 'executor:threads'")
    assert process("plugins", env={**os.environ, "EBMCORE_NO_PLUGIN": "nonesuch"}).returncode == 2
