"""What a callable holds on to: its tensors, and all else that decides what it does, so that a change is noticed."""

from __future__ import annotations

import abc
import functools
import operator
import random
import sys
from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain
from types import BuiltinFunctionType, CellType, EllipsisType, FunctionType, MethodType, ModuleType
from typing import Any, Generic, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules

from ebmcore_kernels.code import PURE, is_followed, outside

PLAIN = (
    *(int, float, complex, str, bytes, bool, type(None), EllipsisType, range, slice),
    *(torch.dtype, torch.device, torch.Size),
)
LIMIT = 5000
"""Objects looked at: what holds more than that is not a small network."""

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

TIMELESS = frozenset({"math", "functools", "itertools", "operator", "typing", "collections", "dataclasses", "abc"})
"""Modules of the standard library whose functions give the same at every call; others may tell the time."""

NOT_THEIRS = frozenset({"torch", "numpy", "builtins", "collections"})
"""Packages whose code is taken as it is."""


UNCALLED = frozenset(
    f"__{name}__"
    for name in [
        "init",
        "new",
        "init_subclass",
        "class_getitem",
        "post_init",
        "setattr",
        "delattr",
        "set_name",
        "repr",
        "str",
        "eq",
        "hash",
        "getstate",
        "setstate",
        "reduce",
        "reduce_ex",
        "copy",
        "deepcopy",
        "del",
        "dict",
        "weakref",
        "module",
        "doc",
        "qualname",
        "annotations",
        "dataclass_fields",
        "dataclass_params",
        "match_args",
        "abstractmethods",
        "parameters",
        "orig_bases",
        "firstlineno",
        "static_attributes",
        "subclasshook",
        "slots",
        "annotate_func",
        "annotations_cache",
        "replace",
    ]
)
"""What of a class no call of its objects runs; its other special methods are called without being named."""

BASES = (object, Generic, Protocol, abc.ABC)
"""Classes whose objects hold nothing of their own."""


class Refused(BaseException):
    """The energy is not proved to be a multilayer perceptron. No `except Exception` of the energy's own stops it."""


