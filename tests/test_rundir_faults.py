"""What a disk, another process or a hand may do to a run directory: a message each, and nothing committed lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading

import pytest

import ebmcore as ebm
from ebmcore import rundir
from ebmcore.cli import main
from ebmcore.rundir import checkpoints, files
from tests.test_resume import FILE, WELL, cut, resume, same

KEPT = "Make room on that disk or mend it, and resume"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    (folder / "well.py").write_text(WELL)
    (folder / "job.toml").write_text(FILE)
    assert main(["run", str(folder / "job.toml"), "--quiet", "--out", str(folder / "whole")]) == 0
    return folder


@pytest.fixture
def job(made):
    return made / "job.toml"


@pytest.fixture
def run(made, tmp_path):
    """An unfinished run."""
    shutil.copytree(made / "whole", tmp_path / "whole")
    return cut(tmp_path / "whole", "run", keep=3)


def fails(number, *, after=0, when=lambda *_: True):
    """Return a function that stands for another, and raises after some calls."""

    def wrap(function):
        left = [after]

        def wrapped(*args, **named):
            if when(*args):
                left[0] -= 1
                if left[0] < 0:
                    raise OSError(number, os.strerror(number))
            return function(*args, **named)

        return wrapped

    return wrap


def refused(capsys, code, call):
    assert call() == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


# --------------------------------------------------------------------------------- the disk


@pytest.mark.parametrize("after", [0, 1, 5, 9, 14])
@pytest.mark.parametrize("call", ["pwrite", "write"])
def test_a_disk_that_is_full_loses_nothing_and_the_run_goes_on(made, job, run, capsys, monkeypatch, after, call):
    before = len(rundir.read_log(run).commits)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails(errno.ENOSPC, after=after)(getattr(os, call)))
        code = resume(job, run)
    err = capsys.readouterr().err
    if code == 0:
        assert (call, after) in (("write", 9), ("write", 14)), "the run made fewer calls"
    else:
        assert (code, err.count("\n")) == (1, 1)
        assert "No space left on device" in err
        assert KEPT in err
    assert len(rundir.read_log(run).commits) >= before
    assert resume(job, run) == 0
    same(run, made / "whole")


def test_a_commit_of_which_half_was_written_does_not_count(made, job, run, capsys, monkeypatch):
    write = os.write

    def half(descriptor, data):
        if bytes(data).startswith(b'{"chunk"'):
            write(descriptor, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        err = refused(capsys, 1, lambda: resume(job, run))
    assert f"'{run}/commits.jsonl' must be written for the run to go on; got: No space left on device. {KEPT}" in err
    log = rundir.read_log(run)
    assert (len(log.commits), log.torn) == (3, True)
    assert resume(job, run) == 0
    same(run, made / "whole")


def test_a_checkpoint_that_does_not_fit_on_the_disk_ends_the_run_cleanly(made, job, run, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("EBMCORE_CHECKPOINT_SECONDS", "0")
        patch.setattr(checkpoints, "write_whole", fails(errno.ENOSPC, after=5)(files.write_whole))
        err = refused(capsys, 1, lambda: resume(job, run))
    assert f"{run}/checkpoints/" in err
    assert KEPT in err
    assert resume(job, run) == 0
    same(run, made / "whole")


def test_a_summary_that_cannot_be_written_is_all_that_is_missing(made, job, run, capsys, monkeypatch):
    whole = fails(errno.ENOSPC, when=lambda path, _: path.name == "summary.json")
    with monkeypatch.context() as patch:
        patch.setattr(rundir.directory, "write_whole", whole(files.write_whole))
        err = refused(capsys, 1, lambda: resume(job, run))
    assert f"'{run}/summary.json' must be written for the run to go on; got: No space left on device. {KEPT}" in err
    assert len(rundir.read_log(run).commits) == 8
    assert resume(job, run) == 0
    same(run, made / "whole")


def test_a_folder_that_cannot_be_written_is_refused_before_anything(job, run, tmp_path, capsys, monkeypatch):
    # As root a mode does not stop a write; a file system that is mounted for reading does.
    writes = fails(errno.EROFS, when=lambda path, flags, *_: flags & (os.O_WRONLY | os.O_RDWR))
    makes = fails(errno.EROFS)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", writes(os.open))
        patch.setattr(os, "mkdir", makes(os.mkdir))
        err = refused(capsys, 2, lambda: resume(job, run))
        new = refused(capsys, 2, lambda: main(["run", str(job), "--out", str(tmp_path / "new"), "--quiet"]))
    assert f"'{run}' must be one that can be written; got: Read-only file system" in err
    assert f"`out` must be a folder that can be made; got '{tmp_path / 'new'}' (Read-only file system)" in new
    assert not (tmp_path / "new").exists()


def test_a_folder_that_vanishes_during_the_run_is_said(job, tmp_path, capsys):
    gone = []

    class Remove:
        @ebm.hookimpl
        def ebmcore_chunk_done(self, run):
            gone.append(shutil.rmtree(run.path))

    settings = {"chains": 300, "steps": 9, "out": tmp_path / "run", "chunk_size": 64, "observers": [Remove()]}
    ula = ebm.use("ula", step_size=0.01)
    with pytest.raises(ebm.RunError, match=r"must be written for the run to go on; got: No such file or directory"):
        ebm.sample("double_well", ula, shape=2, **settings)
    assert not (tmp_path / "run").exists()


# ----------------------------------------------------------------------------- two processes

HOLDER = """\
import sys, time
from pathlib import Path
from ebmcore import rundir
with rundir.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(run):
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(run)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("how", ["--resume", "--overwrite"])
def test_a_second_process_is_refused_and_the_first_named(job, run, holder, capsys, how):
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    command = ["run", str(job), "--out", str(run), "--quiet", how]
    err = refused(capsys, 2, lambda: main(command))
    assert f"must have one process at a time; got '{run}', which process {holder.pid} on " in err
    assert {file: file.read_bytes() for file in before} == before
    assert [path.name for path in run.parent.iterdir() if path.name.startswith(".")] == []
    assert main(["verify", str(run)]) == 0, "who only reads may"
    # The lock dies with its process, however that ends.
    holder.kill()
    holder.wait()
    assert main(command) == 0


