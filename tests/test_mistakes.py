"""Every mistake that a user can make in a run file or on the command line, through the real command line.

Each ends with exit code 2 and one line on standard error that names the mistake, its mend and, where it stands in
the run file, its line; nothing is printed, and no file or folder is made, changed or removed.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import ebmcore as ebm
from ebmcore.cli import main

FILE = """\
[model]
use = "double_well"
dim = 2
[sampler]
use = "ula"
step_size = 0.01
[run]
chains = 200
steps = 100
seed = 7
"""

STAGES = """\
[model]
use = "double_well"
dim = 2
[[stage]]
sampler = {use = "ula", step_size = 0.01}
steps = 100
[[stage]]
sampler = {use = "ula", step_size = 0.01}
steps = 100
draws = 10
[run]
chains = 200
"""

MINE = """\
from dataclasses import dataclass

import torch


class Bowl(torch.nn.Module):
    shape = (2,)

    def forward(self, x, y=None):
        return x.square().sum(-1)


class Summed(Bowl):
    def forward(self, x):
        return x.square().sum()


class Loose:
    def __call__(self, x):
        return x.square().sum(-1)


class Raising(Bowl):
    def forward(self, x):
        raise IndexError("list index out of range")


class Refusing(Bowl):
    def __init__(self):
        raise ValueError("no data for this energy")


@dataclass(frozen=True)
class Walk:
    def init(self, energy, position, noise):
        raise KeyError("scale")

    def step(self, energy, state, noise):
        return state, None


@dataclass(frozen=True)
class Plain:
    def init(self, energy, position, noise):
        return position

    def step(self, energy, state, noise):
        return state, None


class NotASampler:
    pass


def begin(ids, noise):
    return ids / 0 + undefined
