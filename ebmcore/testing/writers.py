"""What every writer must do: what is read is what was written, whatever the blocks, their order, and who stops when."""

from __future__ import annotations

import copy
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ebmcore.errors import EbmcoreError
from ebmcore.protocols import HasAlign, HasRead, Layout, Span
from ebmcore.testing.blocks import GRAIN, SHAPES, Arrays, block_of, layout_of, partition, spoil, truth_of
from ebmcore.testing.conformance import NotApplicable, name_of, require

Spans = Sequence[tuple[int, int, int, int]]


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data"
        path.mkdir()
        yield path


def _read(writer: Any, path: Path, layout: Layout, name: str, chains: slice) -> np.ndarray[Any, Any]:
    if not isinstance(writer, HasRead):
        raise NotApplicable("it has no `read`: what it stores cannot be looked at")
    return writer.read(path, layout, name, chains)


def _grain(writer: Any, layout: Layout) -> Layout:
    align = int(writer.align) if isinstance(writer, HasAlign) else 1
    return replace(layout, grain=int(np.lcm(GRAIN, align)))


def _holds(writer: Any, path: Path, layout: Layout, truth: Arrays, rule: str, fix: str) -> None:
    for name, expected in truth.items():
        found = _read(writer, path, layout, name, slice(0, layout.chains))
        wanted = expected.numpy()
        require(
            found.shape == wanted.shape and found.dtype == wanted.dtype,
            f"`read` of {name_of(writer)} must give array '{name}' as in the layout, {wanted.dtype} "
            f"{list(wanted.shape)}",
            f"{found.dtype} {list(found.shape)}",
            "Store each array in its own dtype and shape",
        )
        wrong = np.argwhere(np.asarray(found) != wanted)
        require(
            not len(wrong),
            rule,
            f"another value in '{name}' at chain {wrong[0][0]}, draw {wrong[0][1]}, and {len(wrong) - 1} more"
            if len(wrong)
            else "",
            fix,
        )


def _store(writer: Any, path: Path, layout: Layout, truth: Arrays, spans: Spans, finish: bool = True) -> None:
    writer.prepare(path, layout, ())
    sink = writer.open(path, layout)
    for span in spans:
        sink.write(block_of(truth, *span))
    sink.close()
    if finish:
        writer.finish(path, layout, {"chains": layout.chains})


def check_reads_back(writer: Any, seed: int) -> None:
    """Vectors, images and scalars, in every dtype of a run, are read as they were written."""
    for name, shape in SHAPES.items():
        for dtype in ("float32", "float64", "uint8"):
            layout = _grain(writer, layout_of(shape, dtype=dtype))
            truth = truth_of(layout, seed)
            with _folder() as path:
                _store(writer, path, layout, truth, list(partition(layout, layout.chains, layout.draws)))
                _holds(
                    writer,
                    path,
                    layout,
                    truth,
                    f"{name_of(writer)} must store a position that is a {name} ({dtype})",
                    "Place each block at [lo:hi, first:last] of its array",
                )


def check_any_blocks(writer: Any, seed: int) -> None:
    """Blocks of any cut, ragged ends included, in any order, give the same arrays."""
    layout = _grain(writer, layout_of())
    truth = truth_of(layout, seed)
    for chains, draws in ((layout.grain, layout.draws), (layout.chains, 2), (layout.grain, 1), (2 * layout.grain, 3)):
        spans = list(partition(layout, chains, draws))
        for order in (spans, spans[::-1], spans[1::2] + spans[::2]):
            with _folder() as path:
                _store(writer, path, layout, truth, order)
                _holds(
                    writer,
                    path,
                    layout,
                    truth,
                    f"{name_of(writer)} must store blocks of {chains} chains by {draws} draws in any order",
                    "Use lo, hi, first and last of the block: the last blocks are shorter, and come in any order",
                )


def check_same_block_again(writer: Any, seed: int) -> None:
    """A block that is written again, whole or cut otherwise, changes nothing."""
    layout = _grain(writer, layout_of())
    truth = truth_of(layout, seed)
    spans = list(partition(layout, layout.grain, 2))
    again = [*spans, *spans[:3], *partition(layout, layout.chains, 1)]
    with _folder() as path:
        _store(writer, path, layout, truth, again)
        _holds(
            writer,
            path,
            layout,
            truth,
            f"{name_of(writer)} must not change when a block comes again",
            "Write at the block's place, and do not append",
        )


