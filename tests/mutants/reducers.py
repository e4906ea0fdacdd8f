"""Wrong reducers: the mean of all draws with one fault each."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tests.mutants import Mutant


@dataclass(frozen=True)
class Mean:
    """Right, as it stands."""

    def start(self, layout):
        shape = layout.arrays["draws"].shape[2:]
        return {"count": torch.zeros((), dtype=torch.float64), "sum": torch.zeros(shape, dtype=torch.float64)}

    def taken(self, block):
        return block.arrays["draws"].double()

    def update(self, acc, block):
        draws = self.taken(block).flatten(0, 1)
        return {"count": acc["count"] + len(draws), "sum": acc["sum"] + draws.sum(0)}

    def merge(self, a, b):
        return {name: a[name] + b[name] for name in a}

    def finish(self, acc):
        return {"mean": acc["sum"] / acc["count"].clamp(min=1)}


class SkipsFirst(Mean):
    def taken(self, block):
        return super().taken(block)[:, 1:] if block.first == 0 else super().taken(block)


class EveryOther(Mean):
    def taken(self, block):
        return super().taken(block)[:, ::2]


class WholeGroups(Mean):
    def update(self, acc, block):
        return super().update(acc, block) if block.hi - block.lo >= 64 else dict(acc)


class Unweighted(Mean):
    def merge(self, a, b):
        if not a["count"]:
            return dict(b)
        return {"count": a["count"], "sum": (a["sum"] + b["sum"] * a["count"] / b["count"]) / 2}


class LastGroup(Mean):
    def merge(self, a, b):
        return dict(b)


class Grows(Mean):
    def start(self, layout):
        return {"draws": torch.zeros(0, *layout.arrays["draws"].shape[2:])}

    def update(self, acc, block):
        return {"draws": torch.cat([acc["draws"], block.arrays["draws"].flatten(0, 1)])}

    def merge(self, a, b):
        return {"draws": torch.cat([a["draws"], b["draws"]])}

    def finish(self, acc):
        return {"mean": acc["draws"].double().mean(0)}


class Centres(Mean):
    def taken(self, block):
        draws = block.arrays["draws"]
        if draws.is_floating_point():
            draws -= 0.001
        return draws.double()


HELD: dict = {}


class SharedStart(Mean):
    def start(self, layout):
        key = layout.arrays["draws"].shape
        if key not in HELD:
            HELD[key] = super().start(layout)
        return HELD[key]

    def update(self, acc, block):
        draws = self.taken(block).flatten(0, 1)
        acc["count"] += len(draws)
        acc["sum"] += draws.sum(0)
        return acc


class SinglePrecision(Mean):
    def start(self, layout):
        shape = layout.arrays["draws"].shape[2:]
        zero = torch.zeros(shape)
        return {"count": torch.zeros(()), "sum": zero, "squares": zero.clone()}

    def update(self, acc, block):
        draws = block.arrays["draws"].float().flatten(0, 1)
        return {
            "count": acc["count"] + len(draws),
            "sum": acc["sum"] + draws.sum(0),
            "squares": acc["squares"] + draws.square().sum(0),
        }

    def finish(self, acc):
        mean = acc["sum"] / acc["count"]
        return {"variance": acc["squares"] / acc["count"] - mean.square()}


class Numbers(Mean):
    def finish(self, acc):
        return {"mean": float(acc["sum"].mean() / acc["count"].clamp(min=1))}


class GroupsDiffer(Mean):
    def update_groups(self, accs, block):
        draws = block.arrays["draws"].double().flatten(1, 2)
        return {
            "count": accs["count"] + draws.shape[1],
            "sum": accs["sum"] + draws.mean(1) * draws.shape[1] * 1.0000001,
        }

    def merge_groups(self, acc, accs):
        return {name: acc[name] + accs[name].sum(0) for name in acc}


RIGHT = [Mean()]

MUTANTS = [
    Mutant("reducer", make(), wrong, caught)
    for make, wrong, caught in [
        (SkipsFirst, "the first draw of each chain left out", "every_draw_counts"),
        (EveryOther, "every other draw of a block: thinning that depends on the block", "groups_join"),
        (WholeGroups, "the ragged last group left out", "every_draw_counts"),
        (Unweighted, "groups joined without their counts", "groups_join"),
        (LastGroup, "merge keeps the last group alone", "every_draw_counts"),
        (Grows, "an accumulator of all draws", "accumulators"),
        (Centres, "the block's tensors overwritten", "copies"),
        (SharedStart, "one accumulator for all groups, changed in place", "repeats"),
        (SinglePrecision, "variance from sums of squares in float32", "known_statistics"),
        (Numbers, "numbers in place of tensors", "repeats"),
        (GroupsDiffer, "many groups in one call round otherwise", "many_groups"),
    ]
]