"""
RAISING = MINE[: MINE.index("raise IndexError")].count("\n") + 1
WALK = MINE[: MINE.index("raise KeyError")].count("\n") + 1
BEGIN = MINE[: MINE.index("return ids / 0")].count("\n") + 1


class Mistake(NamedTuple):
    text: str
    """The run file."""
    line: int | None
    """The line that is named; None where the mistake is not in the file, or is all of it."""
    mistake: str
    mend: str
    more: tuple[str, ...] = ()
    """Words after `run job.toml`."""


def replaced(old, new, line, mistake, mend, text=FILE):
    assert text.count(old) == 1
    return Mistake(text.replace(old, new), line, mistake, mend)


def added(lines, line, mistake, mend, text=FILE):
    """Return a mistake in one of the lines that are added to a file; `line` counts from the first of them."""
    return Mistake(text + lines + "\n", text.count("\n") + line, mistake, mend)


def model(use, line, mistake, mend, more=""):
    return replaced('use = "double_well"\ndim = 2\n', f"use = {use!r}\n{more}\n", line, mistake, mend)


def said(*words, mistake, mend, text=FILE):
    return Mistake(text, None, mistake, mend, words)


BOWL = FILE.replace('"double_well"\ndim = 2', "'./mine.py:Bowl'")
MLP = '[model]\nuse = "mlp"\ndim = 2\nhidden = [8]\nweights = "{}"\n' + FILE.partition("dim = 2\n")[2]

MISTAKES = {
    # ------------------------------------------------------------ the file as such
    "not TOML": replaced("chains = 200", "chains 200", 8, "must be TOML", "Expected '=' after a key"),
    "a key twice": added("seed = 8", 1, "must be TOML", "Cannot overwrite a value"),
    "an empty file": Mistake("", None, "must have [model]; got an empty file", "Add a table [model]."),
    "not UTF-8": Mistake("\udcff" + FILE, 1, "must be UTF-8; got byte 0xff", "Save it as UTF-8."),
    # ------------------------------------------------------------ tables and keys
    "misspelt table": replaced("[sampler]", "[samplr]", 4, "no table named 'samplr'", "Did you mean 'sampler'?"),
    "misspelt list of tables": added("[[writr]]\nuse = 'npy'", 1, "no table named 'writr'", "Did you mean 'writer'?"),
    "misspelt key": replaced("chains", "chians", 8, "[run] has no key named 'chians'", "Did you mean 'chains'?"),
    "misspelt key of the engine": added(
        "[engine]\ndevcies = 'cpu'", 2, "[engine] has no key named 'devcies'", "Did you mean 'devices'?"
    ),
    "misspelt key of a stage": replaced(
        "draws = 10", "draw = 10", 10, "[[stage]] has no key named 'draw'", "Did you mean 'draws'?", STAGES
    ),
    "misspelt setting": replaced(
        "step_size", "stepsize", 6, "`stepsize` is not a setting of sampler 'ula'", "Did you mean `step_size`?"
    ),
    "table where a list belongs": added("[writer]\nuse = 'npy'", 1, "`writer` must be a list", "Write [[writer]]."),
    "list where a table belongs": replaced("[run]", "[[run]]", 7, "`run` must be a table", "Write [run]."),
    "no model": replaced(
        '[model]\nuse = "double_well"\ndim = 2\n', "", None, "must have [model]; got only", "Add a table [model]."
    ),
    "no sampler": replaced(
        '[sampler]\nuse = "ula"\nstep_size = 0.01\n', "", None, "must have [sampler] or [[stage]]", "Add a table"
    ),
    "no use": replaced('use = "ula"\n', "", 4, "`sampler.use` must be given", "Name a plugin: see `ebmcore plugins`."),
    "no chains": replaced("chains = 200\n", "", 7, "`run.chains` must be given", "Add chains = ... to [run]."),
    "no steps": replaced("steps = 100\n", "", 7, "`run.steps` must be given", "Add steps = ... to [run]."),
    # ------------------------------------------------------------ plugins
    "misspelt plugin": replaced('"ula"', '"ulla"', 5, "no sampler is named 'ulla'", "Did you mean 'ula'?"),
    "misspelt plugin of the engine": added(
        "[engine]\nexecutor = 'thread'", 2, "no executor is named 'thread'", "Did you mean 'threads'?"
    ),
    "plugin of another kind": replaced('"ula"', '"gaussian"', 5, "'gaussian' is a model, not a sampler", "Installed: "),
    "plugin in a stage": replaced(
        'ula", step_size = 0.01}\nsteps = 100\n[[', 'ulla"}\nsteps = 100\n[[', 5, "named 'ulla'", "'ula'?", STAGES
    ),
    "module that is not there": model("nonesuch:Model", 2, "failed to load", "No module named 'nonesuch'"),
    "file that is not there": model("./none.py:Model", 2, "must name a file that exists; got", "Check the path"),
    "name that is not in the file": model("./mine.py:Bwol", 2, "got 'Bwol', which is not there", "mean 'Bowl'?"),
    "file of wrong syntax": model("./syntax.py:Bowl", 2, "SyntaxError: expected ':'", "(syntax.py, line 2)"),
    "file that raises when it is loaded": model("./loads.py:Bowl", 2, "ZeroDivisionError", "(loads.py, line 2)"),
    "reference without a name": model("./mine.py", 2, "must be written", "'./file.py:Name'"),
    "class that is no sampler": replaced(
        '"ula"\nstep_size = 0.01', '"./mine.py:NotASampler"', 5, "sampler './mine.py:NotASampler' must be", "Write @"
    ),
    "energy that refuses its settings": model("./mine.py:Refusing", 2, "refuses its settings", "no data for this"),
    "energy that raises": model(
        "./mine.py:Raising", 2, "it raised IndexError: list index out of range", f"(mine.py, line {RAISING}). Check"
    ),
    "energy of one value for all chains": model("./mine.py:Summed", 2, "got []", "such as .sum(-1)."),
    "sampler that raises": replaced(
        '"ula"\nstep_size = 0.01', '"./mine.py:Walk"', 5, "Walk.init must", f"(mine.py, line {WALK}). Mend it there"
    ),
    "sampler whose state is no state": replaced(
        '"ula"\nstep_size = 0.01', '"./mine.py:Plain"', 5, "Plain.init must return a NamedTuple", "Declare one with"
    ),
    # ------------------------------------------------------------ settings
    "required setting left out": replaced(
        "step_size = 0.01\n", "", 4, "`step_size` must be set for sampler 'ula'", "Add it, such as step_size = 0.01."
    ),
    "wrong type": replaced("0.01", "[0.01]", 6, "`step_size` must be a number", "such as 0.01"),
    "string for a number": replaced("0.01", '"0.01"', 6, "`step_size` must be a number", "Write it without quotes."),
    "boolean for an integer": replaced("dim = 2", "dim = true", 3, "`dim` must be a whole number", "Give"),
    "negative step size": replaced("0.01", "-0.1", 6, "`step_size` must be > 0; got -0.1.", "such as 0.01"),
    "infinite step size": replaced("0.01", "inf", 6, "`step_size` must be finite; got inf.", "such as 0.01"),
    "step size of NaN": replaced("0.01", "nan", 6, "`step_size` must be finite; got nan.", "such as 0.01"),
    "two settings that exclude each other": replaced(
        "0.01\n", "0.01\nnoise_std = 0.1\nnoise_scale = 1.0\n", 7, "`noise_std` must be left out beside", "Set one"
    ),
    # ------------------------------------------------------------ [run]
    "chains = 0": replaced("200", "0", 8, "`run.chains` must be >= 1; got 0.", "Choose 1 or more."),
    "chains = 2.5": replaced("200", "2.5", 8, "`run.chains` must be an integer; got 2.5.", "Write a whole number"),
    "chains as a string": replaced("200", '"200"', 8, "must be an integer; got '200'.", "Write it without quotes."),
    "chains as a boolean": replaced("200", "true", 8, "must be an integer; got true.", "Write a whole number"),
    "infinite chains": replaced("200", "inf", 8, "`run.chains` must be", "Write a whole number"),
    "steps not divisible by draws": added(
        "draws = 30", 1, "`draws` must divide `steps`", "Take draws=25, or steps=90."
    ),
    "draws > steps": added("draws = 300", 1, "got draws=300, steps=100.", "Take draws=100, or steps=300."),
    "draws = 0": added("draws = 0", 1, "`run.draws` must be >= 1; got 0.", "Choose 1 or more."),
    "negative warmup": added("warmup = -1", 1, "`run.warmup` must be >= 0; got -1.", "Choose 0 or more."),
    "temperature 0": added("temperature = 0", 1, "`run.temperature` must be > 0", "Choose a positive number"),
    "infinite temperature": added("temperature = inf", 1, "must be finite; got inf.", "Choose a finite number."),
    "negative seed": replaced("seed = 7", "seed = -7", 10, "`run.seed` must be >= 0; got -7.", "Choose 0 or more."),
    "shape that the model refuses": added(
        "shape = [3]", 1, "must be that of the energy, [2]; got [3].", "Leave `shape`"
    ),
    "shape that the model cannot take": Mistake(
        BOWL.replace("Bowl", "Loose") + "shape = [2, 2]\n", 2, "got [3, 2]", "Sum over the position's axes"
    ),
    "no shape anywhere": replaced("dim = 2\n", "", 6, "`shape` must be known; got none", "Give one position's"),
    "a key of [run] in a table of its own": added("[run.seed]\nx = 1", 1, "must be TOML", "Cannot overwrite a value"),
    # ------------------------------------------------------------ stages
    "stages beside [sampler]": added(
        "[[stage]]\nsampler = {use = 'ula'}\nsteps = 5",
        -6,
        "[sampler] must be left out beside [[stage]]",
        "Move it into",
    ),
    "steps of [run] beside stages": added("steps = 10", 1, "`run.steps` must be left out", "Give each", STAGES),
    "draws of [run] beside stages": added("draws = 10", 1, "`run.draws` must be left out", "Give each", STAGES),
    "warmup of [run] beside stages": added("warmup = 1", 1, "`run.warmup` must be left out", "Give each", STAGES),
    "last stage keeps nothing": replaced(
        "draws = 10\n", "", 7, "`draws` of the last stage must be >= 1", "Set draws=1 to keep", STAGES
    ),
    "draws of a stage": replaced(
        "draws = 10", "draws = 30", 10, "`draws` must divide `steps`", "Take draws=25, or steps=90.", STAGES
    ),
    "stage without steps": replaced(
        "steps = 100\ndraws", "draws", 7, "`stage.1.steps` must be given", "Add steps = ... to [[stage]].", STAGES
    ),
    "setting in a stage": replaced(
        "step_size = 0.01}\nsteps = 100\ndraws", "step_size = -1}\nsteps = 100\ndraws", 8, "> 0; got -1", "0.01", STAGES
    ),
    "stage of the wrong type": replaced(
        "steps = 100\ndraws", "steps = '100'\ndraws", 9, "`stage.1.steps` must be an integer", "without quotes", STAGES
    ),
    # ------------------------------------------------------------ [engine]
    "unknown device": added("[engine]\ndevices = 'tpu'", 2, "got 'tpu'", "Seen: "),
    "device that is not there": added("[engine]\ndevices = ['cpu', 'cuda:99']", 2, "got 'cuda:99'", "Seen: "),
    "no device": added("[engine]\ndevices = []", 2, "must name at least one device", "Leave it at 'auto'."),
    "unknown precision": added("[engine]\nprecision = 'float23'", 2, "must be 'float32', ", "Did you mean 'float32'?"),
    "chunk size 0": added("[engine]\nchunk_size = 0", 2, "must be 'auto' or >= 1; got 0.", "Choose 1 or more."),
    "unknown noise": added("[engine]\nnoise = 'refrence'", 2, "no noise is named 'refrence'", "mean 'reference'?"),
    "workers of the executor": added(
        "[engine]\nexecutor = {use = 'threads', workers = 0}", 2, "`workers` must be >= 1; got 0.", "such as 1"
    ),
    # ------------------------------------------------------------ weights, conditions, init
    "weights missing": Mistake(MLP.format("none.safetensors"), 5, "`weights` must name a file; got", "Check the path."),
    "weights of another architecture": Mistake(
        MLP.format("other.safetensors"), 5, "`weights` must fit the architecture; got", "Check the model's settings."
    ),
    "weights that are a pickle": Mistake(
        MLP.format("pickle.pt"),
        5,
        "`weights` must be a safetensors file; got",
        "Save it with safetensors.torch.save_file",
    ),
    "weights of a model without any": replaced(
        "dim = 2",
        'dim = 2\nweights = "w.npy"',
        4,
        "`weights` must go with a model that has some",
        "Leave `weights` out.",
    ),
    "condition of the wrong length": added(
        "[condition]\ny = 'few.npy'", 2, "must have one row a chain, here 200; got shape [5, 2].", "as `shared`", BOWL
    ),
    "condition that the energy does not take": added(
        "[condition]\nz = 'start.npy'", 2, "condition 'z' must be a keyword argument of the energy", "Rename it"
    ),
    "shared that the energy does not take": added(
        "[shared]\nz = 'start.npy'", 2, "shared 'z' must be a keyword argument of the energy", "Rename it"
    ),
    "condition that is not there": added("[condition]\ny = 'no.npy'", 2, "must name a file; got", "Check the path."),
    "condition that is a number": added(
        "[condition]\ny = 3", 2, "`condition.y` must be a string", "Write it in quotes."
    ),
    "condition that is shared too": added(
        "[shared]\ny = 'start.npy'\n[condition]\ny = 'start.npy'",
        4,
        "condition 'y' must not be shared too",
        "Leave one of them out.",
        BOWL,
    ),
    "init of the wrong shape": added("init = 'wide.npy'", 1, "the energy's shape, [2]; got [4].", "with 'auto', or"),
    "shape that is not that of init": added(
        "shape = [2]\ninit = 'wide.npy'", 1, "must be that of `init`, [4]; got [2].", "Leave `shape` out."
    ),
    "init of too few rows": added("init = 'few.npy'", 1, "one row a chain, here 200; got 5", "Leave `chains` out"),
    "init of NaN": added("init = 'nan.npy'", 1, "`init` must hold finite numbers; got nan in row 3.", "Replace it."),
    "init that is not there": added("init = 'no.npy'", 1, "`init` must name a file; got", "Check the path."),
    "init that is a pickle": added(
        "init = 'pickle.npy'", 1, "`init` must be a .npy file of one array", "Save it anew."
    ),
    "misspelt init": added("init = 'unifrom'", 1, "got 'unifrom'", "Did you mean 'uniform'?"),
    "init that is a folder": added("init = '.'", 1, "a run must have a manifest.json", "Check the path."),
    "init that raises": added(
        "init = './mine.py:begin'", 1, "raised NameError: name 'undefined' is not", f"(mine.py, line {BEGIN}). Mend it"
    ),
    "misspelt key of init": added("init = {use = 'normal', sclae = 2}", 1, "key named 'sclae'", "mean 'scale'?"),
    "scale of init": added("init = {use = 'normal', scale = -2}", 1, "`run.init.scale` must be > 0", "Choose a pos"),
    "repeat that does not divide": added(
        "init = {use = 'normal', repeat = 3}", -2, "multiple of `repeat`", "Take 201."
    ),
    # ------------------------------------------------------------ writers, reducers, observers
    "duplicate writer names": added(
        "[[writer]]\nuse = 'npy'\n[[writer]]\nuse = 'npy'", 4, "got 'npy' twice", 'Add name = "..." to one.'
    ),
    "writer's name as a path": added(
        "[[writer]]\nuse = 'npy'\nname = '../x'", 3, "usable as a folder; got '../x'", "Use"
    ),
    "misspelt writer": added("[[writer]]\nuse = 'npz'", 2, "no writer is named 'npz'", "Did you mean 'npy'?"),
    "misspelt reducer": added("[[reducer]]\nuse = 'moment'", 2, "no reducer is named 'moment'", "Installed: "),
    "observer that is none": added("[[observer]]\nuse = './mine.py:Bowl'", 2, "an event", "ebmcore.hookimpl"),
    # ------------------------------------------------------------ the command line
    "--set of an unknown key": said(
        "--set", "run.chians=5", mistake="--set run.chians=5: [run] has no key named 'chians'", mend="mean 'chains'?"
    ),
    "--set of a wrong value": said(
        "--set",
        "sampler.step_size=-1",
        mistake="--set sampler.step_size=-1: `step_size` must be > 0; got -1",
        mend="0.01",
    ),
    "--set without a value": said("--set", "run.chains", mistake="must be TABLE.KEY=VALUE", mend="Write for example"),
    "a blocked plugin that does not exist": said(
        "--no-plugin", "nonesuch", mistake="got 'nonesuch', which is none.", mend="Installed: "
    ),
    "a blocked plugin that is used": said(
        "--no-plugin", "sampler:ula", mistake="is blocked by 'sampler:ula'", mend="Take that out of --no-plugin"
    ),
    "existing output": said("--out", "old", mistake="`out` must not exist yet; got", mend="overwrite it (--overwrite)"),
    "output that holds other files": said(
        "--out", "thesis", "--overwrite", mistake="which holds other files", mend="Choose another."
    ),
    "output under a regular file": said(
        "--out", "mine.py/run", mistake="`out` must be a folder; got", mend="mine.py' is a file. Choose another place."
    ),
    "misspelt option": said("--overwrit", mistake="No such option", mend="--overwrite"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with what the run files name, an older run among it; the current folder is another."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "syntax.py").write_text("import torch\nclass Bowl\n    pass\n")
    (tmp_path / "loads.py").write_text("import torch\nnumber = 1 / 0\n")
    np.save(tmp_path / "start.npy", np.zeros((200, 2), "f4"))
    np.save(tmp_path / "few.npy", np.zeros((5, 2), "f4"))
    np.save(tmp_path / "wide.npy", np.zeros((200, 4), "f4"))
    np.save(tmp_path / "nan.npy", np.where(np.arange(200)[:, None] == 3, math.nan, np.zeros((200, 2), "f4")))
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    torch.save({"a": torch.zeros(3)}, tmp_path / "pickle.pt")
    save_file({"layers.0.weight": torch.zeros(16, 2)}, tmp_path / "other.safetensors")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    ula = ebm.use("ula", step_size=0.1)
    ebm.sample(ebm.use("gaussian", dim=2), ula, chains=64, steps=1, seed=0, out=tmp_path / "old")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tree(folder):
    """Return all that lies in a folder, with the contents of its files."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(folder, capsys, *words):
    """Run a command line that is to be refused; return the one line that it says."""
    before = tree(folder)
    code = main(list(words))
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert err.count("\n") == 1, err
    assert err.startswith("error: ")
    assert tree(folder) == before
    return err


