"""What the numbers were measured on. Imports no torch: the parent of the workers stays small."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from typing import Any

from importlib_metadata import PackageNotFoundError, version

PACKAGES = ("ebmcore", "torch", "numpy", "numba", "torchebm", "blackjax", "jax")


def machine() -> dict[str, Any]:
    """Return processor, cores, load and versions, as plain values."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "compiler": _first_line([shutil.which("gcc") or shutil.which("cc") or "", "--version"]),
    }


def described(about: dict[str, Any]) -> str:
    """Return it in one line."""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    compiler = about["compiler"] or "no C compiler"
    return (
        f"{about['processor']}, {about['cores']} cores, {about['system']}, Python {about['python']}, {versions}, "
        f"{compiler}, load {about['load_before']} before"
    )


def cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    lines = _output(["lscpu"]).splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("Model name")]
    return names[0] if names else platform.processor() or "unknown"


def _first_line(command: list[str]) -> str:
    return (_output(command).splitlines() or [""])[0]


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"})
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout
