"""What every writer asks of a block and of an array's name before it stores or reads anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ebmcore.errors import InputError, RunError
from ebmcore.protocols import ArraySpec, Block, Layout

if TYPE_CHECKING:
    from torch import Tensor


def rows(block: Block, name: str, tensor: Tensor, spec: ArraySpec) -> np.ndarray[Any, Any]:
    """Return one array of a block, [hi - lo, last - first, ...], contiguous, without a copy where it was.

    Raises:
        RunError: The block lies outside the array, or has another shape or dtype: numpy would
            broadcast or cast it without a word.
    """
    wanted = (block.hi - block.lo, block.last - block.first, *spec.shape[2:])
    array = tensor.contiguous().numpy()
    if array.shape != wanted or array.dtype != np.dtype(spec.dtype):
        raise RunError(
            f"a block of '{name}' must be {spec.dtype} {list(wanted)}; got {array.dtype} {list(array.shape)}. "
            "Report this to the author of the sampler or of the host."
        )
    if not (0 <= block.lo <= block.hi <= spec.shape[0] and 0 <= block.first <= block.last <= spec.shape[1]):
        raise RunError(
            f"a block of '{name}' must lie within {list(spec.shape[:2])} chains and draws; got chains "
            f"[{block.lo}, {block.hi}) and draws [{block.first}, {block.last}). Report this to the author of the host."
        )
    return array


def spec_of(layout: Layout, name: str) -> ArraySpec:
    """Return what `layout` says of an array.

    Raises:
        InputError: It has no array of that name.
    """
    if name not in layout.arrays:
        raise InputError(f"no array is named '{name}'. Stored: {', '.join(sorted(layout.arrays))}.")
    return layout.arrays[name]
