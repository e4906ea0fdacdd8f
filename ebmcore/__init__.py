"""ebmcore: energy-based models and their samplers, each a plugin, run in batches on any devices.

    import ebmcore as ebm

    result = ebm.sample(lambda x: ((x**2 - 1) ** 2).sum(-1), ebm.use("ula", step_size=0.01),
                        chains=10_000, shape=(2,), steps=1000)
    result.final  # [10000, 2]

Names are resolved when they are touched: importing ebmcore does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebmcore.engine import run_chunk as run_chunk
    from ebmcore.errors import ConfigError as ConfigError
    from ebmcore.errors import EbmcoreError as EbmcoreError
    from ebmcore.errors import EbmcoreWarning as EbmcoreWarning
    from ebmcore.errors import EnergyError as EnergyError
    from ebmcore.errors import InputError as InputError
    from ebmcore.errors import NonFiniteError as NonFiniteError
    from ebmcore.errors import PluginError as PluginError
    from ebmcore.errors import RunError as RunError
    from ebmcore.errors import RunStopped as RunStopped
    from ebmcore.errors import SamplerError as SamplerError
    from ebmcore.errors import SettingsError as SettingsError
    from ebmcore.observers import hookimpl as hookimpl
    from ebmcore.protocols import Stage as Stage
    from ebmcore.registry import load as load
    from ebmcore.registry import register as register
    from ebmcore.registry import use as use
    from ebmcore.result import Result as Result
    from ebmcore.result import open_run as open_run
    from ebmcore.sampling import sample as sample
    from ebmcore.session import Session as Session

_HOMES = {
    "run_chunk": "engine",
    "hookimpl": "observers",
    "Stage": "protocols",
    "load": "registry",
    "register": "registry",
    "use": "registry",
    "Result": "result",
    "open_run": "result",
    "sample": "sampling",
    "Session": "session",
    **dict.fromkeys(
        (
            "ConfigError",
            "EbmcoreError",
            "EbmcoreWarning",
            "EnergyError",
            "InputError",
            "NonFiniteError",
            "PluginError",
            "RunError",
            "RunStopped",
            "SamplerError",
            "SettingsError",
        ),
        "errors",
    ),
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib_metadata import version

        return version("ebmcore")
    if name not in _HOMES:
        raise AttributeError(f"module 'ebmcore' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"ebmcore.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
