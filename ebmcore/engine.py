"""Runs one chunk from its first position to its last draw: the only loop over steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor

from ebmcore.energy import BoundEnergy
from ebmcore.errors import NonFiniteError, RunStopped
from ebmcore.halving import in_pieces
from ebmcore.initial import point_range
from ebmcore.keeping import Keeper, Moment, State, UnfitError
from ebmcore.noise import INIT, MINIBATCH, STEP, CounterNoise
from ebmcore.protocols import Chunk, HasMinibatch, JobSpec, Receipt, Sampler, WrittenBlock
from ebmcore.recorder import Recorder
from ebmcore.runtime import Runtime, runtime_of
from ebmcore.states import map_state

CHECK_EVERY = 128
"""Steps between two looks for NaN and infinities: the positions' sum, 4 microseconds."""

REPORT_EVERY = 0.2
"""Seconds between two reports of a chunk's progress."""

OnStep = Callable[[int, State, State | None], None]
"""Called after a step as on_step(step of the stage, state, statistics)."""


def run_chunk(job: JobSpec, chunk: Chunk, device: str) -> Receipt:
    """Run the chains [chunk.lo, chunk.hi) of a job on a device; all that an executor calls.

    When it returns, the chunk's draws are durable in every writer, or in files that the receipt names. A chunk that
    does not fit in the device's memory is run in pieces.

    Args:
        job: The job.
        chunk: Whole chains of it: from step 0 to the last.
        device: A worker's label: `cpu`, `cpu:1`, `cuda:0`.

    Raises:
        NonFiniteError: A position is NaN or infinite.
        RunStopped: The run was stopped meanwhile.
        RunError: The smallest piece does not fit in the device's memory.
        EbmcoreError: The energy or the sampler broke its contract.
    """
    runtime = runtime_of(job)
    try:
        return in_pieces(runtime, chunk, device, _run)
    except BaseException:
        # The other chunks in flight would be thrown away: let them end now.
        runtime.stop.set()
        raise


def _run(runtime: Runtime, chunk: Chunk, device: str) -> Receipt:
    started = time.perf_counter()
    keeper = Keeper(runtime.job, chunk)
    with torch.no_grad():
        try:
            reduced, written = _stages(runtime, chunk, device, keeper)
        except UnfitError:
            keeper.found = None
            reduced, written = _stages(runtime, chunk, device, keeper)
    spooled = runtime.spooled(chunk)
    return Receipt(chunk, device, time.perf_counter() - started, reduced, tuple(written), spooled)


def _stages(
    runtime: Runtime, chunk: Chunk, device: str, keeper: Keeper
) -> tuple[dict[str, dict[str, Tensor]], list[WrittenBlock]]:
    """Take a chunk through its stages, or through those that are left; return its accumulators and blocks."""
    job = runtime.job
    energy = runtime.energy(device).rows(chunk.lo, chunk.hi)
    begin = CounterNoise(
        runtime.parts.noise,
        job.seed,
        range(job.first_chain + chunk.lo, job.first_chain + chunk.hi),
        dtype=energy.dtype,
        device=energy.device,
        stream=INIT,
        t=0,
        step=-job.stages[0].warmup,
        steps=job.stages[0].steps,
    )
    kept = keeper.position
    position = _start(runtime, chunk, energy, begin) if kept is None else kept.to(energy.device, copy=True)
    reduced: dict[str, dict[str, Tensor]] = {}
    written = keeper.written(before=True)
    t = 0
    for index, (stage, sampler) in enumerate(zip(job.stages, runtime.parts.samplers, strict=True)):
        if index >= keeper.stage:
            if index:
                begin.advance(t, -stage.warmup)
            recorder = Recorder(runtime, index, chunk) if stage.draws else None
            watch = _Watch(runtime, chunk, keeper, index, recorder, written, t + stage.warmup)
            position = advance(
                energy, sampler, position, begin, stage.warmup, stage.steps, recorder=recorder, watch=watch
            )
            if recorder is not None:
                written += recorder.written
                reduced = recorder.reduced()
        t += stage.warmup + stage.steps
    return reduced, written


def _start(runtime: Runtime, chunk: Chunk, energy: BoundEnergy, begin: CounterNoise) -> Tensor:
    """Return where a chunk's chains begin; the calls of `begin` go on in the first sampler's init."""
    start, first = runtime.parts.start, runtime.job.first_chain
    lo, hi = point_range(chunk.lo, chunk.hi, start.repeat)
    like = torch.empty((chunk.hi - chunk.lo, *energy.shape), dtype=energy.dtype, device=energy.device)
    noise = begin.renumber(range(first + lo, first + hi))
    return start.positions(chunk.lo, chunk.hi, first, like, energy.support, noise)


