"""What an object of this process is, in plain values, so that another process can tell whether it has the same.

A name alone would not do: a network was trained further, a constant in a function was edited. So tensors and
state_dicts count by their digest, functions by their bytecode and by what they refer to.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import sys
from collections.abc import Mapping
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CODE = f"code under python {sys.version_info.major}.{sys.version_info.minor}"
"""Key of a digest of bytecode, which differs between versions of Python."""

DEPTH = 4
"""Objects are looked into so deep."""

LISTED = 16
"""A longer list is said by its digest."""


def described(value: Any, depth: int = DEPTH) -> Any:
    """Return plain values that say what an object is; equal objects give equal values in every process.

    Args:
        value: Anything that a run was given as an object.
        depth: How deep to look into it.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return tensor_digest(torch.from_numpy(np.array(value)))
    if isinstance(value, Tensor):
        return tensor_digest(value)
    if isinstance(value, ModuleType) or depth == 0:
        return _name(value)
    if isinstance(value, list | tuple):
        items = [described(each, depth - 1) for each in value]
        return items if len(items) <= LISTED else _digest(repr(items))
    if isinstance(value, Mapping):
        return {str(key): described(each, depth - 1) for key, each in value.items()}
    if isinstance(value, nn.Module):
        return {"of": _name(value), "modules": _digest(repr(value)), "state_dict": _state(value), **_methods(value)}
    if isinstance(value, MethodType):
        return {**described(value.__func__, depth), "self": described(value.__self__, depth - 1)}
    if isinstance(value, FunctionType):
        return {"of": _name(value), CODE: _code(value.__code__), **_referred(value, depth)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.compare}
        return {"of": _name(value), **_methods(value), **described(fields, depth)}
    if isinstance(value, partial):
        return described({"of": "functools.partial", "func": value.func, "args": value.args, **value.keywords}, depth)
    public = {name: each for name, each in getattr(value, "__dict__", {}).items() if not name.startswith("_")}
    return {"of": _name(value), **_methods(value), **described(public, depth)}


def tensor_digest(value: Tensor) -> str:
    """Return the sha256 of a tensor's dtype, shape and bytes in C order."""
    found = hashlib.sha256(f"{value.dtype} {list(value.shape)}".encode())
    # A row at a time: what is mapped from a file must not come into memory whole.
    rows = value.detach().reshape(1) if value.ndim == 0 else value.detach()
    step = max(1, 2**24 // max(1, rows[0].numel() * rows.element_size())) if len(rows) else 1
    for lo in range(0, len(rows), step):
        part = rows[lo : lo + step].cpu().contiguous()
        if part.numel():
            found.update(part.view(torch.uint8).numpy().data.cast("B"))
    return found.hexdigest()


def _state(module: nn.Module) -> str:
    found = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        said = tensor_digest(value) if isinstance(value, Tensor) else repr(value)
        found.update(f"{name} {said}\n".encode())
    return found.hexdigest()


def _methods(value: Any) -> dict[str, str]:
    """Return a digest of the bytecode of an object's own class."""
    functions = {name: each for name, each in vars(type(value)).items() if isinstance(each, FunctionType)}
    # What `dataclass` writes is not the user's, and may differ between versions of Python.
    own = [f"{name} {_code(each.__code__)}" for name, each in sorted(functions.items()) if not name.startswith("__")]
    call = functions.get("__call__")
    return {CODE: _digest("\n".join([*own, _code(call.__code__) if call else ""]))}


def _referred(function: FunctionType, depth: int) -> dict[str, Any]:
    """Return what a function takes from around it, without modules and builtins."""
    try:
        around = inspect.getclosurevars(function)
    except (ValueError, TypeError):
        return {}
    names = {**around.globals, **around.nonlocals}
    kept = {name: each for name, each in sorted(names.items()) if not isinstance(each, ModuleType | type)}
    return {name: described(each, depth - 1) for name, each in kept.items() if each is not function}


def _code(code: CodeType) -> str:
    constants = [_constant(each) for each in code.co_consts]
    return _digest(repr((code.co_code, code.co_names, code.co_varnames, constants)))


def _constant(value: Any) -> str:
    if isinstance(value, frozenset):
        # Its order differs between processes.
        return repr(sorted(map(repr, value)))
    return _code(value) if isinstance(value, CodeType) else repr(value)


def _name(value: Any) -> str:
    kind = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', getattr(kind, '__name__', ''))}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
