"""When a chunk in flight is checkpointed, what of it, and how it goes on from there."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from ebmcore.errors import InputError
from ebmcore.protocols import Chunk, JobSpec, WrittenBlock
from ebmcore.recorder import Recorder
from ebmcore.rundir import checkpoints
from ebmcore.rundir.checkpoints import Checkpoint
from ebmcore.states import fields_of, rebuilt

EVERY = 60.0
"""Seconds between two checkpoints of a chunk."""

VARIABLE = "EBMCORE_CHECKPOINT_SECONDS"
"""Environment variable with another number of seconds."""

State = tuple[Any, ...]


class Moment(NamedTuple):
    """Where a chunk is in a stage, between two steps."""

    step: int
    """The next step."""
    state: State
    checked: State
    """The last state that was looked through for NaN and infinities."""
    since: int
    """The step that follows `checked`."""
    frozen: Tensor | None
    """The chains that are held, [n] bool; None where none ever is."""


class UnfitError(Exception):
    """A checkpoint is not one of this chunk of this run: the chunk begins anew."""


@final
class Keeper:
    """The checkpoints of one chunk; it has none in a run without a directory.

    Attributes:
        found: Where an earlier worker left the chunk, if it did.
    """

    def __init__(self, job: JobSpec, chunk: Chunk) -> None:
        self._path = None if job.path is None else Path(job.path)
        self._chunk = chunk
        self._every = _seconds()
        self._last = time.monotonic()
        found = None if self._path is None else checkpoints.load(self._path, chunk)
        self.found = found if found is not None and _fits(found, job) else None

    @property
    def stage(self) -> int:
        """The stage at which the chunk goes on."""
        return 0 if self.found is None else int(self.found.place["stage"])

    @property
    def position(self) -> Tensor | None:
        """Where the chains are when they go on."""
        return None if self.found is None else self.found.tensors.get("state/position")

    def due(self, now: float) -> bool:
        """Say whether it is time for a checkpoint."""
        return self._path is not None and now - self._last >= self._every

    def save(self, stage: int, moment: Moment, recorder: Recorder | None, before: list[WrittenBlock]) -> None:
        """Store where the chunk is.

        Args:
            stage: Its stage.
            moment: Where it is there.
            recorder: What it holds of the stage's draws.
            before: What it wrote in the stages before.

        Raises:
            RunError: The disk is full or broken.
        """
        if self._path is None:
            return
        tensors = {f"state/{name}": leaf for name, leaf in fields_of(moment.state)}
        tensors |= {f"checked/{name}": leaf for name, leaf in fields_of(moment.checked)}
        if moment.frozen is not None:
            tensors["frozen"] = moment.frozen
        place = {"stage": stage, "step": moment.step, "since": moment.since}
        blocks = tuple(before)
        if recorder is not None:
            numbers, held = recorder.held()
            place, tensors, blocks = {**place, **numbers}, {**tensors, **held}, (*before, *recorder.written)
        checkpoints.save(self._path, Checkpoint(self._chunk, blocks, place, tensors))
        self._last = time.monotonic()

    def written(self, *, before: bool) -> list[WrittenBlock]:
        """Return the blocks that were written, of the stages before the one where it goes on, or of that one."""
        blocks = () if self.found is None else self.found.blocks
        return [block for block in blocks if (block.stage < self.stage) is before]

    def restore(self, template: State, recorder: Recorder | None) -> Moment:
        """Return where the chunk goes on, and give the recorder what it held.

        Args:
            template: A state of the chunk's chains, of the structure that the sampler gives it.
            recorder: The stage's.

        Raises:
            UnfitError: The checkpoint has another structure.
        """
        assert self.found is not None
        place, tensors = self.found.place, self.found.tensors
        rows = self._chunk.hi - self._chunk.lo
        names = {f"{part}/{name}" for part in ("state", "checked") for name, _ in fields_of(template)}
        found = {name for name in tensors if name.startswith(("state/", "checked/"))}
        if names != found or any(len(tensors[name]) != rows for name in names):
            raise UnfitError
        state, checked = (_state(template, tensors, f"{part}/") for part in ("state", "checked"))
        try:
            frozen = tensors.get("frozen")
            held = None if frozen is None else frozen.to(state[0].device)
            moment = Moment(int(place["step"]), state, checked, int(place["since"]), held)
            if recorder is not None:
                recorder.take_up(place, tensors, self.written(before=False))
        except (KeyError, ValueError, TypeError, RuntimeError, IndexError) as error:
            raise UnfitError from error
        return moment


def _fits(found: Checkpoint, job: JobSpec) -> bool:
    """Say whether a checkpoint could be one of this run; its structure is looked at when there is a state."""
    stage, position = found.place.get("stage"), found.tensors.get("state/position")
    shape = (found.chunk.hi - found.chunk.lo, *job.shape)
    known = isinstance(stage, int) and 0 <= stage < len(job.stages)
    return known and position is not None and position.is_floating_point() and tuple(position.shape) == shape


def _state(template: State, tensors: Mapping[str, Tensor], prefix: str) -> State:
    device: torch.device = template[0].device
    return rebuilt(template, lambda name: tensors[prefix + name].to(device, copy=True))


def _seconds() -> float:
    given = os.environ.get(VARIABLE)
    try:
        seconds = EVERY if given is None else float(given)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise InputError(f"`{VARIABLE}` must be a number of seconds >= 0; got {given!r}. Unset it for {EVERY:g}.")
    return seconds
