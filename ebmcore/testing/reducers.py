"""What every reducer must do: all draws count, groups join to the whole, and accumulators are plain tensors."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ebmcore.protocols import Block, Chunk, HasGroups, Layout, Receipt
from ebmcore.testing.blocks import CHAINS, DRAWS, GRAIN, SHAPES, Arrays, block_of, layout_of, partition, spoil, truth_of
from ebmcore.testing.conformance import NotApplicable, name_of, require

Acc = Mapping[str, Tensor]

DRAWN = 2
"""Draws that a group is fed at a time: the last feeding of `DRAWS` is a shorter one."""


def _fold(reducer: Any, layout: Layout, truth: Arrays, grain: int = GRAIN, drawn: int = DRAWN) -> Acc:
    """Return what the host makes of a run: groups fed in draw order, joined from `start` on in chain order."""
    whole = reducer.start(layout)
    for lo in range(0, layout.chains, grain):
        acc = reducer.start(layout)
        for _, hi, first, last in partition(layout, layout.chains, drawn):
            hi = min(lo + grain, layout.chains)
            acc = reducer.update(acc, block_of(truth, lo, hi, first, last))
        whole = reducer.merge(whole, acc)
    return dict(whole)


def _finished(reducer: Any, acc: Acc) -> dict[str, Tensor]:
    return dict(reducer.finish({name: value.clone() for name, value in acc.items()}))


def _same(a: Mapping[str, Tensor], b: Mapping[str, Tensor], exactly: bool) -> str | None:
    if set(a) != set(b):
        return f"{sorted(b)} in place of {sorted(a)}"
    for name, x in a.items():
        y = b[name]
        if x.shape != y.shape:
            return f"`{name}` {list(y.shape)} in place of {list(x.shape)}"
        close = (
            torch.equal(x.nan_to_num(), y.nan_to_num())
            if exactly
            else torch.allclose(x.double(), y.double(), rtol=1e-4, atol=1e-5, equal_nan=True)
        )
        if not close:
            return f"`{name}` that differs by {(x.double() - y.double()).abs().max():.3g}"
    return None


def check_accumulators(reducer: Any, seed: int) -> None:
    """Accumulators are tables of CPU tensors, whose names, shapes and dtypes stay those of `start`."""
    for shape in SHAPES.values():
        layout = layout_of(shape)
        truth = truth_of(layout, seed)
        acc = reducer.start(layout)
        stages = {"start": acc}
        stages["update"] = after = reducer.update(dict(acc), block_of(truth, 0, GRAIN, 0, 2))
        stages["update of a ragged group"] = tail = reducer.update(
            reducer.start(layout), block_of(truth, 3 * GRAIN, CHAINS, 0, 2)
        )
        stages["merge"] = reducer.merge(after, tail)
        kinds = {}
        for stage, each in stages.items():
            require(
                isinstance(each, Mapping) and all(isinstance(value, Tensor) for value in each.values()),
                f"{stage} of {name_of(reducer)} must return a mapping of names to tensors",
                type(each).__name__
                if not isinstance(each, Mapping)
                else ", ".join(f"{k}: {type(v).__name__}" for k, v in each.items()),
                "Use torch.zeros([]) for a count",
            )
            kinds[stage] = {name: (tuple(value.shape), value.dtype, value.device.type) for name, value in each.items()}
            require(
                kinds[stage] == kinds["start"],
                f"accumulators of {name_of(reducer)} must keep the names, shapes and dtypes of `start`, on the CPU",
                f"{kinds[stage]} after {stage}, {kinds['start']} after start",
                "Use memory of a fixed size: the host stacks the accumulators of many groups",
            )
        receipt = Receipt(Chunk(0, GRAIN, 0, 1), "cpu", 0.0, {"it": after})
        back = Receipt.from_json(receipt.to_json()).reduced["it"]
        require(
            _same(after, back, exactly=True) is None,
            f"accumulators of {name_of(reducer)} must survive being saved",
            _same(after, back, exactly=True),
            "Use floating point, integers or bools that numpy has too",
        )


def check_groups_join(reducer: Any, seed: int) -> None:
    """Groups of chains that are joined, and draws that are fed a few at a time, give the statistic of the whole."""
    for shape in SHAPES.values():
        layout = layout_of(shape)
        truth = truth_of(layout, seed)
        whole = _finished(reducer, reducer.update(reducer.start(layout), block_of(truth, 0, CHAINS, 0, DRAWS)))
        for grain, drawn in ((CHAINS, 1), (GRAIN, DRAWS), (GRAIN, DRAWN)):
            found = _same(whole, _finished(reducer, _fold(reducer, layout, truth, grain, drawn)), exactly=False)
            require(
                found is None,
                f"{name_of(reducer)} must give the statistic of all draws in groups of {grain} chains, fed {drawn} "
                "draws at a time",
                found,
                "Count what a block holds (the last is shorter), and let `merge` weigh each side by its count",
            )


def check_every_draw_counts(reducer: Any, seed: int) -> None:
    """Any draw of any chain, once changed, changes the result: the first, the last, and those of the ragged group."""
    layout = layout_of()
    truth = truth_of(layout, seed)
    before = _finished(reducer, _fold(reducer, layout, truth))
    cells = [(chain, draw) for chain in (0, GRAIN - 1, GRAIN, CHAINS - 1) for draw in range(DRAWS)]
    for chain, draw in cells:
        changed = False
        for amount in (50.0, -50.0, 0.5):
            other = {name: each.clone() for name, each in truth.items()}
            for each in other.values():
                each[chain, draw] = (
                    ~each[chain, draw]
                    if each.dtype is torch.bool
                    else each[chain, draw] + torch.tensor(amount).to(each.dtype)
                )
            changed |= _same(before, _finished(reducer, _fold(reducer, layout, other)), exactly=True) is not None
        require(
            changed,
            f"{name_of(reducer)} must take in every draw of every chain",
            f"the same result with another draw {draw} of chain {chain} (of {CHAINS} chains by {DRAWS} draws)",
            "Use all of the block's arrays, [0, hi - lo) by [0, last - first)",
        )


def check_known_statistics(reducer: Any, seed: int) -> None:
    """Where the result has a `mean`, `variance`, `sd`, `min` or `max` of the draws, it is that of numpy."""
    layout = layout_of(dtype="float32")
    truth = truth_of(layout, seed)
    # Far from 0, where sums of squares lose their digits.
    truth["draws"] = truth["draws"] + 1000.0
    found = _finished(reducer, _fold(reducer, layout, truth))
    draws = truth["draws"].double().flatten(0, 1)
    known = {
        "mean": draws.mean(0),
        "variance": draws.var(0),
        "sd": draws.std(0),
        "min": draws.amin(0),
        "max": draws.amax(0),
    }
    for name, expected in known.items():
        if name in found and found[name].shape == expected.shape:
            value = found[name].double()
            require(
                torch.allclose(value, expected, rtol=1e-3 if name in ("variance", "sd") else 1e-6),
                f"`{name}` of {name_of(reducer)} must be that of all draws, over chains and draws",
                f"{value[0]:.6g} in place of {expected[0]:.6g} in the first coordinate",
                "Divide by the right count (count - 1 for a variance), and sum deviations from the mean in float64",
            )


def check_copies(reducer: Any, seed: int) -> None:
    """When `update` returns, the block's tensors may be overwritten; the reducer does not overwrite them itself."""
    layout = layout_of()
    truth = truth_of(layout, seed)
    acc, expected = reducer.start(layout), reducer.start(layout)
    for _, _, first, last in partition(layout, CHAINS, DRAWN):
        block = block_of(truth, 0, CHAINS, first, last)
        before = {name: tensor.clone() for name, tensor in block.arrays.items()}
        acc = reducer.update(acc, block)
        require(
            all(torch.equal(tensor, before[name]) for name, tensor in block.arrays.items()),
            f"{name_of(reducer)} must leave the tensors of a block as they are",
            "a block that was overwritten",
            "Work on a copy",
        )
        spoil(block)
        expected = reducer.update(expected, block_of(truth, 0, CHAINS, first, last))
    found = _same(_finished(reducer, expected), _finished(reducer, acc), exactly=True)
    require(
        found is None,
        f"{name_of(reducer)} must keep nothing of a block but what is in the accumulator",
        f"{found} once the block's memory was used again",
        "Clone what is kept: the host fills the same memory with the next draws",
    )


