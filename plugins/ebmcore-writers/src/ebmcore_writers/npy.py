"""One .npy file an array: draws.npy, stats.NAME.npy, state.NAME.npy.

Any numpy opens them, with np.load(file, mmap_mode="r") without reading them first. Each is
made at its full size and filled by positioned writes, which need no lock between workers and
hold no memory; a memory map would count as resident memory and grow with the file, and would
kill the process where the disk is full. Needs pwrite, so POSIX.
"""

from __future__ import annotations

import io
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ebmcore.errors import InputError, RunError
from ebmcore.protocols import ArraySpec, Block, Layout, Span
from ebmcore_writers.blocks import rows, spec_of

# macOS has no fdatasync.
_sync = getattr(os, "fdatasync", os.fsync)


@dataclass(frozen=True)
class Npy:
    """Writes one .npy file an array, C order, in the dtype of the layout."""

    parallel: ClassVar[bool] = True

    def prepare(self, path: Path, layout: Layout, committed: Sequence[Span]) -> None:
        """Create every file at its full size, or keep those of an earlier run, grown if it had fewer chains.

        What an earlier run wrote and did not commit stays until its blocks are written again.

        Raises:
            InputError: An array's name is not one that a file can have.
            RunError: The disk is too small; or something was committed, and a file is missing or is another array's.
        """
        for name in layout.arrays:
            if "/" in name or "\\" in name or "\0" in name or ".." in name or not name:
                raise InputError(
                    f"an array's name must be usable as a file name; got {name!r}. Use letters and digits."
                )
        if committed:
            for name, spec in layout.arrays.items():
                _check_kept(_file(path, name), spec)
        _check_space(path, layout)
        if committed:
            for name, spec in layout.arrays.items():
                _grow(_file(path, name), spec)
            return
        for name, spec in layout.arrays.items():
            with _file(path, name).open("wb") as file:
                file.write(_header(spec))
                file.truncate(_size(spec))
                file.flush()
                os.fsync(file.fileno())
        _sync_folder(path)

    def open(self, path: Path, layout: Layout) -> NpySink:
        return NpySink(path, layout)

    def truncate(self, path: Path, layout: Layout, chains: int) -> None:
        """Cut every file after `chains` chains; a header has room for any number of them.

        Raises:
            RunError: A file is missing, or is another array's.
        """
        for name, spec in layout.first(chains).arrays.items():
            file = _file(path, name)
            # Cut already, where an earlier attempt was killed in between.
            if not file.is_file() or file.stat().st_size != _size(spec):
                _data_offset(file, layout.arrays[name])
            with file.open("r+b") as stream:
                stream.truncate(_size(spec))
                stream.write(_header(spec))
                stream.flush()
                os.fsync(stream.fileno())

    def finish(self, path: Path, layout: Layout, summary: Mapping[str, Any]) -> None:
        """Make the files' data and metadata durable."""
        for name in layout.arrays:
            with _file(path, name).open("rb") as file:
                os.fsync(file.fileno())
        _sync_folder(path)

    def read(self, path: Path, layout: Layout, name: str, chains: slice) -> np.ndarray[Any, Any]:
        """Return the rows `chains` of array `name`, a read-only memory map of its file.

        Raises:
            InputError: There is no array of that name.
            RunError: Its file is missing, cut short or another array's.
        """
        file = _file(path, name)
        _data_offset(file, spec_of(layout, name))
        whole: np.ndarray[Any, Any] = np.load(file, mmap_mode="r")
        return whole[chains]


class _Open(NamedTuple):
    fd: int
    offset: int
    spec: ArraySpec
    draw_bytes: int
    chain_bytes: int


