"""What a function of the user's does outside itself, read from its bytecode: names it looks up, and what is refused."""

from __future__ import annotations

import builtins
import dis
from functools import lru_cache
from types import CodeType
from typing import NamedTuple

from ebmcore_kernels.nodes import Refused

WRITES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR", "IMPORT_NAME", "IMPORT_STAR"})
"""Instructions that change what the next call sees, or that bring in what is not looked at."""

STATE = frozenset(
    """__dict__ __class__ __globals__ __closure__ __getattribute__ __setattr__ __defaults__ __code__ __next__ f_locals
    initial_seed seed random get_rng_state is_grad_enabled is_inference_mode_enabled get_num_threads get_default_dtype
    get_default_device is_autocast_enabled get_autocast_dtype current_thread getrandbits cuda backends utils _C library
    is_anomaly_enabled get_float32_matmul_precision are_deterministic_algorithms_enabled overrides compiler
    distributed multiprocessing ops autograd _dynamo environ __subclasses__ __mro__
    """.split()
)
"""Attributes that reach what a recording does not see: state of the process, of torch, of the interpreter."""

PURE = frozenset(
    """super len range zip enumerate isinstance issubclass reversed tuple list dict set float int bool abs min max sum
    round map filter any all callable hasattr print str repr slice sorted
    Exception ValueError TypeError RuntimeError AssertionError NotImplementedError KeyError IndexError AttributeError
    """.split()
)
"""Builtins whose result depends on nothing but their arguments."""


class Outside(NamedTuple):
    """Names that a function looks up: among globals, and as attributes."""

    globals: frozenset[str]
    attributes: frozenset[str]


@lru_cache(1024)
def outside(code: CodeType) -> Outside:
    """Return the names that a function, and those defined in it, look up outside.

    Raises:
        Refused: It writes to something outside, imports, or looks at a state that is not followed.
    """
    named: set[str] = set()
    attributes: set[str] = set()
    free = set(code.co_freevars)
    stack = [code]
    while stack:
        part = stack.pop()
        stack.extend(inner for inner in part.co_consts if isinstance(inner, CodeType))
        for step in dis.get_instructions(part):
            if step.opname in WRITES or (step.opname in ("STORE_DEREF", "DELETE_DEREF") and step.argval in free):
                raise Refused(f"{code.co_name} changes what its next call sees, or imports")
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                named.add(step.argval)
        attributes.update(part.co_names)
    if attributes & STATE:
        raise Refused(f"{code.co_name} looks at a state that is not followed")
    return Outside(frozenset(named), frozenset(attributes))


def check_builtin(name: str) -> None:
    """Refuse a name that is not a global of the user's, unless it is a builtin whose result is its arguments'.

    Raises:
        Refused: It is not.
    """
    if name not in PURE or not hasattr(builtins, name):
        raise Refused(f"{name} is not a function that is followed")
