"""First weights of a network, from a generator of their own."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Layer = TypeVar("Layer", bound=nn.Linear | nn.Conv2d)


def lecun(layer: Layer, source: torch.Generator) -> Layer:
    """Return a layer with LeCun-normal weights, N(0, 1/fan_in), and biases of zero, float32, on the CPU.

    LeCun, Bottou, Orr, Mueller, "Efficient BackProp" (1998).

    Args:
        layer: A layer on the meta device: made there, it draws nothing from torch's global generator.
        source: Where the weights come from.
    """
    layer.to_empty(device="cpu")
    weight = layer.weight
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=source) / weight[0].numel() ** 0.5)
        if layer.bias is not None:
            layer.bias.zero_()
    return layer
