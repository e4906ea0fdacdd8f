"""What a function of the user's does outside itself, read from its bytecode: names it looks up, and what is refused."""

from __future__ import annotations

import dis
from functools import lru_cache
from types import BuiltinFunctionType, CodeType
from typing import NamedTuple

WRITES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR", "IMPORT_NAME", "IMPORT_STAR"})
"""Instructions that change what the next call sees, or that bring in what is not looked at."""

STATE = frozenset(
    [
        "__dict__",
        "__class__",
        "__globals__",
        "__closure__",
        "__getattribute__",
        "__setattr__",
        "__defaults__",
        "__code__",
        "__next__",
        "f_locals",
        "f_globals",
        "initial_seed",
        "seed",
        "random",
        "default_rng",
        "get_rng_state",
        "is_grad_enabled",
        "is_inference_mode_enabled",
        "get_num_threads",
        "get_default_dtype",
        "get_default_device",
        "is_autocast_enabled",
        "get_autocast_dtype",
        "current_thread",
        "getrandbits",
        "backends",
        "_C",
        "library",
        "get_float32_matmul_precision",
        "overrides",
        "compiler",
        "distributed",
        "multiprocessing",
        "ops",
        "is_anomaly_enabled",
        "are_deterministic_algorithms_enabled",
        "autograd",
        "_dynamo",
        "environ",
        "__subclasses__",
        "__mro__",
    ]
)
"""Attributes that reach what a recording does not see: state of the process, of torch, of the interpreter."""

PURE = frozenset(
    [
        "super",
        "len",
        "range",
        "zip",
        "enumerate",
        "isinstance",
        "issubclass",
        "reversed",
        "tuple",
        "list",
        "dict",
        "set",
        "float",
        "int",
        "bool",
        "abs",
        "min",
        "max",
        "sum",
        "round",
        "map",
        "filter",
        "any",
        "all",
        "callable",
        "hasattr",
        "str",
        "repr",
        "slice",
        "sorted",
        "property",
        "BaseException",
        "Exception",
        "ValueError",
        "TypeError",
        "RuntimeError",
        "AssertionError",
        "NotImplementedError",
        "KeyError",
        "IndexError",
        "AttributeError",
    ]
)
"""Builtins whose result depends on nothing but their arguments."""


class Outside(NamedTuple):
    """What a function reaches for: names among globals and builtins, names of attributes, and why it is refused."""

    globals: frozenset[str]
    attributes: frozenset[str]
    refusal: str | None


@lru_cache(1024)
def outside(code: CodeType) -> Outside:
    """Return the names that a function, and those defined in it, look up outside."""
    named: set[str] = set()
    attributes: set[str] = set()
    free, refusal, stack = set(code.co_freevars), None, [code]
    while stack:
        part = stack.pop()
        stack.extend(inner for inner in part.co_consts if isinstance(inner, CodeType))
        attributes.update(part.co_names)
        for step in dis.get_instructions(part):
            if step.opname in WRITES or (step.opname in ("STORE_DEREF", "DELETE_DEREF") and step.argval in free):
                refusal = f"{code.co_name} changes what its next call sees, or imports"
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                named.add(step.argval)
    if attributes & STATE:
        refusal = f"{code.co_name} looks at a state that is not followed"
    return Outside(frozenset(named), frozenset(attributes), refusal)


def is_followed(function: BuiltinFunctionType) -> bool:
    """Say whether a function of C is one of torch's, whose calls are recorded, or has no state."""
    module = str(function.__module__).partition(".")[0]
    if module == "builtins":
        return function.__name__ in PURE
    return module in ("torch", "math") and function.__name__ not in STATE
