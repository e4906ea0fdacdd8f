from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from ebmcore.errors import InputError, RunError
from ebmcore.protocols import ArraySpec, Block, Layout, Span
from ebmcore_writers import npy
from ebmcore_writers.npy import Npy


def layout_of(chains=6, draws=4, **arrays):
    spec = ArraySpec((chains, draws, 2), "float32", ("chain", "draw", "x"))
    return Layout(chains, draws, 1, {"draws": spec, **arrays})


def truth_of(layout):
    spec = layout.arrays["draws"]
    return np.arange(np.prod(spec.shape), dtype=spec.dtype).reshape(spec.shape)


def block_of(truth, lo, hi, first, last):
    return Block(lo, hi, first, last, {"draws": torch.from_numpy(truth[lo:hi, first:last].copy())})


def test_numpy_alone_opens_the_files(tmp_path):
    """In another process, without torch and without ebmcore."""
    flags = ArraySpec((6, 4), "bool", ("chain", "draw"))
    layout = layout_of(**{"stats.diverging": flags})
    Npy().prepare(tmp_path, layout, ())
    sink, truth = Npy().open(tmp_path, layout), truth_of(layout)
    sink.write(block_of(truth, 0, 6, 0, 4))
    sink.write(Block(0, 6, 1, 2, {"stats.diverging": torch.ones(6, 1, dtype=torch.bool)}))
    sink.close()
    Npy().finish(tmp_path, layout, {})
    script = (
        "import sys, numpy as np\n"
        "x, d = (np.load(f'{sys.argv[1]}/{n}.npy', mmap_mode='r') for n in ('draws', 'stats.diverging'))\n"
        "assert not {'torch', 'ebmcore'} & set(sys.modules)\n"
        "print(x.dtype, x.shape, float(x.sum()), d.dtype, d.shape, d.sum(0).tolist())\n"
    )
    run = [sys.executable, "-c", script, str(tmp_path)]
    out = subprocess.run(run, check=True, capture_output=True, text=True, timeout=60).stdout
    assert out.split() == f"float32 (6, 4, 2) {truth.sum()} bool (6, 4) [0, 6, 0, 0]".split()


def test_the_file_is_the_one_numpy_would_save(tmp_path):
    layout = layout_of()
    truth = truth_of(layout)
    Npy().prepare(tmp_path, layout, ())
    Npy().open(tmp_path, layout).write(block_of(truth, 0, 6, 0, 4))
    np.save(tmp_path / "reference.npy", truth)
    assert (tmp_path / "draws.npy").read_bytes() == (tmp_path / "reference.npy").read_bytes()


@pytest.mark.parametrize("span", [(0, 6, 0, 4), (2, 5, 1, 3), (1, 2, 0, 1)])
def test_writes_that_are_cut_short_are_carried_on(span, tmp_path, monkeypatch):
    layout = layout_of()
    truth, whole = truth_of(layout), os.pwrite
    Npy().prepare(tmp_path, layout, ())
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: whole(fd, data[:5], offset))
    Npy().open(tmp_path, layout).write(block_of(truth, *span))
    wanted = np.zeros_like(truth)
    wanted[span[0] : span[1], span[2] : span[3]] = truth[span[0] : span[1], span[2] : span[3]]
    np.testing.assert_array_equal(np.load(tmp_path / "draws.npy"), wanted)


def test_a_block_is_synced_after_its_last_write_and_before_the_return(tmp_path, monkeypatch):
    layout = layout_of(**{"stats.lp": ArraySpec((6, 4), "float32", ("chain", "draw"))})
    Npy().prepare(tmp_path, layout, ())
    sink, calls, write, sync = Npy().open(tmp_path, layout), [], os.pwrite, npy._sync
    monkeypatch.setattr(os, "pwrite", lambda fd, *rest: (calls.append(("write", fd)), write(fd, *rest))[1])
    monkeypatch.setattr(npy, "_sync", lambda fd: (calls.append(("sync", fd)), sync(fd))[1])
    sink.write(Block(0, 6, 0, 4, {"draws": torch.zeros(6, 4, 2), "stats.lp": torch.zeros(6, 4)}))
    files = {fd for _, fd in calls}
    assert len(files) == 2
    for fd in files:
        assert [what for what, of in calls if of == fd] == ["write", "sync"]


def test_workers_write_at_once(tmp_path):
    """Four sinks, each with every fourth block, on blocks that share chains and split their draws."""
    layout = layout_of(chains=64, draws=8)
    truth = truth_of(layout)
    Npy().prepare(tmp_path, layout, ())
    spans = [(lo, lo + 8, first, first + 2) for lo in range(0, 64, 8) for first in range(0, 8, 2)]

    def work(part):
        sink = Npy().open(tmp_path, layout)
        for span in spans[part::4]:
            sink.write(block_of(truth, *span))
        sink.close()

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(np.load(tmp_path / "draws.npy"), truth)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_no_memory_map_is_held_and_the_file_is_whole_from_the_start(tmp_path):
    layout = layout_of(chains=100_000, draws=10)
    Npy().prepare(tmp_path, layout, ())
    assert (tmp_path / "draws.npy").stat().st_size == 128 + 100_000 * 10 * 2 * 4
    sink = Npy().open(tmp_path, layout)
    sink.write(Block(0, 64, 0, 10, {"draws": torch.zeros(64, 10, 2)}))
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    sink.close()


def test_a_closed_sink_gives_its_files_back_and_takes_no_more(tmp_path):
    layout = layout_of()
    Npy().prepare(tmp_path, layout, ())
    before = len(os.listdir("/proc/self/fd")) if sys.platform.startswith("linux") else 0
    sink = Npy().open(tmp_path, layout)
    sink.close()
    sink.close()
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(RunError, match=r"must be open to take a block; got it closed"):
        sink.write(block_of(truth_of(layout), 0, 6, 0, 4))