OF_RUN = ("existing output", "output that holds other files", "misspelt option")
"""`plan` has no --overwrite, and says of an older run that it is there."""


@pytest.mark.parametrize(
    ("command", "name"),
    [*(("run", name) for name in MISTAKES), *(("plan", name) for name in MISTAKES if name not in OF_RUN)],
)
def test_a_mistake_is_refused_in_one_line_with_its_mend_and_place(folder, capsys, name, command):
    text, line, mistake, mend, more = MISTAKES[name]
    (folder / "job.toml").write_bytes(text.encode(errors="surrogateescape"))
    err = refused(folder, capsys, command, "job.toml", *more)
    assert mistake in err
    assert mend in err
    if line is not None:
        assert err.startswith(f"error: job.toml:{line}: "), err


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("file", "mistake", "mend"),
    [
        ("thesis", "must be a file; got the folder thesis.", "Name a file in it."),
        ("old", "must be a file; got the folder old.", "Did you mean old/run.toml?"),
        ("jbo.toml", "a run file must exist; got jbo.toml.", "There: job.toml."),
        ("job.toml/x", "a run file must be readable; got job.toml/x", "Check the path."),
    ],
    ids=["a folder", "a run directory", "missing", "under a file"],
)
def test_a_run_file_that_is_no_file(folder, capsys, command, file, mistake, mend):
    (folder / "job.toml").write_text(FILE)
    err = refused(folder, capsys, command, file)
    assert mistake in err
    assert mend in err


