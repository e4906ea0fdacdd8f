"""Any TorchEBM `BaseModel` by name.

In Python an instance needs no plugin: a `BaseModel` is an `nn.Module` [n, *shape] -> [n] with a
`gradient`, so `ebm.sample(DoubleWellModel(), ...)` runs as it is.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torchebm.core import BaseModel

from ebmcore.errors import SettingsError

HOME = "torchebm.core"
"""Where a name without a module is looked up."""


def model(model: str, arguments: Mapping[str, float | int | bool | str | list[Any]] | None = None) -> BaseModel:
    """Return a TorchEBM energy.

    Args:
        model: `DoubleWellModel` and its like of torchebm.core, or `module:Class` of a `BaseModel` of one's own.
        arguments: Its constructor's arguments; lists become tensors, such as mean = [0.0, 0.0].

    Raises:
        SettingsError: There is no such class, it is no `BaseModel`, or it refuses its arguments.
    """
    module, colon, name = model.rpartition(":")
    try:
        found = getattr(importlib.import_module(module if colon else HOME), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(
            f"`model` must name a class of {HOME}, or be 'module:Class'; got {model!r} ({error}). Mend it."
        ) from error
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise SettingsError(f"`model` must name a subclass of torchebm.core.BaseModel; got {model!r}. Choose another.")
    given: dict[str, Any] = dict(arguments or {})
    given |= {key: torch.tensor(value) for key, value in given.items() if isinstance(value, list)}
    try:
        return found(**given)
    except Exception as error:  # whatever a constructor makes of its arguments
        line = " ".join(str(error).split())
        raise SettingsError(f"`arguments` must suit {name}; got: {type(error).__name__}: {line}. Mend them.") from error
