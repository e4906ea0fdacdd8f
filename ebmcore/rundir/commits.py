"""The commit log: one line of JSON a chunk whose data is durable.

A line holds the chunk, the sha256 of each array of each block of draws that it wrote, the reducers'
accumulators, and under `check` the sha256 of the line itself without it. A chunk counts when its line is
whole; a line that is not says nothing, and its chunk runs again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebmcore.errors import InputError
from ebmcore.protocols import Chunk, Receipt, WrittenBlock
from ebmcore.rundir.files import durable, write_whole

COMMITS = "commits.jsonl"


@dataclass(frozen=True)
class Commit:
    """A whole line of the log."""

    chunk: Chunk
    blocks: tuple[WrittenBlock, ...]
    data: Mapping[str, Any]
    """The line."""

    def receipt(self) -> Receipt:
        """Return what was committed, accumulators included.

        Raises:
            ValueError: The line holds no such thing, whoever wrote it.
        """
        try:
            return Receipt.from_json(self.data)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a receipt: {error!r}") from error


@dataclass(frozen=True)
class Log:
    """What a commit log says.

    Attributes:
        commits: Its whole lines, in the order in which chunks ended; of one chunk the last.
        damaged: Numbers, from 1, of lines that are not whole, without a last one that was only half written.
        torn: Whether the last line was only half written.
    """

    commits: tuple[Commit, ...]
    damaged: tuple[int, ...]
    torn: bool


def commit(path: Path, receipt: Receipt) -> None:
    """Note that a chunk is done: its data is durable by now.

    Raises:
        RunError: The disk is full or broken, or the directory is gone.
    """
    file = path / COMMITS
    with durable(file):
        # Not created: a log that is gone means that the run's directory is.
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0))
        try:
            line = memoryview(_line({**receipt.to_json(), "seconds": round(receipt.seconds, 3)}))
            while line:
                line = line[os.write(descriptor, line) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_log(path: Path) -> Log:
    """Return what the commit log of a run says.

    Raises:
        InputError: It cannot be read.
    """
    try:
        content = (path / COMMITS).read_bytes()
    except OSError as error:
        raise InputError(
            f"the {COMMITS} of '{path}' must be readable; got: {error.strerror or error}. Restore it from a copy, "
            "or run it anew with --overwrite."
        ) from error
    lines = content.split(b"\n")
    torn = bool(lines.pop())
    commits: dict[tuple[int, int], Commit] = {}
    damaged = []
    for number, line in enumerate(lines, 1):
        found = _parsed(line)
        if found is None:
            damaged.append(number)
        else:
            commits.pop((found.chunk.lo, found.chunk.hi), None)
            commits[found.chunk.lo, found.chunk.hi] = found
    return Log(tuple(commits.values()), tuple(damaged), torn)


def rewrite(path: Path, commits: Iterable[Commit]) -> None:
    """Replace the log by some of its lines, at once.

    Raises:
        RunError: The disk is full or broken.
    """
    with durable(path / COMMITS):
        write_whole(path / COMMITS, b"".join(_line(commit.data) for commit in commits))


def _line(data: Mapping[str, Any]) -> bytes:
    text = json.dumps({key: value for key, value in data.items() if key != "check"}, separators=(",", ":"))
    return f'{text[:-1]},"check":"{_digest(text)}"}}\n'.encode()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _parsed(line: bytes) -> Commit | None:
    try:
        data = json.loads(line)
        text, mark, check = line.decode().rpartition(',"check":"')
        if not mark or check != f'{_digest(text + "}")}"}}':
            return None
        return Commit(Chunk.from_json(data["chunk"]), _blocks(data["blocks"]), data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _blocks(data: Sequence[Mapping[str, Any]]) -> tuple[WrittenBlock, ...]:
    return tuple(WrittenBlock.from_json(block) for block in data)
