"""`verify` names what is not what was written, and `--resume` runs that again."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

import ebmcore as ebm
from ebmcore.cli import main
from tests.test_resume import FILE, WELL, cut, same


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify")
    (folder / "well.py").write_text(WELL)
    (folder / "job.toml").write_text(FILE.replace("chunk_size = 64", "chunk_size = 128"))
    assert main(["run", str(folder / "job.toml"), "--quiet", "--out", str(folder / "whole")]) == 0
    return folder


@pytest.fixture
def run(made, tmp_path):
    shutil.copytree(made / "whole", tmp_path / "run")
    return tmp_path / "run"


def verified(run, capsys):
    code = main(["verify", str(run)])
    return code, capsys.readouterr().out.splitlines()


def flip(file, at):
    with file.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)
        stream.seek(at)
        stream.write(bytes([byte[0] ^ 1]))


def test_a_run_that_is_whole(run, capsys):
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*")}
    code, lines = verified(run, capsys)
    # Draws and, of the second stage, three statistics: 500 chains of 3 and 4 draws of 2 floats, lp, rate and a flag.
    size = 500 * (3 * 2 * 4 + 4 * (2 * 4 + 4 + 4 + 1))
    assert (code, lines[0]) == (0, f"{run}: 4 chunks committed, 500 of 500 chains, {size / 1e3:.1f} kB read")
    assert lines[1:] == ["whole", f"next: ebmcore show {run}"]
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*")} == before


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize(
    ("file", "row", "draws", "words"),
    [
        ("draws.npy", 200, 4 * 2 * 4, "chains [128, 256) of 'draws' in '{}/data/npy/draws.npy'"),
        ("0/draws.npy", 499, 3 * 2 * 4, "chains [384, 500) of 'draws' in '{}/data/npy/0/draws.npy'"),
        ("stats.lp.npy", 0, 4 * 4, "chains [0, 128) of 'stats.lp' in '{}/data/npy/stats.lp.npy'"),
    ],
)
def test_a_flipped_bit_is_named_by_chunk_array_and_file_and_runs_again(made, run, capsys, file, row, draws, words):
    flip(run / "data/npy" / file, 128 + row * draws + 2)
    code, lines = verified(run, capsys)
    assert code == 1
    assert [line for line in lines if line.startswith("  damaged")] == [
        f"  damaged      {words.format(run)}: it is not what was written"
    ]
    again = shlex.split(lines[-1].removeprefix("next: ebmcore "))
    assert again == ["run", str(made / "job.toml"), "--out", str(run), "--resume"]
    assert main([*again, "--quiet"]) == 0
    warning = capsys.readouterr().err
    assert warning.startswith(f"warning: '{run}' is damaged, and its damaged chunks run again: {words.format(run)}")
    assert warning.count("\n") == 1
    same(run, made / "whole")
    assert verified(run, capsys)[0] == 0
    assert json.loads((run / "summary.json").read_text())["resumed_at"] in (372, 384)


def test_a_damaged_line_of_the_log_is_named_and_its_chunk_runs_again(made, run, capsys):
    flip(run / "commits.jsonl", 20)
    code, lines = verified(run, capsys)
    assert code == 1
    assert f"  damaged      line 1 of {run}/commits.jsonl" in lines
    assert main(["run", str(made / "job.toml"), "--out", str(run), "--resume", "--quiet"]) == 0
    same(run, made / "whole")


def test_an_unfinished_run_is_whole_as_far_as_it_goes(made, run, capsys):
    code, lines = verified(cut(run, keep=2), capsys)
    assert code == 0
    assert lines[1] == "whole so far, and unfinished: resume"
    assert lines[-1].endswith(f"--out {run.with_name('cut')} --resume")


@pytest.mark.parametrize("how", ["gone", "cut", "other"])
def test_a_file_that_is_gone_is_named_for_every_chunk(run, capsys, how):
    file = run / "data/npy/draws.npy"
    {"gone": file.unlink, "cut": lambda: os.truncate(file, 300), "other": lambda: np.save(file, np.zeros(3))}[how]()
    code, lines = verified(run, capsys)
    assert code == 1
    assert sum("'draws'" in line for line in lines) == 4
    assert "  in all       4 of writer npy's" in lines


def test_it_imports_no_plugin_but_the_writer(run):
    code = (
        "import json, sys\nfrom ebmcore.cli import main\n"
        f"main(['verify', {str(run)!r}])\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = json.loads(done.stdout.splitlines()[-1])
    assert [name for name in imported if name.startswith("ebmcore_")] == ["ebmcore_writers"]


def test_what_is_no_run_is_refused(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 2
    assert "a run must have a manifest.json" in capsys.readouterr().err


def test_a_log_of_another_run_is_refused(run, tmp_path, capsys):
    ula = ebm.use("ula", step_size=0.1)
    ebm.sample("double_well", ula, shape=3, chains=100, steps=2, out=tmp_path / "other")
    shutil.copy(tmp_path / "other/commits.jsonl", run)
    assert main(["verify", str(run)]) == 2
    assert "must be of its run; got 1 lines of another" in capsys.readouterr().err
