"""The limit: limit.c, compiled when the benchmark runs for the CPU that it runs on."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from tests.benchmarks.peers import Missing, Peer
from tests.benchmarks.problems import Problem, layers

FLAGS = ["-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-fopenmp", "-shared", "-fPIC"]

BLOCK = 32


def c(problem: Problem) -> Peer:
    """Return the C kernel on all cores.

    Raises:
        Missing: There is no gcc, it cannot compile the file, or the file has no such energy.
    """
    library = _compiled()
    weights = _weights(problem)
    run = library.mlp if weights else library.double_well

    def sample(n: int) -> np.ndarray:
        out = np.empty((BLOCK * -(-n // BLOCK), 2), np.float32)
        run(
            _address(out),
            ctypes.c_long(len(out)),
            ctypes.c_long(problem.steps),
            ctypes.c_float(problem.step_size),
            ctypes.c_uint32(1),
            *problem.hidden,
            *map(_address, weights),
        )
        return out[:n]

    def to_disk(n: int, folder: Path) -> np.ndarray:
        folder.mkdir()
        out = sample(n)
        np.save(folder / "draws.npy", out)
        return out

    return Peer(sample, to_disk)


def _weights(problem: Problem) -> list[np.ndarray]:
    if problem.energy == "double_well" and problem.shape == (2,):
        return []
    if problem.energy == "mlp" and problem.shape == (2,) and len(problem.hidden) == 2 and max(problem.hidden) <= 128:
        (w1, b1), (w2, b2), (w3, _) = layers(problem)
        return [np.ascontiguousarray(array) for array in (w1, b1, w2, b2, w3, w1.T, w2.T)]
    raise Missing("limit.c has the double well and networks 2-h-h-1 alone")


def _compiled() -> ctypes.CDLL:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise Missing("no C compiler")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "limit.so"
        source = Path(__file__).with_name("limit.c")
        done = subprocess.run([compiler, *FLAGS, str(source), "-o", str(target), "-lm"], capture_output=True, text=True)
        if done.returncode:
            # Only x86 knows the option; elsewhere -march=native says it all.
            flags = [flag for flag in FLAGS if not flag.startswith("-mprefer")]
            done = subprocess.run(
                [compiler, *flags, str(source), "-o", str(target), "-lm"], capture_output=True, text=True
            )
        if done.returncode:
            raise Missing(f"{compiler} could not compile limit.c: {done.stderr.strip()[:200]}")
        return ctypes.CDLL(str(target))


def _address(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
