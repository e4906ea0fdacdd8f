"""Out of memory: a chunk is run in pieces of half its size, which is remembered for the chunks that follow.

A piece begins at a multiple of the job's grain, as a chunk does: so it gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch

from ebmcore.devices import torch_device
from ebmcore.errors import EbmcoreError, RunError
from ebmcore.protocols import Chunk, Receipt
from ebmcore.runtime import Runtime

Run = Callable[[Runtime, Chunk, str], Receipt]

_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What torch says, of a GPU or a CPU, in a RuntimeError of no type of its own."""


def in_pieces(runtime: Runtime, chunk: Chunk, device: str, run: Run) -> Receipt:
    """Run a chunk whole, or in pieces one after the other where it does not fit in the device's memory.

    Args:
        runtime: This process's side of the job.
        chunk: The chunk.
        device: A worker's label.
        run: Runs a chunk, or a piece of one.

    Returns:
        The chunk's receipt; with those of its pieces as `parts` if it was cut.

    Raises:
        RunError: A piece of the smallest size does not fit.
    """
    grain = runtime.job.grain
    waiting = list(_cut(chunk, runtime.fitting.get(device, chunk.hi - chunk.lo)))
    done: list[Receipt] = []
    while waiting:
        piece = waiting.pop(0)
        receipt, reason = _attempt(_seen_whole(runtime, chunk, piece), piece, device, run)
        if receipt is not None:
            done.append(receipt)
            continue
        # Only now, when the traceback with its tensors is gone.
        if torch_device(device).type == "cuda":
            torch.cuda.empty_cache()
        units = -(-(piece.hi - piece.lo) // grain)
        if units <= 1:
            raise RunError(
                f"{piece.hi - piece.lo} chains, the fewest that run at a time, must fit in the memory of '{device}'; "
                f"got: {reason}. Use a smaller energy, fewer draws or workers, or another device."
            )
        size = grain * -(-units // 2)
        runtime.fitting[device] = min(size, runtime.fitting.get(device, size))
        waiting = [*_cut(piece, size), *(small for large in waiting for small in _cut(large, size))]
    if len(done) == 1 and done[0].chunk == chunk:
        return done[0]
    return Receipt(chunk, device, sum(receipt.seconds for receipt in done), parts=tuple(done))


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory was asked for that is not there."""
    if isinstance(error, EbmcoreError):
        return False
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def _attempt(runtime: Runtime, piece: Chunk, device: str, run: Run) -> tuple[Receipt | None, str]:
    try:
        return run(runtime, piece, device), ""
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return None, " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__


def _cut(chunk: Chunk, size: int) -> Iterator[Chunk]:
    for lo in range(chunk.lo, chunk.hi, size):
        yield replace(chunk, lo=lo, hi=min(lo + size, chunk.hi))


def _seen_whole(runtime: Runtime, chunk: Chunk, piece: Chunk) -> Runtime:
    """Return the runtime with a piece's progress told as the whole chunk's: observers know of no pieces."""
    tell = runtime.progress
    if tell is None or piece == chunk:
        return runtime
    before, share = piece.lo - chunk.lo, piece.hi - piece.lo

    def progress(part: Chunk, step: int, stats: Mapping[str, float]) -> None:
        done = before * (chunk.stop - chunk.start) + share * (step - chunk.start)
        tell(chunk, chunk.start + done // (chunk.hi - chunk.lo), stats)

    return replace(runtime, progress=progress)