def test_a_second_call_of_this_process_is_refused_too(tmp_path):
    entered, go = threading.Event(), threading.Event()

    class Wait:
        @ebm.hookimpl
        def ebmcore_run_started(self):
            entered.set()
            go.wait(60)

    def sample(**settings):
        ula = ebm.use("ula", step_size=0.01)
        return ebm.sample("double_well", ula, shape=2, chains=9, steps=9, seed=1, out=tmp_path / "run", **settings)

    first = threading.Thread(target=sample, kwargs={"observers": [Wait()]})
    first.start()
    entered.wait(60)
    try:
        with pytest.raises(ebm.InputError, match=f"which process {os.getpid()} on"):
            sample(resume=True)
    finally:
        go.set()
        first.join()
    assert sample(resume=True).final.shape == (9, 2)


# ----------------------------------------------------------------------------- what was damaged


def test_a_truncated_commit_log_costs_the_last_chunk_alone(made, job, run):
    size = (run / "commits.jsonl").stat().st_size
    os.truncate(run / "commits.jsonl", size - 5)
    assert resume(job, run) == 0
    same(run, made / "whole")
    assert json.loads((run / "summary.json").read_text())["resumed_at"] == 128


@pytest.mark.parametrize(
    ("content", "got"),
    [
        ("", "JSONDecodeError"),
        ('{"job": {', "JSONDecodeError"),
        ("[]", "TypeError"),
        ("{}", "KeyError"),
        ('{"job": {}}', "'energy'"),
        ("\x00\xff", "Error"),
    ],
)
@pytest.mark.parametrize("command", ["show", "verify", "run"])
def test_a_manifest_that_cannot_be_read_is_named(job, run, capsys, content, got, command):
    (run / "manifest.json").write_bytes(content.encode("latin-1"))
    words = [command, str(run)] if command != "run" else ["run", str(job), "--out", str(run), "--resume"]
    err = refused(capsys, 2, lambda: main(words))
    assert f"the manifest.json of '{run}' must be readable; got " in err
    assert "Restore it from a copy." in err


@pytest.mark.parametrize("command", ["show", "verify", "run"])
def test_a_log_that_is_gone_is_named(job, run, capsys, command):
    (run / "commits.jsonl").unlink()
    words = [command, str(run)] if command != "run" else ["run", str(job), "--out", str(run), "--resume"]
    err = refused(capsys, 2, lambda: main(words))
    assert f"the commits.jsonl of '{run}' must be readable; got: No such file or directory. Restore it" in err


def test_a_data_file_that_is_gone_is_named_and_the_others_left_alone(job, run, capsys):
    (run / "data/npy/draws.npy").unlink()
    before = (run / "commits.jsonl").read_bytes()
    err = refused(capsys, 1, lambda: resume(job, run))
    assert "draws.npy' must be the .npy file of this run; got: No such file" in err
    assert (run / "commits.jsonl").read_bytes() == before


def test_what_a_killed_start_left_is_swept_and_an_older_run_stays_until_the_new_one_is_there(
    made, job, tmp_path, monkeypatch
):
    out = tmp_path / "run"
    shutil.copytree(made / "whole", out)
    left = tmp_path / ".run.0123abcd"
    left.mkdir()
    (left / "lock").touch()
    mine = tmp_path / ".run.notmine1"
    mine.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fails(errno.EIO, when=lambda *_: True)(os.replace))
        assert main(["run", str(job), "--out", str(out), "--overwrite", "--quiet"]) == 2
    same(out, made / "whole")
    assert main(["run", str(job), "--out", str(out), "--overwrite", "--quiet", "--set", "run.seed=8"]) == 0
    assert ebm.open_run(out).seed == 8
    assert {path.name for path in tmp_path.iterdir()} == {"run", mine.name}


def test_files_are_durable_in_the_right_order(tmp_path, monkeypatch):
    """Data, then the log that says so; whole files, then their folder."""
    events, names, sync, open_ = [], {}, os.fsync, os.open

    def opened(path, *args, **named):
        descriptor = open_(path, *args, **named)
        names[descriptor] = os.path.basename(str(path))
        return descriptor

    def synced(descriptor):
        events.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")).split(f".{os.getpid()}")[0])
        sync(descriptor)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("reads /proc")
    from ebmcore_writers import npy

    data = npy._sync
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(npy, "_sync", lambda descriptor: (synced(descriptor), data(descriptor)))
    ula = ebm.use("ula", step_size=0.01)
    ebm.sample("double_well", ula, shape=2, chains=100, steps=2, chunk_size=64, executor="serial", out=tmp_path / "run")
    logged = [number for number, name in enumerate(events) if name == "commits.jsonl"]
    # Once when the log is made, then once a chunk: its draws last before it.
    assert len(logged) == 3
    assert [events[number - 1] for number in logged[1:]] == ["draws.npy", "draws.npy"]
    assert events.index("manifest.json") < events.index("draws.npy", logged[0])
    assert events[-2:] == ["summary.json", "run"]
