"""A chain's numbers depend on its seed, id, step and position: not on its batch, its worker or what ran before."""

from __future__ import annotations

import dataclasses
import random
import tempfile
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ebmcore.states import map_state
from ebmcore.testing.claims import law_of
from ebmcore.testing.conformance import NotApplicable, name_of, require
from ebmcore.testing.own import TRAY, Stops, by_files
from ebmcore.testing.settings_checks import reference, table_of
from ebmcore.testing.walking import (
    STEPS,
    Pace,
    bind,
    cuts_of,
    difference,
    ensemble_of,
    rows,
    support_of,
    target_of,
    walk,
    whole_ensembles,
)

BATCH = "Draw from `noise` alone, in the same calls whatever the batch holds, and let no row look at another"


def check_split(sampler: Any, seed: int) -> None:
    """Chunks of any size, the last one ragged, give the bits of the whole."""
    target, cuts = target_of(sampler), cuts_of(sampler)
    whole = walk(sampler, bind(target), range(cuts[-1]), seed=seed)
    for lo, hi in pairwise(cuts):
        part = walk(sampler, bind(target), range(lo, hi), seed=seed)
        found = difference(rows(whole, lo, hi), rows(part, 0, hi - lo))
        require(
            found is None,
            f"{name_of(sampler)} must give the same bits for the chains {lo} ... {hi - 1} alone as in a batch of "
            f"{cuts[-1]}",
            found,
            BATCH,
        )


def check_split_conditions(sampler: Any, seed: int) -> None:
    """With a condition a chain, chunks give the bits of the whole too."""
    if support_of(sampler) != "real":
        return
    target, cuts = target_of(sampler), cuts_of(sampler)
    centre = torch.linspace(-3.0, 3.0, cuts[-1])
    whole = walk(sampler, bind(target, centre=centre), range(cuts[-1]), seed=seed)
    part = walk(sampler, bind(target, centre=centre[cuts[1] : cuts[2]]), range(cuts[1], cuts[2]), seed=seed)
    found = difference(rows(whole, cuts[1], cuts[2]), rows(part, 0, cuts[2] - cuts[1]))
    require(
        found is None,
        f"{name_of(sampler)} must let each chain have its own condition, whatever its batch",
        found,
        "Give a part of the chains energy.select(index), so that conditions follow",
    )


def check_chains_are_independent(sampler: Any, seed: int) -> None:
    """Other positions in the other chains of a batch change nothing in a chain."""
    target, size = target_of(sampler), ensemble_of(sampler)
    n = whole_ensembles(sampler, 64 * size)
    own = walk(sampler, bind(target), range(n), seed=seed)
    moved: Tensor = own.states[0][0].clone()
    moved[size:] = moved[size:].flip(0) if support_of(sampler) != "real" else 3.0 * moved[size:] - 1.0
    begin = walk(sampler, bind(target), range(n), steps=0, seed=seed).states[0][0]
    one = walk(sampler, bind(target), range(n), seed=seed, position=begin)
    two = walk(sampler, bind(target), range(n), seed=seed, position=torch.cat([begin[:size], moved[size:]]))
    found = difference(rows(one, 0, size), rows(two, 0, size))
    require(
        found is None,
        f"{name_of(sampler)} must step each {'chain' if size == 1 else 'ensemble'} by itself",
        f"{found} once others began elsewhere",
        "Reduce over the axes of one position only, and draw the same whatever is accepted",
    )
    for lo in range(0, 8 * size, size):
        alone = walk(sampler, bind(target), range(lo, lo + size), seed=seed, position=begin[lo : lo + size]).last
        # Vector and scalar code may round differently: close is enough.
        require(
            torch.allclose(alone, one.last[lo : lo + size], rtol=1e-3, atol=1e-3),
            f"{name_of(sampler)} must step each {'chain' if size == 1 else 'ensemble'} by itself",
            f"another position for chain {lo} alone than in a batch of {n}, after {STEPS} steps",
            "Reduce over the axes of one position only, and accept or reject chain by chain",
        )


