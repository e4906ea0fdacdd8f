"""Runs one chunk from its first position to its last draw: the only loop over steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ebmcore.energy import BoundEnergy
from ebmcore.errors import RunStopped
from ebmcore.halving import in_pieces
from ebmcore.health import FREEZE, RAISE, Freezing, Health, Raising
from ebmcore.initial import point_range
from ebmcore.keeping import Keeper, Moment, State, UnfitError
from ebmcore.noise import INIT, MINIBATCH, STEP, CounterNoise
from ebmcore.protocols import Chunk, HasMinibatch, JobSpec, Receipt, Sampler, WrittenBlock
from ebmcore.recorder import Recorder
from ebmcore.runtime import Runtime, runtime_of
from ebmcore.states import check_state
from ebmcore.strides import Pace, takes_strides

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
            reduced, written, frozen = _stages(runtime, chunk, device, keeper)
        except UnfitError:
            keeper.found = None
            reduced, written, frozen = _stages(runtime, chunk, device, keeper)
    spooled = runtime.spooled(chunk)
    return Receipt(chunk, device, time.perf_counter() - started, reduced, tuple(written), frozen, spooled)


def _stages(
    runtime: Runtime, chunk: Chunk, device: str, keeper: Keeper
) -> tuple[dict[str, dict[str, Tensor]], list[WrittenBlock], int]:
    """Take a chunk through its stages, or those that are left; return accumulators, blocks, and how many are held."""
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
    t, frozen = 0, None
    for index, (stage, sampler) in enumerate(zip(job.stages, runtime.parts.samplers, strict=True)):
        if index >= keeper.stage:
            if index:
                begin.advance(t, -stage.warmup)
            recorder = Recorder(runtime, index, chunk) if stage.draws else None
            watch = _Watch(runtime, chunk, keeper, index, recorder, written, t + stage.warmup)
            position, frozen = advance(
                energy,
                sampler,
                position,
                begin,
                stage.warmup,
                stage.steps,
                recorder=recorder,
                watch=watch,
                on_nonfinite=job.on_nonfinite,
                frozen=frozen,
            )
            if recorder is not None:
                written += recorder.written
                reduced = recorder.reduced()
        t += stage.warmup + stage.steps
    return reduced, written, 0 if frozen is None else int(frozen.sum())


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
    on_nonfinite: str = RAISE,
    frozen: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Take chains through one stage; return their last positions [n, *shape], and which are held, [n] bool.

    Args:
        energy: The energy of these chains.
        sampler: The stage's sampler.
        position: Where they are [n, *shape]; it may be overwritten.
        begin: Their noise in the init stream, at the stage's first step.
        warmup: Steps before the first that counts.
        steps: Steps that count.
        recorder: Keeps draws.
        on_step: Called after every step, warmup included, or after several that a sampler took in one call.
        watch: Has the stage begin where an earlier worker left it, and looks as often whether to leave it.
        on_nonfinite: `"raise"` or `"freeze"`.
        frozen: The chains that an earlier stage holds, [n] bool.

    Raises:
        NonFiniteError: A chain left the finite numbers, and is not to be held.
        SamplerError: A position is of another shape or dtype than the one before.
    """
    begin.steps = steps
    t = begin.t
    shape = position.shape
    kernel = _Kernel(energy, sampler, begin, t + warmup)
    state = kernel.init(position, begin)
    moment = None if watch is None else watch.take_up(state)
    moment = moment or Moment(-warmup, state, state, -warmup, frozen)
    state, health = moment.state, _health(on_nonfinite, moment, kernel)
    step, pace = moment.step - 1, Pace()
    while step < steps - 1:
        following = step + 1
        last = min(steps - 1, following + -(t + warmup + following + 1) % CHECK_EVERY)
        if recorder is not None:
            last = min(last, recorder.due(following))
        state, info, step = kernel.steps(following, last, state, pace)
        full = recorder is not None and step >= 0 and recorder.add(step, health.shown(state), info, health.frozen)
        regular = (t + warmup + step + 1) % CHECK_EVERY == 0 or step == steps - 1
        if recorder is not None and health.frozen is not None and (full or regular):
            recorder.mend(health.checked)
        if (full or regular) and (state[0].shape != shape or state[0].dtype != energy.dtype):
            check_state(state, position, who=f"{type(sampler).__name__}.step at step {step}")
        if regular or (full and health.frozen is None):
            state = health.look(state, step)
        if full and recorder is not None:
            recorder.flush()
        if on_step is not None:
            on_step(step, state, info)
        if watch is not None and watch.due(step, info):
            watch.keep(Moment(step + 1, state, health.checked, health.since, health.frozen))
    position = state[0]
    return position, health.frozen


def _health(policy: str, moment: Moment, kernel: _Kernel) -> Health:
    def replay(step: int, state: State) -> State:
        return kernel.steps(step, step, state, Pace())[0]

    if policy == FREEZE:
        return Freezing(moment.checked, moment.since, replay, kernel.noise, moment.frozen)
    return Raising(moment.checked, moment.since, replay, kernel.noise)


class _Kernel:
    """The transitions of a stage, as functions of step and state."""

    def __init__(self, energy: BoundEnergy, sampler: Sampler[Any], begin: CounterNoise, zero: int) -> None:
        self._energy, self._sampler, self._zero = energy, sampler, zero
        self.noise = begin.fork(STEP)
        self._minibatches = begin.fork(MINIBATCH) if isinstance(energy.model, HasMinibatch) else None
        self._stride: Callable[[State, int], State] | None = None
        if takes_strides(sampler) and self._minibatches is None:
            self._stride = sampler.stride(energy, self.noise)

    def init(self, position: Tensor, begin: CounterNoise) -> State:
        """Return the state at the stage's beginning."""
        state: State = self._sampler.init(self._energy_at(begin.step), position, begin)
        return state

    def steps(self, step: int, last: int, state: State, pace: Pace) -> tuple[State, State | None, int]:
        """Take the steps from `step` to at most `last`; return the state, the statistics, and which was the last."""
        self.noise.advance(self._zero + step, step)
        if self._stride is None:
            return *self._sampler.step(self._energy_at(step), state, self.noise), step
        count, began = min(pace.most, last - step + 1), time.perf_counter()
        state = self._stride(state, count)
        pace.took(count, time.perf_counter() - began)
        return state, None, step + count - 1

    def _energy_at(self, step: int) -> BoundEnergy:
        if self._minibatches is None:
            return self._energy
        self._minibatches.advance(self._zero + step, step)
        return self._energy.sharing(self._energy.model.minibatch(self._minibatches))


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
