"""Checkpoints of chunks in flight: one safetensors file a chunk, replaced at once; nothing in it is unpickled.

A checkpoint saves time and nothing else: one that is missing, damaged or of another run is left out, and its chunk
begins anew and ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from ebmcore.protocols import Chunk, WrittenBlock
from ebmcore.rundir.directory import CHECKPOINTS
from ebmcore.rundir.files import durable, write_whole

_SUFFIX = ".safetensors"
_KEY = "ebmcore"


@dataclass(frozen=True)
class Checkpoint:
    """How far a chunk came."""

    chunk: Chunk
    blocks: tuple[WrittenBlock, ...]
    """What it has written."""
    place: Mapping[str, Any]
    """Where it is: plain numbers."""
    tensors: Mapping[str, Tensor]
    """What it needs to go on, on the CPU."""


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Store a checkpoint in place of an older one of its chunk; durable on return.

    Raises:
        RunError: The disk is full or broken.
    """
    # Copies: leaves of a state may share memory, which the format refuses.
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in checkpoint.tensors.items()}
    said = {
        "chunk": checkpoint.chunk.to_json(),
        "blocks": [block.to_json() for block in checkpoint.blocks],
        "place": dict(checkpoint.place),
        "sha256": _digest(tensors),
    }
    file = _file(path, checkpoint.chunk)
    with durable(file):
        write_whole(file, to_bytes(tensors, {_KEY: json.dumps(said)}))


def load(path: Path, chunk: Chunk) -> Checkpoint | None:
    """Return the checkpoint of a chunk, or None if there is none that is whole."""
    return _load(_file(path, chunk), chunk)


def load_all(path: Path) -> list[Checkpoint]:
    """Return every checkpoint of a run that is whole, in chain order."""
    found = [_load(file, None) for file in (path / CHECKPOINTS).glob(f"*{_SUFFIX}")]
    return sorted((each for each in found if each is not None), key=lambda each: each.chunk.lo)


def forget(path: Path, chunk: Chunk) -> None:
    """Remove the checkpoint of a chunk, if there is one.

    Raises:
        RunError: The disk is broken, or the directory cannot be written.
    """
    with durable(path / CHECKPOINTS):
        _file(path, chunk).unlink(missing_ok=True)


def keep_only(path: Path, chunks: set[Chunk]) -> None:
    """Remove what lies among the checkpoints, but for those of some chunks.

    Raises:
        RunError: The disk is broken, or the directory cannot be written.
    """
    kept = {_file(path, chunk) for chunk in chunks}
    with durable(path / CHECKPOINTS):
        for file in (path / CHECKPOINTS).glob("*"):
            if file not in kept and file.is_file():
                file.unlink()


def _file(path: Path, chunk: Chunk) -> Path:
    return path / CHECKPOINTS / f"{chunk.lo}-{chunk.hi}{_SUFFIX}"


def _load(file: Path, chunk: Chunk | None) -> Checkpoint | None:
    try:
        with safe_open(file, "pt") as opened:
            said = json.loads((opened.metadata() or {})[_KEY])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (it is no mapping)
        found = Checkpoint(
            Chunk.from_json(said["chunk"]),
            tuple(WrittenBlock.from_json(block) for block in said["blocks"]),
            dict(said["place"]),
            tensors,
        )
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    whole = said.get("sha256") == _digest(tensors) and file.name == _file(Path(), found.chunk).name
    return found if whole and chunk in (None, found.chunk) else None


def _digest(tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        if value.numel():
            found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
