"""Machine code on disk: loaded without Numba, made anew where it is missing, damaged or of something else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

DRAW = """
import sys, torch
from ebmcore.protocols import Key
from ebmcore_kernels.numba_noise import Numba

x = Numba().perturb_(torch.zeros(1000, 3), 1.0, Key((1, 2), 3, 0), range(1000))
y = Numba().fill_(torch.zeros(10, 3, dtype=torch.float64), "normal", Key((1, 2), 3, 0), torch.arange(10))
print("numba" in sys.modules, x.sum().item(), y.sum().item())
"""


def draw(folder, **more):
    """Return whether a fresh process imported Numba, and what it drew."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder), **more}
    done = subprocess.run(
        [sys.executable, "-c", DRAW], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    imported, *numbers = done.stdout.split()
    return imported == "True", numbers


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with the object files of a first run, and its numbers."""
    folder = tmp_path_factory.mktemp("kept")
    compiled, numbers = draw(folder)
    assert compiled
    assert len(list(folder.iterdir())) == 2
    return folder, numbers


def test_what_is_on_disk_is_loaded_without_numba(kept):
    folder, numbers = kept
    assert draw(folder) == (False, numbers)


def test_a_damaged_file_is_made_anew(kept, tmp_path):
    folder, numbers = kept
    first, second = sorted(folder.iterdir())
    code = first.read_bytes()
    (tmp_path / first.name).write_bytes(code[:500] + b"?" + code[501:])
    (tmp_path / second.name).write_bytes(second.read_bytes()[:-100])
    assert draw(tmp_path) == (True, numbers)
    assert draw(tmp_path) == (False, numbers)


@pytest.mark.long
def test_another_cpu_has_files_of_its_own(kept):
    folder, numbers = kept
    assert draw(folder, NUMBA_CPU_NAME="haswell") == (True, numbers)
    assert draw(folder) == (False, numbers)


@pytest.mark.long
def test_a_folder_that_cannot_be_made_costs_compiling_alone(kept, tmp_path):
    (tmp_path / "file").touch()
    assert draw(tmp_path / "file" / "cache") == (True, kept[1])
