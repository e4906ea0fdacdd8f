"""What calls make of the network's output and of the quadratic term: sums, factors, shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ebmcore_kernels.calls_layers import biased
from ebmcore_kernels.held import Refused
from ebmcore_kernels.nodes import Hidden, Input, Node, Result, Scaled, Squares, Weight, number, output_of


def add(input: Any, other: Any) -> Node:
    for a, b in ((input, other), (other, input)):
        if isinstance(b, Weight):
            return _shifted(a, b)
        if not isinstance(b, tuple):
            a = output_of(a)
            return a._replace(constant=a.constant + number(b))
    a, b = output_of(input), output_of(other)
    if a.column != b.column or (a.layers and b.layers):
        raise Refused("a sum of two networks, or one that broadcasts")
    network = a if a.layers else b
    quadratic = [k for k in (a.quadratic, b.quadratic) if k is not None]
    return network._replace(quadratic=sum(quadratic) if quadratic else None, constant=a.constant + b.constant)


def _shifted(node: Any, bias: Weight) -> Node:
    if isinstance(node, Hidden) and bias.tensor.shape == (node.width,):
        return Hidden((*node.layers[:-1], biased(node.layers[-1], bias, node.width)), node.width)
    out = output_of(node)
    if bias.tensor.ndim > 1 or bias.tensor.numel() != 1 or not out.layers or out.scale != 1.0:
        raise Refused("a tensor added to the output")
    last = out.layers[-1]
    if last.bias is not None:
        raise Refused("a second bias")
    return out._replace(layers=(*out.layers[:-1], replace(last, bias=bias.tensor)))


def sub(input: Any, other: Any) -> Node:
    if isinstance(other, Weight):
        raise Refused("a tensor subtracted")
    return add(input, neg(other) if isinstance(other, tuple) else -number(other))


def rsub(input: Any, other: Any) -> Node:
    return sub(other, input)


def neg(input: Any) -> Node:
    return mul(input, -1.0)


def mul(input: Any, other: Any) -> Node:
    match input, other:
        case ((Input(width) | Scaled(width)), (Input() | Scaled())):
            return Squares(width, number(_factor(input) * _factor(other)))
        case ((Input(width) | Scaled(width)) as node, value) | (value, (Input(width) | Scaled(width)) as node):
            return Scaled(width, number(_factor(node) * number(value)))
        case (Squares(width, factor), value) | (value, Squares(width, factor)):
            return Squares(width, number(factor * number(value)))
        case (tuple() as node, value) | (value, tuple() as node):
            a, k = output_of(node), number(value)
            quadratic = None if a.quadratic is None else number(k * a.quadratic)
            return a._replace(scale=number(k * a.scale), quadratic=quadratic, constant=k * a.constant)
    raise Refused("a product of numbers")


def _factor(node: Input | Scaled) -> float:
    return node.factor if isinstance(node, Scaled) else 1.0


def divide(input: Any, other: Any) -> Node:
    divisor = number(other)
    if divisor == 0:
        raise Refused("a division by 0")
    return mul(input, 1.0 / divisor)


def power(input: Any, exponent: Any) -> Node:
    if not isinstance(input, Input | Scaled) or number(exponent) != 2.0:
        raise Refused("a power that is not the input's square")
    return mul(input, input)


def square(input: Any) -> Node:
    return power(input, 2)


def total(input: Any, dim: Any, keepdim: bool = False) -> Result:
    if isinstance(dim, tuple | list) and len(dim) == 1:
        (dim,) = dim
    if type(dim) is not int or dim not in (1, -1) or type(keepdim) is not bool:
        raise Refused("a sum over something else than the last axis")
    if isinstance(input, Squares):
        return Result((), quadratic=input.factor, column=keepdim)
    return _column(input)._replace(column=keepdim)


def _column(node: Any) -> Result:
    out = output_of(node)
    if not out.column:
        raise Refused("an axis less than there is")
    return out


def squeeze(input: Any, dim: Any = 1) -> Result:
    if type(dim) is not int or dim not in (1, -1):
        raise Refused("a squeeze of another axis")
    return _column(input)._replace(column=False)


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Node:
    if start_dim == 1 and end_dim in (1, -1) and isinstance(input, Input | Hidden):
        return input
    if start_dim != 0 or end_dim not in (1, -1):
        raise Refused("a flattening of other axes")
    return output_of(input)._replace(column=False)


def view(input: Any, *shape: Any) -> Node:
    if shape not in ((-1,), ((-1,),), ([-1],)):
        raise Refused("a view of another shape")
    return flatten(input)


def item(input: Any, key: Any) -> Result:
    if not isinstance(key, tuple) or len(key) != 2 or type(key[1]) is not int or key[1] not in (0, -1):
        raise Refused("a choice of elements")
    if key[0] is not Ellipsis and not (type(key[0]) is slice and key[0] == slice(None)):
        raise Refused("a choice of chains")
    return _column(input)._replace(column=False)
