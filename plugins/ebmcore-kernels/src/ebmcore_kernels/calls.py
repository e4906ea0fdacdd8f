"""The allow-list: for each of torch's functions that an energy may call the rule that says what the call makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ebmcore_kernels import calls_layers as layers
from ebmcore_kernels import calls_results as results
from ebmcore_kernels.held import Refused
from ebmcore_kernels.nodes import Hidden, Input, Node, Result

Rule = Callable[..., Node]


def _itself(input: Any, memory_format: Any = None) -> Node:
    if not isinstance(input, Input | Hidden | Result):
        raise Refused("a copy of something else")
    return input


_NAMED: dict[Rule, tuple[str, ...]] = {
    results.add: ("add", "__add__", "__radd__"),
    results.sub: ("sub", "subtract", "__sub__"),
    results.rsub: ("rsub", "__rsub__"),
    results.mul: ("mul", "multiply", "__mul__", "__rmul__"),
    results.divide: ("div", "divide", "true_divide", "__truediv__", "__div__"),
    results.neg: ("neg", "negative", "__neg__"),
    results.power: ("pow", "__pow__"),
    results.square: ("square",),
    results.total: ("sum",),
    results.squeeze: ("squeeze",),
    results.flatten: ("flatten", "ravel"),
    results.view: ("view", "reshape"),
    results.item: ("__getitem__",),
    layers.matmul: ("matmul", "mm", "mv", "__matmul__"),
    layers.addmm: ("addmm",),
    layers.transpose: ("t", "transpose", "swapaxes"),
    layers.tanh: ("tanh",),
    layers.relu: ("relu",),
    layers.selu: ("selu",),
    _itself: ("clone", "contiguous", "float"),
}

_FUNCTIONAL: dict[str, Rule] = {
    "linear": layers.linear,
    "selu": layers.selu,
    "relu": layers.relu,
    "silu": layers.silu,
    "elu": layers.elu,
    "leaky_relu": layers.leaky_relu,
    "softplus": layers.softplus,
    "gelu": layers.gelu,
    "dropout": layers.dropout,
}

RULES: dict[Any, Rule] = {
    **{
        getattr(owner, name): rule
        for rule, names in _NAMED.items()
        for name in names
        for owner in (torch, Tensor)
        if hasattr(owner, name)
    },
    **{getattr(functional, name): rule for name, rule in _FUNCTIONAL.items()},
    # How a function mode sees that an attribute is read.
    Tensor.T.__get__: layers.transpose,  # type: ignore[attr-defined]
    Tensor.mT.__get__: layers.transpose,  # type: ignore[attr-defined]
}
"""Function, as a torch function mode sees it -> rule."""
