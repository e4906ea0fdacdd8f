"""What a callable holds on to, found before it is called: its tensors, and all that may be replaced between calls."""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any, Generic, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules

from ebmcore_kernels.code import check_builtin, outside
from ebmcore_kernels.nodes import Refused
from ebmcore_kernels.rules import RULES
from ebmcore_kernels.watch import Watch

PLAIN = (int, float, complex, str, bytes, bool, type(None), type(Ellipsis), torch.dtype, torch.device, torch.Size)
MODULES = ("torch", "torch.nn", "torch.nn.functional", "torch.linalg", "math")
LIMIT = 5000
"""Objects looked at: what holds more than that is not a small network."""

UNCALLED = frozenset(
    f"__{name}__"
    for name in """init new init_subclass class_getitem post_init setattr delattr set_name repr str eq hash getstate
    setstate reduce reduce_ex copy deepcopy del dict weakref module doc qualname annotations dataclass_fields
    dataclass_params match_args abstractmethods parameters orig_bases firstlineno static_attributes subclasshook
    slots annotate_func annotations_cache""".split()
)
"""What of a class no call of its objects runs; its other special methods are called without being named."""

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Held:
    """Everything that a call of `energy` can reach: attributes, containers, closures, arguments bound, globals named.

    Of the user's own functions the bytecode is read; of objects, the attributes whose names it contains. What cannot
    be looked at (iterators, objects of C, other libraries) is refused.

    Args:
        energy: A callable.

    Raises:
        Refused: It reaches something of which it is not known what it does.
    """

    def __init__(self, energy: Any) -> None:
        self.tensors: dict[int, Tensor] = {}
        self.watch = Watch()
        self._seen: dict[int, Any] = {}
        self._names: set[str] = {"forward", "__call__"}
        self._lazy: list[Any] = []
        if modules._has_any_global_hook():
            raise Refused("every module has a hook")
        stack = [energy]
        while stack:
            while stack:
                self._look(stack.pop(), stack)
            for mapping in self._lazy:
                named = [mapping[name] for name in mapping.keys() & self._names]
                stack.extend(value for value in named if type(value) not in PLAIN and id(value) not in self._seen)

    def _look(self, found: Any, stack: list[Any]) -> None:
        if type(found) in PLAIN or id(found) in self._seen:
            return
        if len(self._seen) >= LIMIT:
            raise Refused("it holds too many objects")
        self._seen[id(found)] = found
        kind = type(found)
        if kind in (Tensor, nn.Parameter):
            self.tensors[id(found)] = found
        elif kind in (dict, OrderedDict):
            self.watch.mapping(found)
            stack.extend(found.values())
        elif kind is list:
            self.watch.list(found)
            stack.extend(found)
        elif kind in (tuple, set, frozenset):
            stack.extend(found)
        elif kind is MethodType:
            stack.extend((found.__self__, found.__func__))
        elif kind is functools.partial:
            self.watch.mapping(found.__dict__)
            stack.extend((found.func, found.args, found.keywords))
        elif kind is FunctionType:
            self._function(found, stack)
        elif kind in (staticmethod, classmethod):
            stack.append(found.__func__)
        elif kind is property:
            stack.append(found.fget)
        elif isinstance(found, type):
            if not _of_torch(found) and found not in (float, int, bool, tuple, list):
                raise Refused("a class")
        elif not _harmless(found):
            self._object(found, stack)

    def _function(self, function: FunctionType, stack: list[Any]) -> None:
        if _of_torch(function):
            if function.__closure__ and function not in RULES:
                raise Refused("a function of torch's with something inside")
            return
        self.watch.function(function)
        names = outside(function.__code__)
        self._names |= names.attributes
        stack.extend((function.__defaults__, function.__kwdefaults__))
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self._cell(name, cell, stack)
        for name in names.globals:
            if name in function.__globals__:
                self.watch.name(function.__globals__, name)
                stack.append(function.__globals__[name])
            else:
                check_builtin(name)
                self.watch.name(function.__globals__, name)

    def _cell(self, name: str, cell: CellType, stack: list[Any]) -> None:
        try:
            value = cell.cell_contents
        except ValueError:
            raise Refused("a name that is not bound yet") from None
        self.watch.cell(cell)
        if name != "__class__":  # of `super()`: the class is looked at with its object
            stack.append(value)

    def _object(self, found: Any, stack: list[Any]) -> None:
        kind = type(found)
        for base in kind.__mro__:
            if base is object or base in (Generic, Protocol) or base is nn.Module:
                continue
            if _of_torch(base) and issubclass(base, nn.Module):
                continue
            if _of_torch(base) or base.__module__ == "builtins" or not base.__flags__ & (1 << 9):
                raise Refused(f"an object of {base}")
            own = vars(base)
            if own.get("__slots__") or {"__getattr__", "__getattribute__", "__torch_function__"} & own.keys():
                raise Refused(f"attributes of {base} that are not looked at")
            if id(base) not in self._seen:
                self._seen[id(base)] = base
                self.watch.mapping(own)
                self._lazy.append(own)
                stack.extend(own[name] for name in own if name[:2] == "__" and name not in UNCALLED)
        inside = object.__getattribute__(found, "__dict__")
        self.watch.kind(found)
        self.watch.mapping(inside)
        if isinstance(found, nn.Module):
            _check_module(found)
            stack.extend((found._modules, found._parameters, found._buffers))
            for name in HOOKS:
                self.watch.mapping(getattr(found, name))
        if _of_torch(kind):
            stack.extend(inside.values())
        else:
            self._lazy.append(inside)


def _check_module(module: nn.Module) -> None:
    if any(getattr(module, name) for name in HOOKS):
        raise Refused("a module has hooks")
    if "parametrizations" in module._modules:
        raise Refused("a module's weights are parametrized")
    if isinstance(module, torch.jit.ScriptModule) or module._compiled_call_impl is not None:
        raise Refused("a module is compiled")
    if type(module).__module__.startswith("torch._dynamo") or "forward" in module.__dict__:
        raise Refused("a module is compiled, or its forward replaced")


def _of_torch(found: Any) -> bool:
    module = found.__globals__.get("__name__") if type(found) is FunctionType else found.__module__
    return module == "torch" or str(module).startswith("torch.")


def _harmless(found: Any) -> bool:
    if isinstance(found, ModuleType):
        if found.__name__ not in MODULES:
            raise Refused(f"the module {found.__name__}")
        return True
    if isinstance(found, BuiltinFunctionType):
        if found.__self__ is not math and found not in RULES:
            raise Refused(f"{found}")
        return True
    try:
        return found in RULES  # methods of tensors, by their descriptors
    except TypeError:
        return False
