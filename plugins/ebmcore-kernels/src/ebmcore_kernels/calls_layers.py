"""What calls make of layers: products with weights, biases, activations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ebmcore_kernels.held import Refused
from ebmcore_kernels.nodes import Hidden, Input, Layer, Node, Result, Weight, number


def linear(input: Any, weight: Any, bias: Any = None) -> Hidden:
    if not isinstance(weight, Weight):
        raise Refused("a layer whose weight is computed")
    layers, width = _before(input)
    outputs, inputs = _sizes(weight)
    if inputs != width:
        raise Refused("a layer of another width")
    layer = Layer(weight.tensor, weight.transposed)
    if bias is not None:
        layer = biased(layer, bias, outputs)
    return Hidden((*layers, layer), outputs)


def matmul(input: Any, other: Any) -> Hidden | Result:
    if not isinstance(other, Weight):
        raise Refused("a product with something that is not a weight")
    if other.tensor.ndim == 1:
        layers, width = _before(input)
        if other.tensor.shape != (width,):
            raise Refused("a layer of another width")
        return Result((*layers, Layer(other.tensor, False)))
    return linear(input, Weight(other.tensor, not other.transposed))


def addmm(input: Any, mat1: Any, mat2: Any) -> Hidden:
    hidden = matmul(mat1, mat2)
    if not isinstance(hidden, Hidden):
        raise Refused("addmm of a vector")
    return Hidden((*hidden.layers[:-1], biased(hidden.layers[-1], input, hidden.width)), hidden.width)


def _before(node: Any) -> tuple[tuple[Layer, ...], int]:
    match node:
        case Input(width):
            return (), width
        case Hidden(layers, width):
            return layers, width
    raise Refused("a layer after something that is not one")


def _sizes(weight: Weight) -> tuple[int, int]:
    if weight.tensor.ndim != 2:
        raise Refused("a weight that is not a matrix")
    outputs, inputs = weight.tensor.shape
    return (inputs, outputs) if weight.transposed else (outputs, inputs)


def biased(layer: Layer, bias: Any, outputs: int) -> Layer:
    if not isinstance(bias, Weight) or bias.tensor.shape != (outputs,):
        raise Refused("a bias that is not a vector of the layer's width")
    if layer.bias is not None or layer.activation != "identity":
        raise Refused("a second bias")
    return replace(layer, bias=bias.tensor)


def transpose(input: Any, dim0: int = 0, dim1: int = 1) -> Weight:
    if not isinstance(input, Weight) or input.tensor.ndim != 2 or {dim0, dim1} not in ({0, 1}, {-1, -2}):
        raise Refused("a transpose of something that is not a matrix of weights")
    return Weight(input.tensor, not input.transposed)


def _activated(node: Any, activation: str, parameter: float = 0.0) -> Hidden:
    match node:
        case Hidden(layers, width) if layers[-1].activation == "identity":
            return Hidden((*layers[:-1], replace(layers[-1], activation=activation, parameter=parameter)), width)
    raise Refused("an activation that does not follow a layer")


def selu(input: Any, inplace: bool = False) -> Hidden:
    return _activated(input, "selu")


def relu(input: Any, inplace: bool = False) -> Hidden:
    return _activated(input, "relu")


def silu(input: Any, inplace: bool = False) -> Hidden:
    return _activated(input, "silu")


def tanh(input: Any) -> Hidden:
    return _activated(input, "tanh")


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Hidden:
    return _activated(input, "elu", _slope(alpha))


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Hidden:
    return _activated(input, "leaky_relu", _slope(negative_slope))


def _slope(value: object) -> float:
    slope = number(value)
    if slope < 0:
        raise Refused("a negative slope")
    return slope


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Hidden:
    if number(beta) != 1.0 or number(threshold) != 20.0:
        raise Refused("a softplus that is not torch's default")
    return _activated(input, "softplus")


def gelu(input: Any, *, approximate: str = "none") -> Hidden:
    if approximate not in ("none", "tanh"):
        raise Refused("another gelu")
    return _activated(input, "gelu" if approximate == "none" else "gelu_tanh")


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Node:
    if training is not False or not isinstance(input, Input | Hidden):
        raise Refused("dropout while training")
    return input
