"""Arrays that a user names by path: one tensor a file, .npy or .safetensors, never unpickled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ebmcore.errors import InputError

SUFFIXES = (".npy", ".safetensors")


def load_array(path: Path, *, what: str) -> Tensor:
    """Return the tensor of a file, mapped into memory where its format allows.

    Args:
        path: A .npy file, or a .safetensors file with one tensor.
        what: Names the file's use in a message.

    Raises:
        InputError: The file is missing, of another format, or holds more than one array.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{what} must be a file ending in {' or '.join(SUFFIXES)}; got '{path}'. Save it as one.")
    if not path.is_file():
        raise InputError(f"{what} must name a file; got '{path}', which is not one. Check the path.")
    try:
        return _load_npy(path) if path.suffix == ".npy" else _only(load_file(path))
    except (SafetensorError, ValueError, TypeError, OSError, EOFError) as error:
        raise InputError(
            f"{what} must be a {path.suffix} file of one array of numbers; got '{path}' ({error}). Save it anew."
        ) from error


def _load_npy(path: Path) -> Tensor:
    # Copy-on-write: torch asks for memory that may be written, and the file stays as it is.
    array = np.load(path, mmap_mode="c", allow_pickle=False)
    return torch.from_numpy(array)


def _only(tensors: dict[str, Tensor]) -> Tensor:
    if len(tensors) != 1:
        raise ValueError(f"it holds {len(tensors)} tensors")
    return next(iter(tensors.values()))
