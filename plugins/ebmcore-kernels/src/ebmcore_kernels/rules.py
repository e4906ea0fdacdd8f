"""The allow-list: what of torch an energy may call, and the rule that says what the call makes of its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from ebmcore_kernels import calls_layers as layers
from ebmcore_kernels import calls_results as results
from ebmcore_kernels.nodes import Hidden, Node, Refused, Result, Squares

Rule = Callable[..., Node]

_NAMED: dict[Rule, tuple[str, ...]] = {
    results.add: ("add", "__add__", "__radd__"),
    results.sub: ("sub", "subtract", "__sub__"),
    results.rsub: ("rsub", "__rsub__"),
    results.mul: ("mul", "multiply", "__mul__", "__rmul__"),
    results.div: ("div", "divide", "true_divide", "__truediv__", "__div__"),
    results.neg: ("neg", "negative", "__neg__"),
    results.power: ("pow", "__pow__"),
    results.square: ("square",),
    results.sums: ("sum",),
    results.mean: ("mean",),
    results.norm: ("norm",),
    results.squeeze: ("squeeze",),
    results.flatten: ("flatten", "ravel"),
    results.view: ("view",),
    results.reshape: ("reshape",),
    results.item: ("__getitem__",),
    layers.matmul: ("matmul", "mm", "mv", "__matmul__"),
    layers.addmm: ("addmm",),
    layers.transpose: ("t", "transpose", "swapaxes"),
    layers.tanh: ("tanh",),
    layers.relu: ("relu",),
    layers.selu: ("selu",),
}

_IN_PLACE: dict[Rule, tuple[str, ...]] = {
    results.add: ("add_", "__iadd__"),
    results.sub: ("sub_", "__isub__"),
    results.mul: ("mul_", "__imul__"),
    results.div: ("div_", "__itruediv__", "__idiv__"),
    results.neg: ("neg_",),
    layers.relu: ("relu_",),
    layers.tanh: ("tanh_",),
    layers.selu: ("selu_",),
}


def _owners(name: str) -> list[Any]:
    return [owner for owner in (torch, torch.Tensor) if hasattr(owner, name)]


def _in_place(rule: Rule) -> Rule:
    def checked(input: Any, *args: Any, **kwargs: Any) -> Node:
        if not isinstance(input, Squares | Hidden | Result):
            raise Refused("the input or a weight is overwritten")
        return rule(input, *args, **kwargs)

    return checked


RULES: dict[Any, Rule] = {
    **{getattr(owner, name): rule for rule, names in _NAMED.items() for name in names for owner in _owners(name)},
    **{
        getattr(owner, name): _in_place(rule)
        for rule, names in _IN_PLACE.items()
        for name in names
        for owner in _owners(name)
    },
    torch.Tensor.T.__get__: layers.transpose,
    torch.Tensor.mT.__get__: layers.transpose,
    torch.linalg.vector_norm: results.vector_norm,
    functional.linear: layers.linear,
    functional.selu: layers.selu,
    functional.relu: layers.relu,
    functional.silu: layers.silu,
    functional.elu: layers.elu,
    functional.leaky_relu: layers.leaky_relu,
    functional.softplus: layers.softplus,
    functional.gelu: layers.gelu,
    functional.dropout: layers.dropout,
}
"""By the function that torch hands to a `TorchFunctionMode`."""

AXES = frozenset({torch.Tensor.dim, torch.Tensor.ndim.__get__})
"""Number of axes: the same for every batch. Sizes are not here, since an energy could depend on the batch's."""