# ------------------------------------------------------------------------------------ the disk


@dataclass(frozen=True)
class Disk:
    total: int
    used: int
    free: int


@pytest.mark.parametrize("more", [("--out", "new/run"), ("--out", "old", "--overwrite"), ()], ids=" ".join)
def test_a_disk_that_is_too_small_is_found_before_the_run_and_the_older_run_stays(folder, capsys, monkeypatch, more):
    (folder / "job.toml").write_text(FILE)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(10**9, 10**9 - 100, 100))
    err = refused(folder, capsys, "run", "job.toml", *more)
    assert "disk must have 1.7 kB free under" in err
    assert "got 100 bytes." in err
    assert "Write to another disk, keep fewer draws, or run fewer chains." in err
    assert f"'{folder / (more[1] if more else 'runs/job')}/" in err


@pytest.mark.parametrize("more", [("--out", "new/run"), ("--out", "old", "--overwrite")], ids=" ".join)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES], ids=errno.errorcode.get)
def test_a_disk_that_cannot_be_written_is_found_before_the_run(folder, capsys, monkeypatch, more, number):
    (folder / "job.toml").write_text(FILE)

    def fails(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    err = refused(folder, capsys, "run", "job.toml", *more)
    assert "`out` must be a folder that can be made; got" in err
    assert f"({os.strerror(number)}). Choose another." in err


def test_a_disk_that_fills_during_the_run_is_a_failed_run_that_says_what_to_do(folder, capsys, monkeypatch):
    (folder / "job.toml").write_text(FILE)

    def full(descriptor, data, offset):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    assert main(["run", "job.toml", "--quiet", "--set", "engine.chunk_size=128"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert f"'{folder}/runs/job/data/npy/draws.npy' must take a block of draws; got: No space left on device." in err
    assert "Make room on that disk" in err
    monkeypatch.undo()
    os.chdir(folder)
    assert main(["show", "runs/job"]) == 0
    assert "unfinished, 0 of 2 chunks are committed, 0 of 200 chains" in capsys.readouterr().out


def test_a_commit_log_that_cannot_be_written_is_a_failed_run_that_says_what_to_do(folder, capsys, monkeypatch):
    from ebmcore import rundir

    (folder / "job.toml").write_text(FILE)
    real = rundir.commit

    def full(path, receipt):
        monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        real(path, receipt)

    monkeypatch.setattr(rundir, "commit", full)
    assert main(["run", "job.toml", "--quiet"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "commits.jsonl' must be written for the run to go on; got: full. Make room on that disk" in err


# -------------------------------------------------------------------------------- other commands


@pytest.mark.parametrize(
    ("words", "mistake", "mend"),
    [
        (["rnu", "job.toml"], "no command named 'rnu'", "Did you mean 'ebmcore run'?"),
        (["job.toml"], "no command named 'job.toml'", "Did you mean 'ebmcore run job.toml'?"),
        (["run"], "Missing argument 'FILE'", "See: ebmcore run --help"),
        (["show", "thesis"], "a run must have a manifest.json; got 'thesis'", "Check the path."),
        (["show", "mine.py"], "a run must have a manifest.json; got 'mine.py'", "Check the path."),
        (["show", "none"], "a run must have a manifest.json; got 'none'", "Check the path."),
        (["plugins", "--no-plugin", "ulla"], "got 'ulla', which is none", "Did you mean 'ula'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_on_the_command_line(folder, capsys, words, mistake, mend):
    err = refused(folder, capsys, *words)
    assert mistake in err
    assert mend in err


def test_a_damaged_run_directory_is_named(folder, capsys):
    (folder / "old" / "manifest.json").write_text('{"job": {')
    err = refused(folder, capsys, "show", "old")
    assert "the manifest.json of 'old' must be readable" in err
    assert "Restore it from a copy." in err