def advance(
    energy: BoundEnergy,
    sampler: Sampler[Any],
    position: Tensor,
    begin: CounterNoise,
    warmup: int,
    steps: int,
    *,
    recorder: Recorder | None = None,
    on_step: OnStep | None = None,
    watch: _Watch | None = None,
) -> Tensor:
    """Take chains through one stage and return their last positions [n, *shape].

    Args:
        energy: The energy of these chains.
        sampler: The stage's sampler.
        position: Where they are [n, *shape]; it may be overwritten.
        begin: Their noise in the init stream, at the stage's first step.
        warmup: Steps before the first that counts.
        steps: Steps that count.
        recorder: Keeps draws.
        on_step: Called after every step, warmup included.
        watch: Has the stage begin where an earlier worker left it, and looks after every step whether to leave it.
    """
    begin.steps = steps
    t = begin.t
    kernel = _Kernel(energy, sampler, begin, t + warmup)
    state = kernel.init(position, begin)
    moment = None if watch is None else watch.take_up(state)
    first, state, checked, since = moment or Moment(-warmup, state, map_state(Tensor.clone, state), -warmup)
    for step in range(first, steps):
        state, info = kernel.step(step, state)
        full = recorder is not None and step >= 0 and recorder.add(step, state, info)
        if full or (t + warmup + step + 1) % CHECK_EVERY == 0 or step == steps - 1:
            if not _finite(state[0]):
                _blame(kernel, checked, since)
            checked, since = map_state(Tensor.clone, state), step + 1
        if full and recorder is not None:
            recorder.flush()
        if on_step is not None:
            on_step(step, state, info)
        if watch is not None and watch.due(step, info):
            watch.keep(Moment(step + 1, state, checked, since))
    last: Tensor = state[0]
    return last


class _Kernel:
    """The transitions of a stage, as functions of step and state."""

    def __init__(self, energy: BoundEnergy, sampler: Sampler[Any], begin: CounterNoise, zero: int) -> None:
        self._energy, self._sampler, self._zero = energy, sampler, zero
        self.noise = begin.fork(STEP)
        self._minibatches = begin.fork(MINIBATCH) if isinstance(energy.model, HasMinibatch) else None

    def init(self, position: Tensor, begin: CounterNoise) -> State:
        """Return the state at the stage's beginning."""
        state: State = self._sampler.init(self._energy_at(begin.step), position, begin)
        return state

    def step(self, step: int, state: State) -> tuple[State, State | None]:
        """Take one step."""
        self.noise.advance(self._zero + step, step)
        return self._sampler.step(self._energy_at(step), state, self.noise)

    def _energy_at(self, step: int) -> BoundEnergy:
        if self._minibatches is None:
            return self._energy
        self._minibatches.advance(self._zero + step, step)
        return self._energy.sharing(self._energy.model.minibatch(self._minibatches))


def _finite(x: Tensor) -> bool:
    # A finite sum is proof enough and cheap; a sum that overflows is not proof of the contrary.
    return bool(x.sum().isfinite()) or bool(x.isfinite().all())


def _blame(kernel: _Kernel, state: State, step: int) -> NoReturn:
    """Take the steps since the last look again: the same noise gives the same fault, now named by chain and step."""
    first = step
    while _finite(state[0]):
        state, _ = kernel.step(step, state)
        step += 1
    bad = ~state[0].isfinite().reshape(len(state[0]), -1).all(1)
    row = int(bad.nonzero()[0])
    values = state[0][row].flatten()
    when = "before its first step" if step == first else f"at step {kernel.noise.t}"
    raise NonFiniteError(
        f"chain {kernel.noise.chains[row]} must stay finite; got {values[~values.isfinite()][0].item()} {when} "
        f"({int(bad.sum())} of the {len(bad)} chains of its chunk). "
        "The step size is probably too large for this energy: halve it, or look for NaN in the energy there."
    )


class _Watch:
    """Looks at a chunk's stage after every step: reports its progress, keeps checkpoints, ends it when told."""

    def __init__(
        self,
        runtime: Runtime,
        chunk: Chunk,
        keeper: Keeper,
        stage: int,
        recorder: Recorder | None,
        before: list[WrittenBlock],
        zero: int,
    ) -> None:
        self._runtime, self._chunk, self._keeper = runtime, chunk, keeper
        self._stage, self._recorder, self._before, self._zero = stage, recorder, before, zero
        self._stop, self._progress = runtime.stop, runtime.progress
        self._last = time.monotonic()

    def take_up(self, template: State) -> Moment | None:
        """Return where the stage goes on, if it had begun."""
        if self._keeper.found is None or self._stage != self._keeper.stage:
            return None
        return self._keeper.restore(template, self._recorder)

    def due(self, step: int, info: State | None) -> bool:
        """Report progress from time to time; say whether the chunk is to be kept, or to end."""
        now = time.monotonic()
        if self._progress is not None and now - self._last >= REPORT_EVERY:
            self._last = now
            self._progress(self._chunk, self._zero + step + 1, _means(info))
        return self._keeper.due(now) or self._stop.is_set()

    def keep(self, moment: Moment) -> None:
        """Store where the chunk is.

        Raises:
            RunStopped: It is to end here.
        """
        self._keeper.save(self._stage, moment, self._recorder, self._before)
        if self._stop.is_set():
            again = "Start it again" if self._runtime.job.path is None else "Resume it"
            raise RunStopped(f"the run was stopped before its end; got a request to stop. {again} when ready.")


def _means(info: State | None) -> Mapping[str, float]:
    names = () if info is None else info._fields  # type: ignore[attr-defined]
    return {name: float(value.double().mean()) for name, value in zip(names, info or (), strict=True)}