class NpySink:
    """Holds the files of one stage open and writes blocks at their place."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self._files: dict[str, _Open] = {}
        with ExitStack() as stack:
            for name, spec in layout.arrays.items():
                file = _file(path, name)
                offset = _data_offset(file, spec)
                fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
                stack.callback(os.close, fd)
                draw = math.prod(spec.shape[2:]) * np.dtype(spec.dtype).itemsize
                self._files[name] = _Open(fd, offset, spec, draw, draw * spec.shape[1])
            self._stack = stack.pop_all()
        self._path = path
        self._layout = layout

    def write(self, block: Block) -> None:
        """Store a block and wait until the disk has it.

        Raises:
            RunError: The disk is full or broken, or the block does not fit the layout.
        """
        if not self._files:
            raise RunError(f"the sink of '{self._path}' must be open to take a block; got it closed. Open another.")
        name = ""
        try:
            for name, tensor in block.arrays.items():
                self._place(name, rows(block, name, tensor, spec_of(self._layout, name)), block)
            for name in block.arrays:
                _sync(self._files[name].fd)
        except OSError as error:
            raise RunError(
                f"'{_file(self._path, name)}' must take a block of draws; got: {error.strerror}. "
                "Make room on that disk or mend it, and resume."
            ) from error

    def close(self) -> None:
        self._stack.close()
        # A closed descriptor's number may soon be another file's.
        self._files.clear()

    def _place(self, name: str, array: np.ndarray[Any, Any], block: Block) -> None:
        if not array.size:
            return
        fd, offset, _, draw_bytes, chain_bytes = self._files[name]
        data = array.data.cast("B")
        start = offset + block.lo * chain_bytes + block.first * draw_bytes
        length = (block.last - block.first) * draw_bytes
        if length == chain_bytes:
            _pwrite(fd, data, start)
            return
        # The other draws of these chains may be another worker's: nothing but this block's bytes may be written.
        for row in range(block.hi - block.lo):
            _pwrite(fd, data[row * length : (row + 1) * length], start + row * chain_bytes)


def _file(path: Path, name: str) -> Path:
    return path / f"{name}.npy"


def _header(spec: ArraySpec) -> bytes:
    buffer = io.BytesIO()
    fields = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(spec.dtype)),
        "fortran_order": False,
        "shape": tuple(int(size) for size in spec.shape),
    }
    np.lib.format.write_array_header_1_0(buffer, fields)
    return buffer.getvalue()


def _size(spec: ArraySpec) -> int:
    return len(_header(spec)) + math.prod(spec.shape) * np.dtype(spec.dtype).itemsize


def _grow(file: Path, spec: ArraySpec) -> None:
    """Make room for more chains: the header of a .npy file is padded, so that their number may have more digits."""
    with file.open("r+b") as stream:
        if os.fstat(stream.fileno()).st_size != _size(spec):
            stream.truncate(_size(spec))
        header = _header(spec)
        if stream.read(len(header)) != header:
            # After the length: a file may be longer than its header says, not shorter.
            stream.seek(0)
            stream.write(header)
            stream.flush()
            os.fsync(stream.fileno())


class _Head(NamedTuple):
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    offset: int
    length: int


def _head(file: Path) -> _Head:
    try:
        with file.open("rb") as stream:
            if np.lib.format.read_magic(stream) != (1, 0):
                raise ValueError("another version of the format")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
            return _Head(shape, fortran, dtype, stream.tell(), os.fstat(stream.fileno()).st_size)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RunError(
            f"'{file}' must be the .npy file of this run; got: {reason}. Bring it back, or start in an empty folder."
        ) from error


def _data_offset(file: Path, spec: ArraySpec) -> int:
    """Return where the data of `file` begins, once its header and its length have been found to be those of `spec`."""
    head = _head(file)
    wanted = f"{np.dtype(spec.dtype).name} {list(spec.shape)} in {_size(spec)} bytes"
    found = f"{head.dtype.name} {list(head.shape)} in {head.length} bytes"
    if head.fortran or found != wanted:
        raise RunError(
            f"'{file}' must hold {wanted}; got {found}{', Fortran order' if head.fortran else ''}. "
            "Bring the run's own file back, or start in an empty folder."
        )
    return head.offset


def _check_kept(file: Path, spec: ArraySpec) -> None:
    """Refuse a file that is neither the one of `spec` nor one of fewer chains, which may be as long as for all."""
    head = _head(file)
    fewer = spec._replace(shape=(*head.shape[:1], *spec.shape[1:]))
    grown = 0 < sum(head.shape[:1]) <= spec.shape[0] and head.offset == len(_header(spec))
    if not (grown and head.length == _size(spec) and _header(fewer) == _bytes(file, head.offset)):
        _data_offset(file, fewer if grown and head.length == _size(fewer) else spec)


def _bytes(file: Path, count: int) -> bytes:
    with file.open("rb") as stream:
        return stream.read(count)


def _check_space(path: Path, layout: Layout) -> None:
    """Refuse a run that cannot fit: a file made at full size takes no space until it is written."""
    needed = sum(max(0, _size(spec) - _taken(_file(path, name))) for name, spec in layout.arrays.items())
    free = shutil.disk_usage(path).free
    if needed > free:
        raise RunError(
            f"disk must have {_human(needed)} free under '{path}'; got {_human(free)}. "
            "Write to another disk, keep fewer draws, or run fewer chains."
        )


def _taken(file: Path) -> int:
    return file.stat().st_blocks * 512 if file.exists() else 0


def _human(size: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _pwrite(fd: int, data: memoryview, offset: int) -> None:
    # A write may be cut short: by a signal, by a quota, and by Linux beyond 2 GB.
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written
