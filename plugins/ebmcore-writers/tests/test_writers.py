"""What holds for every writer: what is read is what was written, whatever the blocks and their order."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebmcore.errors import InputError, RunError
from ebmcore.protocols import ArraySpec, Block, HasRead, Layout, Span
from ebmcore_writers.memory import Memory
from ebmcore_writers.npy import Npy

WRITERS = [Memory, Npy]


def layout_of(chains, draws, grain=1):
    return Layout(
        chains,
        draws,
        grain,
        {
            "draws": ArraySpec((chains, draws, 2, 3), "float32", ("chain", "draw", "x", "y")),
            "stats.lp": ArraySpec((chains, draws), "float64", ("chain", "draw")),
            "stats.diverging": ArraySpec((chains, draws), "bool", ("chain", "draw")),
            "state.spin": ArraySpec((chains, draws, 5), "uint8", ("chain", "draw", "spin")),
            "stats.n_steps": ArraySpec((chains, draws), "int64", ("chain", "draw")),
            "stats.tree_depth": ArraySpec((chains, draws), "int32", ("chain", "draw")),
        },
    )


def truth_of(layout, seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(0, 2 if spec.dtype == "bool" else 200, spec.shape).astype(spec.dtype)
        for name, spec in layout.arrays.items()
    }


def block_of(truth, lo, hi, first, last):
    return Block(lo, hi, first, last, {k: torch.from_numpy(v[lo:hi, first:last].copy()) for k, v in truth.items()})


def check(writer, path, layout, truth):
    for name, wanted in truth.items():
        got = writer.read(path, layout, name, slice(0, layout.chains))
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("make", WRITERS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_partition_in_any_order_gives_the_same_arrays(make, data):
    chains, draws = data.draw(st.integers(1, 12), "chains"), data.draw(st.integers(1, 6), "draws")
    layout = layout_of(chains, draws)
    truth, writer = truth_of(layout), make()
    spans = []
    edges = [0, *sorted(data.draw(st.sets(st.integers(1, chains), max_size=3), "chain cuts") - {chains}), chains]
    for lo, hi in itertools.pairwise(edges):
        cuts = [0, *sorted(data.draw(st.sets(st.integers(1, draws), max_size=2), "draw cuts") - {draws}), draws]
        spans += [Span(lo, hi, first, last) for first, last in itertools.pairwise(cuts)]
    order = data.draw(st.permutations(spans), "order")
    again = data.draw(st.lists(st.sampled_from(spans), max_size=2), "again")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        writer.prepare(path, layout, ())
        sinks = (
            [writer.open(path, layout), writer.open(path, layout)] if writer.parallel else [writer.open(path, layout)]
        )
        for i, span in enumerate([*order, *again]):
            sinks[i % len(sinks)].write(block_of(truth, *span))
        for sink in sinks:
            sink.close()
        writer.finish(path, layout, {})
        check(writer, path, layout, truth)


@pytest.mark.parametrize("make", WRITERS)
def test_a_part_can_be_read(make, tmp_path):
    layout = layout_of(10, 3)
    truth, writer = truth_of(layout), make()
    assert isinstance(writer, HasRead)
    writer.prepare(tmp_path, layout, ())
    writer.open(tmp_path, layout).write(block_of(truth, 0, 10, 0, 3))
    np.testing.assert_array_equal(writer.read(tmp_path, layout, "draws", slice(2, 7)), truth["draws"][2:7])
    assert writer.read(tmp_path, layout, "draws", slice(3, 3)).shape == (0, 3, 2, 3)


@pytest.mark.parametrize("make", WRITERS)
def test_a_scalar_position_is_stored_as_chains_by_draws(make, tmp_path):
    layout = Layout(4, 2, 1, {"draws": ArraySpec((4, 2), "float32", ("chain", "draw"))})
    truth, writer = {"draws": np.arange(8, dtype=np.float32).reshape(4, 2)}, make()
    writer.prepare(tmp_path, layout, ())
    sink = writer.open(tmp_path, layout)
    sink.write(block_of(truth, 0, 4, 1, 2))
    sink.write(block_of(truth, 0, 4, 0, 1))
    check(writer, tmp_path, layout, truth)


@pytest.mark.parametrize("make", WRITERS)
def test_a_resumed_run_keeps_what_was_committed(make, tmp_path):
    layout = layout_of(8, 2)
    truth, writer = truth_of(layout), make()
    writer.prepare(tmp_path, layout, ())
    sink = writer.open(tmp_path, layout)
    sink.write(block_of(truth, 0, 4, 0, 2))
    sink.write(block_of(truth_of(layout, seed=9), 4, 8, 0, 2))  # not committed: another truth
    sink.close()
    writer.prepare(tmp_path, layout, [Span(0, 4, 0, 2)])
    sink = writer.open(tmp_path, layout)
    sink.write(block_of(truth, 4, 8, 0, 2))
    sink.close()
    writer.finish(tmp_path, layout, {})
    check(writer, tmp_path, layout, truth)


@pytest.mark.parametrize("make", WRITERS)
def test_a_new_run_does_not_keep_an_old_ones_draws(make, tmp_path):
    layout, writer = layout_of(3, 2), make()
    writer.prepare(tmp_path, layout, ())
    writer.open(tmp_path, layout).write(block_of(truth_of(layout), 0, 3, 0, 2))
    writer.prepare(tmp_path, layout, ())
    assert not any(writer.read(tmp_path, layout, name, slice(0, 3)).any() for name in layout.arrays)


@pytest.mark.parametrize("make", WRITERS)
def test_committed_draws_that_are_gone_stop_the_run(make, tmp_path):
    with pytest.raises(RunError, match="must"):
        make().prepare(tmp_path, layout_of(4, 2), [Span(0, 4, 0, 2)])


@pytest.mark.parametrize("make", WRITERS)
@pytest.mark.parametrize(
    ("block", "message"),
    [
        (
            Block(0, 2, 0, 1, {"draws": torch.zeros(2, 2, 3)}),
            r"'draws' must be float32 \[2, 1, 2, 3\]; got float32 \[2, 2, 3\]",
        ),
        (
            Block(0, 1, 0, 1, {"stats.lp": torch.zeros(1, 1)}),
            r"'stats.lp' must be float64 \[1, 1\]; got float32 \[1, 1\]",
        ),
        (Block(3, 5, 0, 1, {"stats.lp": torch.zeros(2, 1).double()}), r"must lie within \[4, 2\].*chains \[3, 5\)"),
        (Block(0, 1, 1, 3, {"stats.lp": torch.zeros(1, 2).double()}), r"must lie within \[4, 2\].*draws \[1, 3\)"),
    ],
)
def test_a_block_that_does_not_fit_is_refused(make, block, message, tmp_path):
    writer, layout = make(), layout_of(4, 2)
    writer.prepare(tmp_path, layout, ())
    with pytest.raises(RunError, match=message):
        writer.open(tmp_path, layout).write(block)
    assert not writer.read(tmp_path, layout, "stats.lp", slice(0, 4)).any()


@pytest.mark.parametrize("make", WRITERS)
def test_an_unknown_array_is_named(make, tmp_path):
    writer, layout = make(), Layout(1, 1, 1, {"draws": ArraySpec((1, 1), "float32", ("chain", "draw"))})
    writer.prepare(tmp_path, layout, ())
    with pytest.raises(InputError, match=r"^no array is named 'drawz'. Stored: draws.$"):
        writer.read(tmp_path, layout, "drawz", slice(0, 1))
    with pytest.raises(InputError, match=r"^no array is named 'drawz'."):
        writer.open(tmp_path, layout).write(Block(0, 1, 0, 1, {"drawz": torch.zeros(1, 1)}))
