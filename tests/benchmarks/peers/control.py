"""What a second thread can gain here: arithmetic in registers, in threads that hold no lock and share no memory."""

from __future__ import annotations

import threading

import numpy as np
from numba import njit

from tests.benchmarks.peers import Peer
from tests.benchmarks.problems import Problem

U = np.uint32

WORDS = 1 << 31


def registers(problem: Problem) -> Peer:
    """Return a fixed amount of arithmetic, shared evenly by `problem.workers` threads."""

    def sample(n: int) -> np.ndarray:
        share = WORDS // problem.workers
        threads = [threading.Thread(target=_spin, args=(i * share, (i + 1) * share)) for i in range(problem.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return np.zeros(1, np.float32)

    return Peer(sample)


@njit(nogil=True)
def _spin(first: int, last: int) -> int:  # vectorised, as the kernels are: a second hyperthread gains them little
    word = U(0)
    for i in range(first, last):
        x = U(i)
        x = U((x ^ (x >> U(16))) * U(0x7FEB352D))
        x = U((x ^ (x >> U(15))) * U(0x846CA68B))
        word ^= U(x ^ (x >> U(16)))
    return word
