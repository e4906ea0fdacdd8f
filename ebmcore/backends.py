"""Which noise backend a run uses: the one that is named, else the first of ours that works on its devices."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch

from ebmcore.devices import torch_device
from ebmcore.errors import EbmcoreError, EbmcoreWarning, InputError
from ebmcore.protocols import Key, NoiseBackend
from ebmcore.registry import READY, Registry, is_ours, ours

REFERENCE = "reference"


def choose_noise(noise: str, devices: Sequence[str], dtype: torch.dtype, registry: Registry) -> str:
    """Return the name of a run's noise backend.

    `"auto"` is the first by name that lists every device and makes a number there, of those that come with ebmcore or
    were registered in this process; the reference is the last. One that somebody else's distribution gives has to
    be named: that it is installed must not change what others draw. Trying one compiles it, before any worker starts.

    Args:
        noise: `"auto"` or a name.
        devices: The workers' labels.
        dtype: float32 or float64.
        registry: Where backends come from.

    Raises:
        InputError: A backend that was named cannot be had, or does not list a device.

    Warns:
        EbmcoreWarning: One that is installed does not work here, so that a slower one is used.
    """
    kinds = {torch_device(label).type for label in devices}
    if noise != "auto":
        backend: NoiseBackend = registry.build("noise", {"use": noise}).object
        missing = sorted(kinds - set(backend.devices))
        if missing:
            raise InputError(
                f"noise backend '{noise}' must work on the run's devices; got {missing[0]}, where it works on "
                f"{', '.join(backend.devices)}. Use noise = 'auto'."
            )
        return noise
    for record in registry.records("noise"):
        if record.name == REFERENCE or record.state not in READY or not is_ours(record):
            continue
        name = ours(registry, "noise", record.name)
        try:
            backend = registry.build("noise", {"use": name}).object
            if kinds <= set(backend.devices):
                for label in set(devices):
                    _try(backend, torch_device(label), dtype)
                return name
        except EbmcoreError as error:
            _say(record.name, str(error))
        except Exception as error:  # a plugin that was not asked for by name must not stop a run
            _say(record.name, f"it raised {type(error).__name__}: {error}")
    return ours(registry, "noise", REFERENCE)


def _try(backend: NoiseBackend, device: torch.device, dtype: torch.dtype) -> None:
    x = torch.zeros(2, 2, dtype=dtype, device=device)
    backend.perturb_(x, 1.0, Key((0, 0), 0, 0), range(2), drift=torch.zeros_like(x), drift_scale=1.0)
    backend.fill_(x, "uniform", Key((0, 0), 0, 0), range(2))


def _say(name: str, reason: str) -> None:
    line = " ".join(reason.split())
    warnings.warn(
        f"noise backend '{name}' should work here; {line} The slower '{REFERENCE}' is used.",
        EbmcoreWarning,
        stacklevel=4,
    )
