"""The one registry of this process, and the functions behind `ebm.load`, `ebm.register` and `ebm.use`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from ebmcore.errors import SettingsError
from ebmcore.registry.registry import Registry
from ebmcore.registry.wording import quoted

T = TypeVar("T")

_lock = threading.Lock()
_made: list[Registry] = []


def default() -> Registry:
    """Return the registry of this process, made at first use; `EBMCORE_NO_PLUGIN` (comma-separated) blocks plugins."""
    with _lock:
        if not _made:
            blocked = [entry.strip() for entry in os.environ.get("EBMCORE_NO_PLUGIN", "").split(",")]
            _made.append(Registry(blocked=[entry for entry in blocked if entry]))
        return _made[0]


def renew() -> None:
    """Forget the registry of this process, and what was registered in it: the next use makes one anew."""
    with _lock:
        _made.clear()


def load(kind: str, name: str) -> Any:
    """Return the class or function of a plugin.

    Args:
        kind: "sampler", "model", "schedule", "writer", "reducer", "executor", "noise" or "observer".
        name: Its name, `name@distribution`, `pkg.module:Attr`, or `FILE.py:Attr`.

    Raises:
        PluginError: It cannot be had.
    """
    return default().load(kind, name).target


def register(kind: str, name: str) -> Callable[[T], T]:
    """Return a decorator that gives a class or function a name in this process; again replaces.

    Raises:
        PluginError: There is no such kind, or the name or the object does not suit it.
    """
    return default().register(kind, name)


def use(name: str, /, **settings: Any) -> dict[str, Any]:
    """Return the table that names a plugin and its settings, as a run file would; it is validated where it is used.

    Args:
        name: A plugin's name or a direct reference.
        **settings: Its settings.

    Raises:
        SettingsError: A setting is called `use`.
    """
    if "use" in settings:
        raise SettingsError(
            f"`use` must be given once; got {quoted(name)} and {quoted(settings['use'])}. Leave one out."
        )
    return {"use": name, **settings}
