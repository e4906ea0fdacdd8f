"""Cuts of a run: every chain once, bounds on the grid, groups that do not depend on the cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebmcore.errors import InputError
from ebmcore.plan import ALIGN, block_draws, grain_of, group_draws, make_plan


def plan(chains, workers=2, chunk_size=None, grain=ALIGN, position_bytes=8):
    return make_plan(
        chains=chains,
        steps=10,
        grain=grain,
        workers=workers,
        devices=("cpu",) * workers,
        chunk_size=chunk_size,
        position_bytes=position_bytes,
    )


@given(
    chains=st.integers(1, 10**7),
    workers=st.integers(1, 64),
    chunk_size=st.none() | st.integers(1000, 10**6),
    ensemble=st.integers(1, 50),
    position_bytes=st.integers(1, 10**5),
)
def test_every_chain_is_in_one_chunk_and_bounds_are_on_the_grid(chains, workers, chunk_size, ensemble, position_bytes):
    grain = grain_of([ensemble], [])
    assert grain % 64 == 0
    assert grain % ensemble == 0
    cut = plan(min(chains, 3000 * grain), workers, chunk_size, grain, position_bytes)
    edge = 0
    for chunk in cut.chunks:
        assert chunk.lo == edge
        assert chunk.lo % grain == 0
        assert chunk.hi > chunk.lo
        assert chunk.hi % grain == 0 or chunk.hi == cut.chains
        assert (chunk.start, chunk.stop) == (0, 10)
        edge = chunk.hi
    assert edge == cut.chains
    assert cut.workers <= workers


def test_a_given_size_is_rounded_up_to_the_grid():
    assert plan(10_000, chunk_size=65).chunk_size == 128
    with pytest.raises(InputError, match="`chunk_size` must be >= 1"):
        plan(10_000, chunk_size=0)


def test_the_automatic_size_is_chains_a_worker_capped_by_bytes():
    assert plan(20_000, workers=2).chunk_size == 10_048
    small = plan(10**7, workers=2)
    assert small.chunk_size * 8 <= 2**18 + 64 * 8


@pytest.mark.parametrize("chains", [100_000, 300_000, 1_000_000])
def test_workers_get_equal_parts(chains):
    cut = plan(chains, workers=2)
    turns = -(-len(cut.chunks) // 2)
    # The busiest worker has no more than its share, but for rounding to the grid.
    assert turns * cut.chunk_size <= chains / 2 + turns * ALIGN


@given(chunk=st.integers(1, 10**6), draw_bytes=st.integers(1, 10**6), draws=st.integers(1, 10**5), grain=st.just(64))
def test_blocks_are_whole_groups(chunk, draw_bytes, draws, grain):
    group = group_draws(grain, draw_bytes, draws)
    block = block_draws(chunk, draw_bytes, draws, group)
    assert 1 <= group <= block <= draws
    assert block % group == 0 or block == draws
