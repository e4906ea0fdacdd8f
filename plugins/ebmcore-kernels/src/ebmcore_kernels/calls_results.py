"""What calls make of the network's output and of the quadratic term: sums, factors, shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ebmcore_kernels.calls_layers import biased
from ebmcore_kernels.nodes import Hidden, Input, Node, Norm, Refused, Result, Squares, Weight, factor, number, result


def add(input: Any, other: Any) -> Node:
    """A sum of the network, the quadratic term, a constant, the last bias."""
    for a, b in ((input, other), (other, input)):
        if isinstance(b, Weight):
            return _shifted(a, b)
        if not isinstance(b, tuple):
            whole = result(a)
            return whole._replace(constant=number(whole.constant + number(b)))
    left, right = result(input), result(other)
    if left.column != right.column or (left.layers and right.layers):
        raise Refused("a sum of two networks, or one that broadcasts")
    network = left if left.layers else right
    terms = [k for k in (left.quadratic, right.quadratic) if k is not None]
    constant = number(left.constant + right.constant)
    return network._replace(quadratic=factor(sum(terms)) if terms else None, constant=constant)


def _shifted(node: Any, bias: Weight) -> Node:
    if isinstance(node, Hidden) and bias.tensor.shape == (node.width,):
        return Hidden((*node.layers[:-1], biased(node.layers[-1], bias, node.width)), node.width)
    output = result(node)
    if bias.tensor.ndim > 1 or bias.tensor.numel() != 1 or not output.layers or output.scale != 1.0:
        raise Refused("a tensor added to the output")
    last = output.layers[-1]
    if last.bias is not None:
        raise Refused("a second bias")
    return output._replace(layers=(*output.layers[:-1], replace(last, bias=bias.tensor)))


def sub(input: Any, other: Any) -> Node:
    """A difference."""
    if isinstance(other, Weight):
        raise Refused("a tensor subtracted")
    return add(input, neg(other) if isinstance(other, tuple) else -number(other))


def rsub(input: Any, other: Any) -> Node:
    """A difference, the other way round."""
    return sub(other, input)


def neg(input: Any) -> Node:
    """A change of sign."""
    return mul(input, -1.0)


def mul(input: Any, other: Any) -> Node:
    """A square, or a factor."""
    match input, other:
        case Input(width, a), Input(_, b):
            return Squares(width, number(a * b))
        case Norm(column), Norm(same) if column == same:
            return Result((), quadratic=1.0, column=column)
        case (tuple(), tuple()):
            raise Refused("a product of tensors")
        case (tuple() as node, k) | (k, tuple() as node):
            return _scaled(node, factor(k))
    raise Refused("a product of numbers")


def _scaled(node: Any, k: float) -> Node:
    match node:
        case Input(width, a):
            return Input(width, number(k * a))
        case Squares(width, a):
            return Squares(width, number(k * a))
    a = result(node)
    quadratic = None if a.quadratic is None else number(k * a.quadratic)
    return a._replace(scale=number(k * a.scale), quadratic=quadratic, constant=number(k * a.constant))


def div(input: Any, other: Any) -> Node:
    """A division by a number."""
    return mul(input, 1.0 / factor(other))


def power(input: Any, exponent: Any) -> Node:
    """A square."""
    if number(exponent) != 2.0:
        raise Refused("a power that is not a square")
    return square(input)


def square(input: Any) -> Node:
    """A square."""
    if not isinstance(input, Input | Norm):
        raise Refused("a square of something else than the input")
    return mul(input, input)


def sums(input: Any, dim: Any, keepdim: bool = False) -> Result:
    """A sum over the last axis."""
    _last_axis(dim, keepdim)
    if isinstance(input, Squares):
        return Result((), quadratic=input.factor, column=keepdim)
    return column(input)._replace(column=keepdim)


def mean(input: Any, dim: Any, keepdim: bool = False) -> Result:
    """A mean over the last axis."""
    if isinstance(input, Squares):
        input = Squares(input.width, number(input.factor / input.width))
    return sums(input, dim, keepdim)


def norm(input: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Norm:
    """The Euclidean norm over the last axis."""
    _last_axis(dim, keepdim)
    if not isinstance(input, Input) or input.factor != 1.0 or dtype is not None or p not in ("fro", 2):
        raise Refused("another norm")
    return Norm(keepdim)


def vector_norm(x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Norm:
    """The Euclidean norm over the last axis."""
    return norm(x, ord, dim, keepdim, dtype)


def _last_axis(dim: Any, keepdim: Any) -> None:
    if isinstance(dim, tuple | list) and len(dim) == 1:
        (dim,) = dim
    if type(dim) is not int or dim not in (1, -1) or type(keepdim) is not bool:
        raise Refused("something else than the last axis")


def column(node: Any) -> Result:
    """Return the output, [n, 1]."""
    output = result(node)
    if not output.column:
        raise Refused("an axis less than there is")
    return output


def squeeze(input: Any, dim: Any = 1) -> Result:
    """[n, 1] to [n]."""
    _last_axis(dim, False)
    return column(input)._replace(column=False)


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Node:
    """[n, 1] to [n]; or an [n, d] left as it is."""
    if type(start_dim) is not int or type(end_dim) is not int:
        raise Refused("a flattening of other axes")
    if start_dim == 1 and end_dim in (1, -1) and isinstance(input, Input | Hidden):
        return input  # type: ignore[no-any-return]
    if start_dim != 0 or end_dim not in (1, -1):
        raise Refused("a flattening of other axes")
    return column(input)._replace(column=False)


def view(input: Any, *shape: Any) -> Node:
    """[n, 1] to [n]; or an [n, d] left as it is."""
    if len(shape) == 1 and isinstance(shape[0], tuple | list):
        shape = tuple(shape[0])
    if len(shape) == 2 and all(type(size) is int for size in shape):
        width = {Input: 0, Hidden: 1}.get(type(input))
        if width is not None and shape == (-1, input[width]):
            return input  # type: ignore[no-any-return]
    if len(shape) != 1 or type(shape[0]) is not int or shape[0] != -1:
        raise Refused("a view of another shape")
    return flatten(input)


def reshape(input: Any, *shape: Any) -> Node:
    """As `view`."""
    return view(input, *shape)


def item(input: Any, key: Any) -> Result:
    """The only column, [:, 0] or [..., 0]."""
    if type(key) is not tuple or len(key) != 2 or type(key[1]) is not int or key[1] not in (0, -1):
        raise Refused("a choice of elements")
    if key[0] is not Ellipsis and not (type(key[0]) is slice and key[0] == slice(None)):
        raise Refused("a choice of chains")
    return column(input)._replace(column=False)
