"""Peak memory is that of the chunks in flight, whatever the number of chains. Each run is a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

RUN = """
import resource, sys
import ebmcore as ebm

chains, out = int(sys.argv[1]), sys.argv[2]
ebm.sample(
    ebm.use("double_well"), ebm.use("ula", step_size=0.01), chains=chains, shape=(2,), steps=5, seed=1, out=out
)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(chains: int, out) -> int:
    """Return the peak resident memory of a run in kilobytes."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(chains), str(out)], capture_output=True, text=True, check=True, timeout=300
    )
    return int(done.stdout)


@pytest.mark.long
def test_a_million_samples_take_the_memory_of_a_hundred_thousand(tmp_path):
    small, large = peak(100_000, tmp_path / "small"), peak(1_000_000, tmp_path / "large")
    assert (tmp_path / "large/data/npy/draws.npy").stat().st_size >= 8_000_000
    assert large < 1.1 * small