def check_copies(writer: Any, seed: int) -> None:
    """When `write` returns the block's tensors may be overwritten; the writer does not overwrite them itself."""
    layout = _grain(writer, layout_of())
    truth = truth_of(layout, seed)
    with _folder() as path:
        writer.prepare(path, layout, ())
        sink = writer.open(path, layout)
        for span in partition(layout, layout.grain, 2):
            block = block_of(truth, *span)
            before = {name: tensor.clone() for name, tensor in block.arrays.items()}
            sink.write(block)
            require(
                all(torch.equal(tensor, before[name]) for name, tensor in block.arrays.items()),
                f"{name_of(writer)} must leave the tensors of a block as they are",
                "a block that was overwritten",
                "Work on a copy",
            )
            spoil(block)
        sink.close()
        writer.finish(path, layout, {})
        _holds(
            writer,
            path,
            layout,
            truth,
            f"{name_of(writer)} must have stored a block when `write` returns",
            "Copy or write the tensors in `write`: the host fills the same memory with the next draws",
        )


def _killed(writer: Any, seed: int, resume: Callable[[Any], Any]) -> None:
    layout = _grain(writer, layout_of())
    truth = truth_of(layout, seed)
    spans = list(partition(layout, layout.grain, 2))
    done, left = spans[::2], spans[1::2]
    junk = {name: torch.zeros_like(each) for name, each in truth.items()}
    with _folder() as path:
        writer.prepare(path, layout, ())
        sink = writer.open(path, layout)
        for span in done:
            sink.write(block_of(truth, *span))
        # One that was not committed: its bytes may be there, and mean nothing.
        sink.write(block_of(junk, *left[0]))
        again = resume(writer)
        try:
            again.prepare(path, layout, [Span(*span) for span in done])
        except EbmcoreError as error:
            raise NotApplicable(f"it refuses to go on with such a run: {error}") from None
        other = again.open(path, layout)
        for span in left:
            other.write(block_of(truth, *span))
        other.close()
        again.finish(path, layout, {})
        _holds(
            again,
            path,
            layout,
            truth,
            f"{name_of(writer)} must keep what is committed when a run is killed before `close` and goes on",
            "Make `write` durable before it returns (flush, fsync), and let `prepare` keep the spans in `committed`",
        )


def check_resumes_in_this_process(writer: Any, seed: int) -> None:
    """Committed blocks outlive a sink that was never closed, and what was not committed is written anew."""
    _killed(writer, seed, lambda same: same)


def check_resumes_in_another_process(writer: Any, seed: int) -> None:
    """As in this process with a new instance; or `prepare` refuses, with one of the errors of ebmcore."""
    _killed(writer, seed, lambda same: replace(same))


def check_prepares_anew(writer: Any, seed: int) -> None:
    """`prepare` with nothing committed begins a new run, whatever is there."""
    layout = _grain(writer, layout_of())
    with _folder() as path:
        _store(writer, path, layout, truth_of(layout, seed + 1), list(partition(layout, layout.chains, layout.draws)))
        truth = truth_of(layout, seed)
        _store(writer, path, layout, truth, list(partition(layout, layout.grain, 2)))
        _holds(
            writer,
            path,
            layout,
            truth,
            f"{name_of(writer)} must begin anew when nothing is committed",
            "Replace older files in `prepare`",
        )


def check_reads_parts(writer: Any, seed: int) -> None:
    """`read` of some chains gives those rows."""
    layout = _grain(writer, layout_of())
    truth = truth_of(layout, seed)
    with _folder() as path:
        _store(writer, path, layout, truth, list(partition(layout, layout.grain, 2)))
        for lo, hi in ((0, 1), (1, GRAIN), (GRAIN - 1, GRAIN + 1), (layout.chains - 1, layout.chains), (5, 5)):
            for name, whole in truth.items():
                found = np.asarray(_read(writer, path, layout, name, slice(lo, hi)))
                require(
                    found.shape == whole[lo:hi].shape and bool((found == whole[lo:hi].numpy()).all()),
                    f"`read` of {name_of(writer)} must give the rows of the slice, here chains {lo} ... {hi - 1}",
                    f"{list(found.shape)} of '{name}'" + ("" if found.shape != whole[lo:hi].shape else ", other rows"),
                    "Ranges are half-open",
                )