def check_repeats(reducer: Any, seed: int) -> None:
    """The same draws give the same bits again, and `finish` may be called twice."""
    layout = layout_of()
    truth = truth_of(layout, seed)
    acc = _fold(reducer, layout, truth)
    first = _finished(reducer, acc)
    for how, other in (
        ("when the run is repeated", _finished(reducer, _fold(reducer, layout, truth))),
        ("when finish is called again", _finished(reducer, acc)),
    ):
        found = _same(first, other, exactly=True)
        require(
            found is None,
            f"{name_of(reducer)} must give the same bits {how}",
            found,
            "Return a new accumulator from `start` each time, and keep nothing in the reducer",
        )
    require(
        all(isinstance(value, Tensor) for value in first.values()) and bool(first),
        f"finish of {name_of(reducer)} must return a mapping of names to tensors",
        {name: type(value).__name__ for name, value in first.items()},
        "Use torch.tensor(value) for a number",
    )


def check_many_groups(reducer: Any, seed: int) -> None:
    """`update_groups` and `merge_groups` give the bits of one group at a time."""
    if not isinstance(reducer, HasGroups):
        raise NotApplicable("it has no `update_groups`: the host calls `update` group by group")
    whole: Any = reducer
    layout = layout_of(chains=3 * GRAIN)
    truth = truth_of(layout, seed)
    start = whole.start(layout)
    accs: Acc = {name: torch.stack([value] * 3) for name, value in start.items()}
    for _, _, first, last in partition(layout, layout.chains, DRAWN):
        block = block_of(truth, 0, layout.chains, first, last)
        stacked = {name: value.reshape(3, GRAIN, *value.shape[1:]) for name, value in block.arrays.items()}
        accs = reducer.update_groups(accs, Block(*block[:4], stacked))
    found = _same(_fold(reducer, layout, truth), reducer.merge_groups(start, accs), exactly=True)
    require(
        found is None,
        f"{name_of(reducer)} must give the same bits with many groups in one call",
        found,
        "Reduce each group by itself: torch may round a sum otherwise when there are more",
    )


