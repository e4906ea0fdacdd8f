"""Who is timed: one family a module, each with functions `NAME(problem) -> Peer`, called in a process of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


class Missing(Exception):
    """This contender cannot run here, or has no such energy; the text says why."""


@dataclass(frozen=True)
class Peer:
    """How one contender does its work.

    Attributes:
        sample: Makes that many chains, from N(0, 1) to the last step, and returns their positions [n, *shape].
        to_disk: Writes that many into a folder that it makes, and returns them or a part of them; None where the way
            of the guide, a loop over batches, is the only one.
    """

    sample: Callable[[int], np.ndarray]
    to_disk: Callable[[int, Path], np.ndarray] | None = None
