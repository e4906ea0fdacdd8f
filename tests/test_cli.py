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

import ebmcore.sampling
from ebmcore import errors
from ebmcore.cli import main

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
    """Stands for `ebmcore.sampling.sample`: notes its arguments, and answers as it would."""

    def __init__(self):
        self.arguments = {}
        self.raises = self.warns = None
        self.moments = {"shape": [2], "mean": [0.5, -0.25], "sd": [1.0, 2.0]}

    def __call__(self, **arguments):
        self.arguments = arguments
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
        return types.SimpleNamespace(path=out, seed=7, summary=lambda: summary)


@pytest.fixture
def sampling(monkeypatch):
    stub = Sampling()
    monkeypatch.setattr(ebmcore.sampling, "sample", stub)
    return stub


# ---------------------------------------------------------------------------------- imports


@pytest.mark.parametrize(
    "args",
    [["--version"], ["--help"], [], ["plugins"], ["plugins", "list"], ["run", "--help"], ["nonesuch"]],
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
    for words in ("ebm.sample", "ebmcore run", "ebmcore.protocols"):
        assert words in out


def test_help_lists_the_commands(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "plugins" in out
    assert "run" in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["rum"], "no command named 'rum'. Did you mean 'ebmcore run'? Commands: plugins, run."),
        (["zzz"], "no command named 'zzz'. No program named 'ebmcore-zzz' is on PATH either."),
        (["job.toml"], "Did you mean 'ebmcore run job.toml'?"),
        (["../x"], "no command named '../x'"),
        (["--versoin"], "--versoin"),
        (["run"], "Missing argument 'FILE'. See: ebmcore run --help"),
        (["run", "x.toml", "--resume"], "--resume"),
        (["run", "none.toml"], "a run file must exist; got none.toml"),
        (["run", "."], "must be a file; got the folder"),
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
        "writers": ({"use": "npy"},),
        "reducers": (),
        "observers": (),
        "base": job.parent,
        "out": job.parent / "runs" / "doublewell",
        "overwrite": False,
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
    assert following == """next: python -c 'import ebmcore as ebm; print(ebm.open_run("a dir"))'"""


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
        (KeyboardInterrupt(), 130, "error: stopped by the user; what was committed stays.\n"),
        (
            ZeroDivisionError("x"),
            1,
            "error: ZeroDivisionError: x. This is a bug in ebmcore or a plugin: rerun with --debug to see where.\n",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
@pytest.mark.parametrize("debug", [(), ("--debug",)], ids=["", "debug"])
def test_errors_are_one_line_and_a_code(job, sampling, capsys, error, code, words, debug):
    sampling.raises = error
    assert main(["run", str(job), *debug]) == code
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
    following = done.stdout.splitlines()[-1].removeprefix("next: python ")
    shown = subprocess.run([sys.executable, *shlex.split(following)], capture_output=True, text=True, cwd=job.parent)
    assert "256 chains x 10 steps" in shown.stdout
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
    assert err.splitlines()[-1] == "error: stopped by the user; what was committed stays."
    assert "Traceback" not in err


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
