"""A multilayer perceptron as an energy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Doc

from ebmcore.errors import SettingsError
from ebmcore_models.weights import lecun

Activation = Literal["selu", "elu", "relu", "leaky_relu", "silu", "tanh", "softplus", "gelu"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "selu": F.selu,
    "elu": F.elu,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "gelu": F.gelu,
}


class MLP(nn.Module):
    """U(x) = layers(x) + quadratic/2 |x|^2, with one activation after each hidden layer.

    The gradient is autograd's: written out by hand in torch it is slower. Weights are float32,
    drawn from a generator of their own on the CPU by `seed` (torch's global one is left alone):
    LeCun normal, N(0, 1/fan_in), with biases of zero. Weights of your own come from the host's
    `weights = "file.safetensors"`, whose names are those of the state_dict: layers.0.weight
    [hidden, dim], layers.0.bias, layers.1.weight, ... Activations are torch's with their defaults
    (leaky_relu has slope 0.01, gelu is the exact one).

    With quadratic = 0 exp(-U) need not be normalisable: a chain may drift off for ever.

    Args:
        dim: Number of coordinates of a position.
        hidden: Width of each hidden layer.
        activation: Name of the activation.
        seed: Seed of the weights.
        quadratic: Stiffness of the quadratic term that holds the chains together.

    Raises:
        SettingsError: No activation has that name.
    """

    def __init__(
        self,
        dim: Annotated[int, Ge(1), Doc("number of coordinates of a position")],
        hidden: Annotated[Sequence[Annotated[int, Ge(1)]], MinLen(1), Doc("width of each hidden layer")] = (32, 32),
        activation: Annotated[Activation, Doc("what follows each hidden layer")] = "selu",
        seed: Annotated[int, Ge(0), Doc("seed of the weights, apart from the run's own seed")] = 0,
        quadratic: Annotated[float, Ge(0), Doc("adds quadratic/2 |x|^2, so that the density is normalisable")] = 0.0,
    ) -> None:
        super().__init__()
        if activation not in _ACTIVATIONS:
            raise SettingsError(
                f"`activation` must be one of {', '.join(_ACTIVATIONS)}; got {activation!r}. Choose one of these."
            )
        self.shape = (dim,)
        self.quadratic = quadratic
        self.activation = activation
        widths = [dim, *hidden, 1]
        source = torch.Generator().manual_seed(seed)
        self.layers = nn.ModuleList(lecun(nn.Linear(i, o, device="meta"), source) for i, o in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Return U [n] at x [n, dim]."""
        *hidden, last = self.layers
        activate = _ACTIVATIONS[self.activation]
        h = x
        for layer in hidden:
            h = activate(layer(h))
        u: Tensor = last(h).squeeze(-1)
        return u + 0.5 * self.quadratic * (x * x).sum(-1) if self.quadratic else u