class Held:
    """Everything reached from `energy`: attributes, containers, closures, classes, arguments bound, globals named.

    Args:
        energy: A callable.

    Raises:
        Refused: A module in it has hooks, a parametrization or a compiled form; or it holds something that cannot
            be looked into, or too much.
    """

    def __init__(self, energy: Any) -> None:
        self.tensors: dict[int, Tensor] = {}
        self._seen: dict[int, Any] = {}
        self._wholes: list[Any] = []
        """Mappings, lists and sets; with `_parts`, names of a mapping, and `_cells` all that may be exchanged."""
        self._parts: list[tuple[dict[str, Any], tuple[str, ...]]] = []
        self._cells: list[CellType] = []
        self._functions: list[FunctionType] = []
        self._objects: list[Any] = []
        self._names = {"forward"}
        self._methods: list[tuple[str, Any]] = []
        """Of the classes met: looked into once a function that is called names them."""
        self._random = (random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state())  # noqa: NPY002
        if _hooked():
            raise Refused("every module has a hook")
        stack = [energy]
        while stack:
            found = stack.pop()
            if not _is_plain(found) and id(found) not in self._seen:
                if len(self._seen) >= LIMIT:
                    raise Refused("it holds too many objects")
                self._seen[id(found)] = found
                stack.extend(self._inside(found))
            if not stack:
                stack = [value for name, value in self._methods if name in self._names]
                self._methods = [each for each in self._methods if each[0] not in self._names]
        # Views are live: what they show is what the containers hold at that time.
        self._views = [item if isinstance(item, list | set) else item.values() for item in self._wholes]
        self._contents = list(self._now())
        self._copies = [item.copy() if isinstance(item, dict | list | set) else item for item in self._wholes]
        self._kept = [tuple(mapping[name] for name in names) for mapping, names in self._parts]
        self._enclosed = [cell.cell_contents for cell in self._cells]

    def unchanged(self) -> bool:
        """Say whether everything is still what it was, by identity; a tensor's numbers may be others."""
        try:
            same = all(map(operator.is_, self._now(), self._contents))
        except (KeyError, ValueError, RuntimeError):  # a name that is no longer bound, or a change meanwhile
            return False
        return same and not _hooked()

    def restore(self) -> bool:
        """Put back what trial calls changed, with the generators of random numbers; say whether anything was."""
        drew, same = self._restore_random(), self.unchanged()
        if not same:
            for item, before in zip(self._wholes, self._copies, strict=True):
                if isinstance(item, dict | set):
                    item.clear()
                    item.update(before)
                elif isinstance(item, list):
                    item[:] = before
            for (mapping, names), values in zip(self._parts, self._kept, strict=True):
                mapping.update(zip(names, values, strict=True))
            for cell, value in zip(self._cells, self._enclosed, strict=True):
                cell.cell_contents = value
        return drew or not same

    def _now(self) -> Iterator[Any]:
        """Yield all that is held now, and an end mark, so that two sequences of other lengths differ."""
        parts = [mapping[name] for mapping, names in self._parts for name in names] if self._parts else ()
        cells = [cell.cell_contents for cell in self._cells] if self._cells else ()
        kinds = map(type, self._objects)
        functions = chain.from_iterable((f.__code__, f.__defaults__, f.__kwdefaults__) for f in self._functions)
        return chain(chain.from_iterable(self._views), parts, cells, kinds, functions, (Held,))

    def _restore_random(self) -> bool:
        python, legacy, state = self._random
        now = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
        before = legacy["state"]
        same = now["pos"] == before["pos"] and np.array_equal(now["key"], before["key"])
        if same and random.getstate() == python and torch.equal(torch.get_rng_state(), state):
            return False
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.set_rng_state(state)
        return True

    def _inside(self, found: Any) -> list[Any]:
        if isinstance(found, Tensor):
            self.tensors[id(found)] = found
            return []
        if type(found) in (dict, OrderedDict, list, set):
            self._wholes.append(found)
            return list(found.values() if isinstance(found, dict) else found)
        if type(found) in (tuple, frozenset):
            return list(found)
        if isinstance(found, MethodType):
            return [found.__self__, found.__func__]
        if type(found) is functools.partial:
            self._wholes.append(found.__dict__)
            return [found.func, found.args, found.keywords]
        if isinstance(found, FunctionType):
            return self._function(found)
        if isinstance(found, property):
            return [found.fget]
        if isinstance(found, BuiltinFunctionType):
            if not is_followed(found):
                raise Refused(f"it uses {found.__name__}")
            return []
        if isinstance(found, ModuleType) or _not_theirs(found):
            return []
        if isinstance(found, type):
            return self._class(found)
        return self._object(found)

    def _function(self, function: FunctionType) -> list[Any]:
        if hasattr(function, "_torchdynamo_orig_callable"):
            raise Refused("it is compiled")
        if (function.__module__ or "").partition(".")[0] in NOT_THEIRS:
            return []
        held: list[Any] = [function.__defaults__, function.__kwdefaults__, vars(function)]
        for cell in function.__closure__ or ():
            try:
                held.append(cell.cell_contents)
            except ValueError:  # a name of the enclosing function that is not bound yet
                continue
            self._cells.append(cell)
        reached = outside(function.__code__)
        if reached.refusal is not None:
            raise Refused(reached.refusal)
        unknown = reached.globals - function.__globals__.keys() - PURE
        if unknown:
            raise Refused(f"it uses {min(unknown)}")
        self._functions.append(function)
        self._names |= reached.attributes
        return held + self._named(function.__globals__, set(reached.attributes))

    def _named(self, mapping: dict[str, Any], names: set[str]) -> list[Any]:
        """Look at those names of a module's globals, and of other modules that they lead to, that code mentions."""
        bound = tuple(sorted(name for name in names if name in mapping))
        if bound:
            self._parts.append((mapping, bound))
        held = []
        for value in (mapping[name] for name in bound):
            if not isinstance(value, ModuleType):
                held.append(value)
                continue
            package = value.__name__.partition(".")[0]
            if package in sys.stdlib_module_names and package not in TIMELESS:
                raise Refused(f"it uses the module {value.__name__}")
            if package not in NOT_THEIRS and package not in sys.stdlib_module_names and id(value) not in self._seen:
                self._seen[id(value)] = value
                held += self._named(vars(value), names)
        return held

    def _class(self, found: type) -> list[Any]:
        """Look at the attributes of a class that its instances share."""
        if isinstance(vars(found).get("__slots__"), tuple | list | str) and vars(found)["__slots__"]:
            raise Refused("it keeps something in slots")
        own = vars(found)
        if type(found) not in (type, abc.ABCMeta, type(Protocol)):
            raise Refused("a class of a class")
        if {"__getattr__", "__getattribute__", "__torch_function__"} & own.keys():
            raise Refused("it computes its attributes")
        self._wholes.append(own)
        special = [own[name] for name in own if name[:2] == "__" == name[-2:] and name not in UNCALLED]
        self._methods += [(name, own[name]) for name in own if not (name[:2] == "__" == name[-2:])]
        return [*special, *(base for base in found.__bases__ if base not in BASES)]

    def _object(self, found: Any) -> list[Any]:
        if isinstance(found, nn.Module):
            if any(getattr(found, name) for name in HOOKS):
                raise Refused("a module has hooks")
            if "parametrizations" in found._modules:
                raise Refused("a module's weights are parametrized")
            if isinstance(found, torch.jit.ScriptModule) or found._compiled_call_impl is not None:
                raise Refused("a module is compiled")
            if type(found).__module__.startswith("torch._dynamo"):
                raise Refused("a module is compiled")
        elif isinstance(found, staticmethod | classmethod):
            return [found.__func__]
        for base in type(found).__mro__:
            package = base.__module__.partition(".")[0]
            if base not in BASES and (
                package in ("builtins", "numpy", *sys.stdlib_module_names - {"__main__"})
                or (package == "torch" and not issubclass(base, nn.Module))
            ):
                raise Refused(f"it holds a {type(found).__name__}, which cannot be looked into")
        self._objects.append(found)
        try:
            inside = object.__getattribute__(found, "__dict__")
        except AttributeError:
            inside = None
        if not isinstance(inside, dict):
            raise Refused(f"it holds a {type(found).__name__}, which cannot be looked into")
        return [inside, type(found)]


def _hooked() -> bool:
    """Say whether something is called whenever any module is."""
    return bool(modules._has_any_global_hook())  # type: ignore[no-untyped-call]


def _not_theirs(found: Any) -> bool:
    """Say whether it is a class of torch's, numpy's or Python's own: these are taken as they are."""
    return isinstance(found, type) and found.__module__.partition(".")[0] in NOT_THEIRS


def _is_plain(found: Any) -> bool:
    """Say whether it is a number, a name or the like, and not of a class that does more."""
    return isinstance(found, PLAIN) and (type(found) in PLAIN or _not_theirs(type(found)))
