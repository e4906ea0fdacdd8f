"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from typing import Any

import numpy
import torch
from importlib_metadata import version


def machine() -> dict[str, Any]:
    """Return processor, cores, load and versions, as plain values."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "ebmcore": version("ebmcore"),
    }


def cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        listed = subprocess.run(
            ["lscpu"], capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}
        )
    except (OSError, subprocess.CalledProcessError):
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in listed.stdout.splitlines() if line.startswith("Model name")]
    return names[0] if names else "unknown"