class _Recorded:
    """A noise that notes what it is asked for, with shapes a row."""

    def __init__(self, inner: Any, calls: list[tuple[Any, ...]]) -> None:
        self._inner, self._calls = inner, calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def perturb_(self, x: Tensor, scale: float | Tensor, /, **given: Any) -> Tensor:
        self._calls.append(("perturb_", tuple(x.shape[1:]), x.dtype))
        result: Tensor = self._inner.perturb_(x, scale, **given)
        return result

    def normal(self, like: Tensor, /) -> Tensor:
        self._calls.append(("normal", tuple(like.shape[1:]), like.dtype))
        result: Tensor = self._inner.normal(like)
        return result

    def uniform(self, like: Tensor, /) -> Tensor:
        self._calls.append(("uniform", tuple(like.shape[1:]), like.dtype))
        result: Tensor = self._inner.uniform(like)
        return result

    def uniform_per_chain(self) -> Tensor:
        self._calls.append(("uniform_per_chain",))
        result: Tensor = self._inner.uniform_per_chain()
        return result

    def shared(self, k: int, /) -> Tensor:
        self._calls.append(("shared", k))
        result: Tensor = self._inner.shared(k)
        return result

    def select(self, index: Tensor, /) -> _Recorded:
        return _Recorded(self._inner.select(index), self._calls)

    def expand(self, k: int, /) -> _Recorded:
        return _Recorded(self._inner.expand(k), self._calls)


def check_noise_calls(sampler: Any, seed: int) -> None:
    """The calls of `noise` of a step are the same whatever the batch holds."""
    target, seen = target_of(sampler), []
    for n, scale in ((whole_ensembles(sampler, 1), 1.0), (whole_ensembles(sampler, 33), 1.0), (200, 6.0)):
        n = whole_ensembles(sampler, n)
        calls: list[tuple[Any, ...]] = []
        bound = bind(target)
        position = walk(sampler, bound, range(n), steps=0, seed=seed).states[0][0]
        if support_of(sampler) == "real":
            position = scale * position

        def watch(noise: Any, calls: list[tuple[Any, ...]] = calls) -> _Recorded:
            return _Recorded(noise, calls)

        walk(sampler, bound, range(n), seed=seed, position=position, watch=watch)
        seen.append(calls)
    require(
        seen[0] == seen[1] == seen[2],
        f"{name_of(sampler)} must make the same calls of `noise` whatever the batch holds",
        f"{len(seen[0])}, {len(seen[1])} and {len(seen[2])} calls in {STEPS} steps of three batches"
        if len({len(each) for each in seen}) > 1
        else "other shapes or kinds of calls",
        "Draw for every chain at every step, and choose with torch.where afterwards",
    )


def _noise_calls(sampler: Any, seed: int) -> list[tuple[Any, ...]]:
    calls: list[tuple[Any, ...]] = []
    bound, n = bind(target_of(sampler)), whole_ensembles(sampler, 3)
    walk(sampler, bound, range(n), seed=seed, watch=lambda noise: _Recorded(noise, calls))
    return calls


def _needs_noise(sampler: Any, seed: int) -> None:
    if law_of(sampler) == "other" and not _noise_calls(sampler, seed):
        raise NotApplicable('it draws nothing, and says law = "other"')