def check_in_a_run(reducer: Any, seed: int) -> None:
    """`ebmcore.sample` gives the same bits in one thread and in several, with chunks of any size."""
    import ebmcore as ebm
    from ebmcore.executors.serial import Serial
    from ebmcore.executors.threads import Threads
    from ebmcore.testing.own import Step, Tray
    from ebmcore.testing.targets import Gaussian

    def reduced(executor: Any, size: int) -> dict[str, Tensor]:
        with tempfile.TemporaryDirectory() as folder:
            result = ebm.sample(
                Gaussian(),
                Step(),
                chains=CHAINS,
                steps=6,
                draws=3,
                seed=seed,
                executor=executor,
                chunk_size=size,
                devices="cpu",
                noise="reference",
                writers=[Tray()],
                reducers=[reducer],
                out=f"{folder}/run",
                progress=False,
            )
            (only,) = result.reduced.values()
            return {name: torch.as_tensor(value) for name, value in only.items()}

    expected = reduced(Serial(), 4 * GRAIN)
    for executor, size in ((Serial(), GRAIN), (Threads(workers=2), GRAIN)):
        found = _same(expected, reduced(executor, size), exactly=True)
        require(
            found is None,
            f"{name_of(reducer)} must give the same bits in {type(executor).__name__.lower()} in chunks of {size}",
            found,
            "Let the result depend on the accumulators alone",
        )


CHECKS = (
    check_accumulators,
    check_groups_join,
    check_every_draw_counts,
    check_known_statistics,
    check_copies,
    check_repeats,
    check_many_groups,
    check_in_a_run,
)
