"""A small convolutional network as an energy of images."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn.functional import silu
from typing_extensions import Doc

from ebmcore_models.weights import lecun


class Conv(nn.Module):
    """U(x) = linear(silu(conv(silu(conv(x))))) + quadratic/2 |x|^2 of an image x.

    Both convolutions are 3 x 3 with stride 2 and padding 1: each halves the sides, rounded up; the
    second has twice the channels of the first. The gradient is autograd's. Weights are float32,
    drawn from a generator of their own on the CPU by `seed` (torch's global one is left alone):
    LeCun normal, N(0, 1/fan_in), with biases of zero. Weights of your own come from the host's
    `weights = "file.safetensors"`, whose names are those of the state_dict: layers.0.weight
    [width, channels, 3, 3], layers.0.bias, layers.1.weight [2 width, width, 3, 3], layers.1.bias,
    layers.2.weight [1, 2 width ceil(size/4)^2], layers.2.bias.

    With quadratic = 0 exp(-U) need not be normalisable: a chain may drift off for ever.

    Args:
        channels: Number of channels of an image.
        size: Height and width of an image.
        width: Number of channels after the first convolution.
        seed: Seed of the weights.
        quadratic: Stiffness of the quadratic term that holds the chains together.
    """

    def __init__(
        self,
        channels: Annotated[int, Ge(1), Doc("number of channels of an image")] = 1,
        size: Annotated[int, Ge(4), Doc("height and width of an image, in pixels")] = 28,
        width: Annotated[int, Ge(1), Doc("channels after the first convolution; twice as many after the second")] = 32,
        seed: Annotated[int, Ge(0), Doc("seed of the weights, apart from the run's own seed")] = 0,
        quadratic: Annotated[float, Ge(0), Doc("adds quadratic/2 |x|^2, so that the density is normalisable")] = 0.0,
    ) -> None:
        super().__init__()
        self.shape = (channels, size, size)
        self.quadratic = quadratic
        side = (size + 3) // 4
        source = torch.Generator().manual_seed(seed)
        self.layers = nn.ModuleList(
            lecun(layer, source)
            for layer in (
                nn.Conv2d(channels, width, 3, stride=2, padding=1, device="meta"),
                nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, device="meta"),
                nn.Linear(2 * width * side * side, 1, device="meta"),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return U [n] at x [n, channels, size, size]."""
        first, second, last = self.layers
        u: Tensor = last(silu(second(silu(first(x)))).flatten(1)).squeeze(-1)
        return u + 0.5 * self.quadratic * (x * x).flatten(1).sum(-1) if self.quadratic else u