def check_parallel_sinks(writer: Any, seed: int) -> None:
    """A parallel writer takes disjoint blocks through several sinks at once."""
    if not writer.parallel:
        raise NotApplicable("it says parallel = False: the host writes through one sink")
    layout = _grain(writer, layout_of())
    truth = truth_of(layout, seed)
    spans = list(partition(layout, layout.grain, 1))
    errors: list[BaseException] = []
    with _folder() as path:
        writer.prepare(path, layout, ())

        def work(mine: Spans) -> None:
            try:
                sink = writer.open(path, layout)
                for span in mine:
                    sink.write(block_of(truth, *span))
                sink.close()
            except BaseException as error:  # handed to the checking thread
                errors.append(error)

        workers = [threading.Thread(target=work, args=(spans[k::3],)) for k in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if errors:
            raise errors[0]
        writer.finish(path, layout, {})
        _holds(
            writer,
            path,
            layout,
            truth,
            f"{name_of(writer)} says parallel = True, so it must take blocks from several sinks at once",
            "Write at the block's own bytes alone (os.pwrite), or say parallel = False",
        )


def check_stays_in_its_folder(writer: Any, seed: int) -> None:
    """Nothing is written outside the folder that is handed over."""
    layout = _grain(writer, layout_of())
    with _folder() as path:
        before = set(Path.cwd().iterdir())
        _store(writer, path, layout, truth_of(layout, seed), list(partition(layout, layout.grain, layout.draws)))
        extra = [each.name for each in path.parent.iterdir() if each != path]
        extra += [each.name for each in set(Path.cwd().iterdir()) - before]
        require(
            not extra,
            f"{name_of(writer)} must write under its `path` alone",
            f"'{extra[0]}' beside it" if extra else "",
            "Join file names to `path`",
        )


def check_settings_alone(writer: Any, seed: int) -> None:
    """A run leaves the writer's settings as they were, and `align` is a whole number > 0."""
    layout = _grain(writer, layout_of())
    before = _fields(writer)
    with _folder() as path:
        _store(writer, path, layout, truth_of(layout, seed), list(partition(layout, layout.grain, layout.draws)))
    require(
        _fields(writer) == before,
        f"{name_of(writer)} must hold settings alone",
        "other settings after a run",
        "Keep what a run needs in the sink",
    )
    if isinstance(writer, HasAlign):
        require(
            isinstance(writer.align, int) and writer.align > 0,
            f"`align` of {name_of(writer)} must be a whole number > 0",
            repr(writer.align),
            "Give the number of chains of a file's own chunk",
        )


def _fields(writer: Any) -> Mapping[str, Any]:
    from dataclasses import fields

    return {each.name: copy.deepcopy(getattr(writer, each.name)) for each in fields(writer) if each.init}


def _sampled(writer: Any, seed: int, folder: str, executor: Any, size: int, **more: Any) -> dict[str, Tensor]:
    import ebmcore as ebm
    from ebmcore.testing.own import Step, by_files
    from ebmcore.testing.targets import Gaussian

    result = ebm.sample(
        Gaussian(),
        Step(),
        chains=3 * GRAIN + 9,
        steps=6,
        draws=3,
        seed=seed,
        executor=executor,
        chunk_size=size,
        devices="cpu",
        noise="reference",
        writers=[writer],
        out=f"{folder}/run",
        progress=False,
        **more,
    )
    return by_files(result)


def check_in_a_run(writer: Any, seed: int) -> None:
    """`ebmcore.sample` reads back the same from runs in one thread, in several, and stopped and resumed."""
    from ebmcore.errors import RunStopped
    from ebmcore.executors.serial import Serial
    from ebmcore.executors.threads import Threads
    from ebmcore.testing.own import Stops, Tray

    _needs_files(writer)
    with tempfile.TemporaryDirectory() as folder:
        expected = _sampled(Tray(), seed, folder, Serial(), 4 * GRAIN)
    for how, executor, size in (
        ("in one thread", Serial(), 4 * GRAIN),
        ("in two threads", Threads(workers=2), GRAIN),
        ("stopped and resumed", Serial(), GRAIN),
    ):
        with tempfile.TemporaryDirectory() as folder:
            resume = how == "stopped and resumed"
            if resume:
                with suppress(RunStopped):
                    _sampled(writer, seed, folder, Stops(), size)
            found = _sampled(writer, seed, folder, executor, size, resume=resume)
        wrong = [name for name, value in expected.items() if not torch.equal(value, found[name])]
        require(
            not wrong,
            f"{name_of(writer)} must give back what a run {how} made",
            f"another {wrong[0]}" if wrong else "",
            "See the other checks of writers for what differs",
        )


def _needs_files(writer: Any) -> None:
    """Skip a writer whose draws are in the object itself: a run directory is renamed when it is complete."""
    layout = _grain(writer, layout_of())
    with _folder() as path:
        _store(writer, path, layout, truth_of(layout, 0), list(partition(layout, layout.grain, layout.draws)))
        try:
            _read(replace(writer), path, layout, "draws", slice(0, 1))
        except EbmcoreError as error:
            raise NotApplicable(f"it keeps nothing outside of one object: {error}") from None


CHECKS = (
    check_reads_back,
    check_any_blocks,
    check_same_block_again,
    check_copies,
    check_resumes_in_this_process,
    check_resumes_in_another_process,
    check_prepares_anew,
    check_reads_parts,
    check_parallel_sinks,
    check_stays_in_its_folder,
    check_settings_alone,
    check_in_a_run,
)
