"""Workers' labels and the devices that torch sees behind them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from ebmcore.errors import InputError


def resolve_devices(devices: str | Sequence[str]) -> tuple[str, ...]:
    """Return one label a worker: every accelerator for `"auto"`, else one a core of the CPU.

    Raises:
        InputError: torch does not see a device that was named.
    """
    if devices == "auto":
        seen = [label for label in visible_devices() if label != "cpu"]
        return tuple(seen) or cpu_workers()
    labels = [devices] if isinstance(devices, str) else list(devices)
    if not labels:
        raise InputError("`devices` must name at least one device; got none. Leave it at 'auto'.")
    for label in labels:
        torch_device(label)
    return tuple(labels)


def automatic_executor(devices: Sequence[str], *, portable: bool) -> tuple[str, str]:
    """Return the name of the executor for several workers, and why.

    Args:
        devices: One label a worker.
        portable: Whether another process can build the run's objects.
    """
    accelerators = {label for label in devices if torch_device(label).type != "cpu"}
    if len(accelerators) < 2:
        return "threads", "several workers in one process"
    if portable:
        return "processes", "one process a device"
    return "threads", "several devices in one process, since only this one has the run's objects"


def cpu_workers() -> tuple[str, ...]:
    """Return the labels of one worker a core that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ("cpu",) * cores


def torch_device(label: str) -> torch.device:
    """Return torch's device of a worker's label; `cpu:1` is a second worker on the same CPU.

    Raises:
        InputError: torch has no such device.
    """
    kind, _, index = label.partition(":")
    known = kind in ("cpu", "cuda", "mps") and (not index or index.isdigit())
    if known and kind == "cpu":
        return torch.device("cpu")
    if known and kind == "cuda" and int(index or 0) < torch.cuda.device_count():
        return torch.device("cuda", int(index or 0))
    if known and kind == "mps" and torch.backends.mps.is_available():
        return torch.device("mps")
    raise InputError(f"a device must be one that torch sees here; got '{label}'. Seen: {', '.join(visible_devices())}.")


def visible_devices() -> list[str]:
    """Return the labels of the devices that torch sees: accelerators first, then the CPU."""
    accelerators = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [*accelerators, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]
