from __future__ import annotations

import gc
import resource
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from ebmcore.errors import RunError
from ebmcore.protocols import ArraySpec, Block, Layout
from ebmcore_writers.memory import Memory


def layout_of(chains, draws=1):
    return Layout(chains, draws, 64, {"draws": ArraySpec((chains, draws, 2), "float32", ("chain", "draw", "x"))})


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_allocation_takes_no_memory_before_it_is_written():
    layout, writer, before = layout_of(2**26), Memory(), resident_bytes()
    writer.prepare(Path("a"), layout, ())
    assert resident_bytes() - before < 2**24  # of 2**29 bytes
    writer.open(Path("a"), layout).write(Block(0, 2**22, 0, 1, {"draws": torch.ones(2**22, 1, 2)}))
    assert resident_bytes() - before >= 2**25


def test_arrays_are_freed_with_the_writer():
    writer = Memory()
    writer.prepare(Path("a"), layout_of(64), ())
    kept = weakref.ref(writer.read(Path("a"), layout_of(64), "draws", slice(0, 64)).base)
    assert kept() is not None
    del writer
    gc.collect()
    assert kept() is None


def test_instances_and_stages_do_not_share_arrays():
    one, two, layout = Memory(), Memory(), layout_of(4)
    for writer, path in ((one, "a"), (one, "a/stage0"), (two, "a")):
        writer.prepare(Path(path), layout, ())
    one.open(Path("a"), layout).write(Block(0, 4, 0, 1, {"draws": torch.ones(4, 1, 2)}))
    assert one.read(Path("a"), layout, "draws", slice(0, 4)).all()
    assert not one.read(Path("a/stage0"), layout, "draws", slice(0, 4)).any()
    assert not two.read(Path("a"), layout, "draws", slice(0, 4)).any()


def test_reading_copies_nothing():
    writer, layout = Memory(), layout_of(8)
    writer.prepare(Path("a"), layout, ())
    whole = writer.read(Path("a"), layout, "draws", slice(0, 8))
    assert np.shares_memory(whole, writer.read(Path("a"), layout, "draws", slice(2, 4)))


def test_the_settings_are_none_and_equal():
    assert Memory() == Memory()
    assert repr(Memory()) == "Memory()"
    assert not Memory.parallel


@pytest.mark.parametrize("chains", [2**55, 2**62])
def test_more_memory_than_there_is(chains):
    with pytest.raises(
        RunError, match=f"^writer 'memory' must have {chains * 8 / 1e9:.1f} GB of memory; the system has less"
    ):
        Memory().prepare(Path("a"), layout_of(chains), ())


def test_a_run_of_another_process_cannot_be_read():
    for use in (
        lambda: Memory().read(Path("a"), layout_of(4), "draws", slice(0, 4)),
        lambda: Memory().open(Path("a"), layout_of(4)),
    ):
        with pytest.raises(RunError, match=r"^writer 'memory' must be asked by the run that filled it; got 'a', which"):
            use()