def check_chains_differ(sampler: Any, seed: int) -> None:
    """Chains that begin at one point part: each has noise of its own."""
    _needs_noise(sampler, seed)
    target = target_of(sampler)
    bound, n = bind(target), whole_ensembles(sampler, 64)
    begin = walk(sampler, bound, range(n), steps=0, seed=seed).states[0][0]
    # Ensembles need rows that differ: then all of them begin alike.
    size = ensemble_of(sampler)
    position = begin[:size].repeat(n // size, *(1,) * (begin.ndim - 1)).contiguous()
    last = walk(sampler, bound, range(n), steps=30, seed=seed, position=position).last
    distinct = len(set(map(tuple, last.reshape(n, -1).tolist())))
    wanted = n // 2 if support_of(sampler) == "real" and size == 1 else 2
    require(
        distinct >= wanted,
        f"{name_of(sampler)} must give each chain randomness of its own",
        f"{distinct} different positions among {n} chains that began at one point, after 30 steps",
        "Draw with `noise` in the shape of the position (noise.shared is the same for all chains), and move",
    )


def check_repeats(sampler: Any, seed: int) -> None:
    """A run gives the same bits again, in an instance that has run before; another seed gives others."""
    target, n = target_of(sampler), whole_ensembles(sampler, 64)
    first = walk(sampler, bind(target), range(n), seed=seed)
    again = walk(sampler, bind(target), range(n), seed=seed)
    found = difference(rows(first, 0, n), rows(again, 0, n))
    require(
        found is None,
        f"{name_of(sampler)} must give the same bits when a run is repeated",
        found,
        "Keep what a step needs in the state alone, not in the sampler, its class or module, and draw from `noise`",
    )
    if law_of(sampler) == "other" and not _noise_calls(sampler, seed):
        return
    begin = first.states[0][0]
    one, other = (
        walk(sampler, bind(target), range(n), steps=30, seed=each, position=begin).last for each in (seed, seed + 1)
    )
    require(
        not torch.equal(one, other),
        f"{name_of(sampler)} must draw from `noise`",
        "the same positions with another seed, after 30 steps",
        "Use noise.normal, noise.uniform or noise.perturb_ in each step",
    )


def check_interleaved(sampler: Any, seed: int) -> None:
    """Two chunks that are stepped in turn by one instance, as threads do, do not disturb each other."""
    target = target_of(sampler)
    cuts = cuts_of(sampler)
    parts = [range(cuts[0], cuts[1]), range(cuts[1], cuts[2])]
    alone = [walk(sampler, bind(target), part, seed=seed) for part in parts]
    paces = [Pace(sampler, bind(target), part, seed=seed) for part in parts]
    for _ in range(STEPS):
        for pace in paces:
            pace.step()
    for part, one, pace in zip(parts, alone, paces, strict=True):
        found = difference(rows(one, 0, len(part)), rows(pace.walk, 0, len(part)))
        require(
            found is None,
            f"{name_of(sampler)} must keep nothing between calls but the state",
            f"{found} when another chunk was stepped in between",
            "Move buffers and counters from the sampler into its state",
        )


def check_global_randomness(sampler: Any, seed: int) -> None:
    """No global random numbers are used or reseeded: torch's, numpy's and Python's."""
    target, n = target_of(sampler), whole_ensembles(sampler, 64)
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002  # it is what is looked at
    try:
        results, touched = [], []
        for value in (1, 2):
            torch.manual_seed(value)
            np.random.seed(value)  # noqa: NPY002
            random.seed(value)
            before = _states()
            results.append(walk(sampler, bind(target), range(n), seed=seed))
            touched += [name for name, state in _states().items() if state != before[name]]
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        random.setstate(kept[2])
    found = difference(rows(results[0], 0, n), rows(results[1], 0, n))
    require(
        not touched and found is None,
        f"{name_of(sampler)} must draw from `noise` alone",
        f"a change of the random state of {touched[0]}" if touched else found,
        "Replace torch.randn_like(x) by noise.normal(x), and so on",
    )


def _states() -> dict[str, str]:
    return {
        "torch": repr(torch.get_rng_state().numpy().tobytes()),
        "numpy": repr(np.random.get_state()),  # noqa: NPY002
        "random": repr(random.getstate()),
    }


def check_continues_from_a_copy_of_its_state(sampler: Any, seed: int) -> None:
    """A state that was saved and loaded goes on as the state itself, in a new instance: as after a checkpoint."""
    target, n = target_of(sampler), whole_ensembles(sampler, 64)
    whole = walk(sampler, bind(target), range(n), seed=seed)
    half = Pace(sampler, bind(target), range(n), seed=seed)
    for _ in range(STEPS // 2):
        half.step()
    saved = map_state(lambda leaf: torch.from_numpy(leaf.numpy().copy()), half.walk.states[-1])
    for _ in range(3):
        half.step()
    half.go_on(dataclasses.replace(sampler), saved, STEPS // 2)
    for _ in range(STEPS - STEPS // 2):
        half.step()
    found = difference(rows(whole, 0, n), rows(half.walk, 0, n))
    require(
        found is None,
        f"{name_of(sampler)} must go on from a saved state to the same bits",
        f"{found} after a run that went on from step {STEPS // 2}",
        "Keep all that a step needs in the state",
    )


def _sampled(sampler: Any, seed: int, folder: str, executor: Any, size: int, **more: Any) -> dict[str, Tensor]:
    import ebmcore as ebm

    arguments = {**more} if "energy" in more else {**more, "energy": target_of(sampler), "chains": cuts_of(sampler)[-1]}
    result = ebm.sample(
        sampler=sampler,
        steps=6,
        draws=3,
        seed=seed,
        executor=executor,
        chunk_size=size,
        devices="cpu",
        noise="reference",
        writers=[TRAY],
        out=f"{folder}/run",
        progress=False,
        **arguments,
    )
    return by_files(result)


def check_resumes(sampler: Any, seed: int) -> None:
    """A run that was stopped after a chunk and is resumed ends with the bits of an undisturbed one."""
    from ebmcore.errors import RunStopped
    from ebmcore.executors.serial import Serial

    size = cuts_of(sampler)[1]
    with tempfile.TemporaryDirectory() as folder:
        one = _sampled(sampler, seed, folder, Serial(), size)
    with tempfile.TemporaryDirectory() as folder:
        with suppress(RunStopped):
            _sampled(sampler, seed, folder, Stops(), size)
        found = difference(one, _sampled(sampler, seed, folder, Serial(), size, resume=True))
    require(found is None, f"{name_of(sampler)} must give the same bits in a run that is resumed", found, BATCH)


def check_serial_and_threads(sampler: Any, seed: int) -> None:
    """`ebmcore.sample` gives the same bits in one thread, in several, and in chunks of another size."""
    from ebmcore.executors.serial import Serial
    from ebmcore.executors.threads import Threads

    def draws(executor: Any, size: int) -> dict[str, Tensor]:
        with tempfile.TemporaryDirectory() as folder:
            return _sampled(sampler, seed, folder, executor, size)

    one = draws(Serial(), cuts_of(sampler)[-1])
    for executor, size in ((Serial(), 64), (Threads(workers=2), 64)):
        found = difference(one, draws(executor, size))
        require(
            found is None,
            f"{name_of(sampler)} must give the same bits in {type(executor).__name__.lower()}, in chunks of {size}",
            found,
            BATCH,
        )


def check_processes(sampler: Any, seed: int) -> None:
    """In processes of their own, built anew from a run file's table, workers give the same bits."""
    from ebmcore.executors.processes import Processes
    from ebmcore.executors.serial import Serial

    target = target_of(sampler)
    table = {"use": reference(sampler), **table_of(sampler)}
    energy = {"use": reference(target), **table_of(target)}

    def draws(executor: Any) -> dict[str, Tensor]:
        with tempfile.TemporaryDirectory() as folder:
            return _sampled(table, seed, folder, executor, 128, energy=energy, chains=cuts_of(sampler)[-1])

    found = difference(draws(Serial()), draws(Processes(workers=2)))
    require(found is None, f"{name_of(sampler)} must give the same bits in other processes", found, BATCH)


CHECKS = (
    check_split,
    check_split_conditions,
    check_chains_are_independent,
    check_noise_calls,
    check_chains_differ,
    check_repeats,
    check_interleaved,
    check_global_randomness,
    check_continues_from_a_copy_of_its_state,
    check_resumes,
    check_serial_and_threads,
    check_processes,
)