def test_a_disk_that_is_too_small_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=4_000_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(
        RunError, match=r"^disk must have 12\.3 GB free under '.*'; got 4\.0 GB\. Write to another disk, keep"
    ):
        Npy().prepare(tmp_path, layout_of(chains=153_750_000, draws=10), ())
    assert not list(tmp_path.iterdir())
    Npy().prepare(tmp_path, layout_of(), ())


def test_what_a_resumed_run_has_written_needs_no_space_again(tmp_path, monkeypatch):
    layout = layout_of(chains=10_000, draws=10)
    Npy().prepare(tmp_path, layout, ())
    Npy().open(tmp_path, layout).write(block_of(truth_of(layout), 0, 10_000, 0, 10))
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    Npy().prepare(tmp_path, layout, [Span(0, 10_000, 0, 10)])
    with pytest.raises(RunError, match=r"^disk must have 1\.\d MB free under '.*'; got 1\.0 kB\."):
        Npy().prepare(tmp_path, layout_of(chains=10_000, draws=10, other=ArraySpec((10_000, 30), "float32", ())), ())


def test_a_disk_that_fills_up_is_a_clean_error(tmp_path, monkeypatch):
    layout = layout_of()
    Npy().prepare(tmp_path, layout, ())
    sink = Npy().open(tmp_path, layout)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(
        RunError, match=r"draws.npy' must take a block of draws; got: No space left on device\. Make room"
    ):
        sink.write(block_of(truth_of(layout), 0, 6, 0, 4))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "got: No such file"),
        (lambda file: file.write_bytes(b"not numpy at all"), "got: the magic string is not correct"),
        (lambda file: np.save(file, np.zeros((6, 4, 2))), r"got float64 \[6, 4, 2\] in 512 bytes"),
        (lambda file: np.save(file, np.zeros((6, 3, 2), np.float32)), r"got float32 \[6, 3, 2\] in 272 bytes"),
        (lambda file: np.save(file, np.zeros((6, 4, 2), np.float32, order="F")), "Fortran order"),
        (lambda file: os.truncate(file, 200), r"got float32 \[6, 4, 2\] in 200 bytes"),
    ],
)
def test_a_file_that_is_not_this_runs_is_refused(damage, message, tmp_path):
    layout = layout_of()
    Npy().prepare(tmp_path, layout, ())
    damage(tmp_path / "draws.npy")
    for use in (
        lambda: Npy().prepare(tmp_path, layout, [Span(0, 1, 0, 1)]),
        lambda: Npy().open(tmp_path, layout),
        lambda: Npy().read(tmp_path, layout, "draws", slice(0, 1)),
    ):
        with pytest.raises(RunError, match=message) as caught:
            use()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../draws", "a/b", "..", "a\\b", ""])
def test_a_name_cannot_leave_the_folder(name, tmp_path):
    with pytest.raises(InputError, match="must be usable as a file name"):
        Npy().prepare(tmp_path, layout_of(**{name: ArraySpec((6, 4), "float32", ("chain", "draw"))}), ())
    assert not list(tmp_path.parent.glob("draws*"))
    assert not list(tmp_path.iterdir())


def test_what_is_read_cannot_be_changed(tmp_path):
    layout = layout_of()
    Npy().prepare(tmp_path, layout, ())
    part = Npy().read(tmp_path, layout, "draws", slice(1, 3))
    assert isinstance(part, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        part[0] = 1


def test_a_run_of_more_chains_keeps_what_was_committed(tmp_path):
    layout, more = layout_of(chains=6), layout_of(chains=12_345)
    truth = truth_of(more)
    Npy().prepare(tmp_path, layout, ())
    Npy().open(tmp_path, layout).write(block_of(truth, 0, 6, 0, 4))
    Npy().prepare(tmp_path, more, [Span(0, 6, 0, 4)])
    Npy().open(tmp_path, more).write(block_of(truth, 6, 12_345, 0, 4))
    Npy().finish(tmp_path, more, {})
    np.save(tmp_path / "reference.npy", truth)
    assert (tmp_path / "draws.npy").read_bytes() == (tmp_path / "reference.npy").read_bytes()


@pytest.mark.parametrize("at", ["length", "header"])
def test_a_growth_that_was_cut_short_is_taken_up(tmp_path, at, monkeypatch):
    layout, more = layout_of(chains=6), layout_of(chains=12)
    truth = truth_of(more)
    Npy().prepare(tmp_path, layout, ())
    Npy().open(tmp_path, layout).write(block_of(truth, 0, 6, 0, 4))
    if at == "length":
        os.truncate(tmp_path / "draws.npy", (tmp_path / "draws.npy").stat().st_size * 2 - 128)
    else:
        Npy().prepare(tmp_path, more, [Span(0, 6, 0, 4)])
    Npy().prepare(tmp_path, more, [Span(0, 6, 0, 4)])
    np.testing.assert_array_equal(np.load(tmp_path / "draws.npy")[:6], truth[:6])
    assert np.load(tmp_path / "draws.npy").shape == (12, 4, 2)


def test_a_file_of_more_chains_or_of_others_is_not_cut(tmp_path):
    Npy().prepare(tmp_path, layout_of(chains=12), ())
    before = (tmp_path / "draws.npy").read_bytes()
    for other in (layout_of(chains=6), layout_of(chains=24, draws=8)):
        with pytest.raises(RunError, match="must hold"):
            Npy().prepare(tmp_path, other, [Span(0, 6, 0, 4)])
    assert (tmp_path / "draws.npy").read_bytes() == before
