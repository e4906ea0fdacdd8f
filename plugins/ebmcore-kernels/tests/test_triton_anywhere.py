"""The triton backend where there is no GPU: interpreted, compiled for one that is elsewhere, out of the way."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import ebmcore as ebm
from ebmcore.protocols import Key
from ebmcore_kernels.triton_noise import Triton

KEY = Key((7, 11), 5, 3)


def python(*arguments, **environment):
    """What Python printed, in a process of its own where a warning is an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_kernels_interpreted():
    pytest.importorskip("triton")
    tests = Path(__file__).with_name("test_triton_noise.py")
    root = next(folder for folder in tests.parents if (folder / "tests" / "conftest.py").exists())
    options = ("-q", "-p", "no:cacheprovider", f"--rootdir={root}", f"--config-file={root / 'pyproject.toml'}")
    assert " passed" in python("-m", "pytest", *options, str(tests), TRITON_INTERPRET="1")


# ----------------------------------------------------------------------------------------------- compiled for elsewhere


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """The kernels of the calls of a test, compiled for an A100 as those calls would have it, and not launched."""
    pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver
    from triton.runtime.jit import KernelInterface

    target = GPUTarget("cuda", 80, 32)
    a100 = SimpleNamespace(
        get_current_target=lambda: target, get_current_device=lambda: 0, get_current_stream=lambda device: 0
    )
    made = []

    def compile_alone(kernel, grid):
        return lambda *arguments, **options: made.append(kernel.warmup(*arguments, grid=grid, **options))

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(driver, "_active", a100)
    monkeypatch.setattr(KernelInterface, "__getitem__", compile_alone)
    return made


def instructions(kernel):
    return Counter(re.findall(r"^\s+(?:@\S+ )?([a-z][\w.:]+)", kernel.asm["ptx"], re.MULTILINE))


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float32, 32), (torch.float64, 64)])
def test_every_operation_of_the_compiled_kernels_rounds_to_nearest(compiled, dtype, bits):
    x, g = torch.zeros(64, 2, dtype=dtype), torch.zeros(64, 2, dtype=dtype)
    held, ids = KEY._replace(t=torch.tensor([5])), torch.arange(64)
    Triton().perturb_(x, 0.1, held, range(64), decay=0.9, drift=g, drift_scale=0.2)
    Triton().perturb_(x, torch.ones(64), KEY, ids, decay=0.9, drift=g, drift_scale=0.2)
    Triton().perturb_(x.view(-1)[:1], 0.1, KEY, range(1, 2))
    Triton().fill_(x.view(-1)[:63], "normal", KEY, ids[:63])
    assert len({id(kernel) for kernel in compiled}) == 4
    for kernel in compiled:
        ptx = instructions(kernel)
        assert not [name for name in ptx if "approx" in name or "ftz" in name or "full" in name]
        assert ptx[f"fma.rn.f{bits}"] > 20
        assert ptx[f"sqrt.rn.f{bits}"] == 4  # a root a pair
        assert not {f"mul.f{bits}", f"add.f{bits}", f"sub.f{bits}"} & set(ptx)  # those would be contracted


def test_another_key_or_chunk_compiles_nothing(compiled):
    x, g = torch.zeros(64, 2), torch.zeros(64, 2)
    for word in (0, 1, 16, 2**31 + 16, 2**32 - 1):
        key = Key((word, word), word, word)
        Triton().perturb_(x, 0.1, key, range(64 * word, 64 * word + 64), drift=g, drift_scale=0.2)
        Triton().perturb_(x, 1, key, range(64, 128), decay=0, drift=g, drift_scale=1)
    assert len({id(kernel) for kernel in compiled}) == 1
    assert instructions(compiled[0])["ld.global.v4.b32"] == 4  # positions and drift: whole lines of memory


# ------------------------------------------------------------------------------------------------------ out of the way

RUN = """
import sys
import ebmcore as ebm

result = ebm.sample(
    ebm.use("double_well"), ebm.use("ula", step_size=0.01), chains=8, shape=(2,), steps=2, devices=["cpu"]
)
assert result.provenance["job"]["noise"] != "triton"
print(ebm.load("noise", "triton").devices, "triton" in sys.modules)
"""


def test_a_run_on_a_cpu_does_not_import_triton():
    assert python("-c", RUN) == "('cuda',) False\n"


# Where numba fails, the backends after it are looked at, for their devices alone; this one is there without Triton.
WITHOUT = f"""
import sys, warnings
sys.modules["llvmlite"] = sys.modules["triton"] = None
import torch
from ebmcore.errors import EbmcoreWarning
from ebmcore.protocols import Key

with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always", EbmcoreWarning)
    exec({RUN!r})
assert ["'numba'" in str(line.message) for line in said] == [True], said
try:
    ebm.load("noise", "triton")().fill_(torch.zeros(2, 2), "normal", Key((0, 0), 0, 0), range(2))
except ebm.InputError as error:
    print(error)
"""


def test_without_triton_or_numba_either():
    assert re.fullmatch(
        r"""\('cuda',\) True
noise backend triton must have Triton; got .*\. Install it with pip install 'ebmcore-kernels\[cuda\]'\.
""",
        python("-c", WITHOUT),
    )


def test_on_a_cpu_it_is_refused():
    with pytest.raises(ebm.InputError, match="noise backend 'triton' must work on the run's devices; got cpu, where"):
        ebm.sample(
            ebm.use("double_well"), ebm.use("ula"), chains=8, shape=(2,), steps=1, noise="triton", devices=["cpu"]
        )
