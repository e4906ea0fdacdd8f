"""A session's gradients: a backend is compared with autograd again when the energy's weights have changed."""

from __future__ import annotations

import warnings
from typing import Any, final

from torch import Tensor, nn

from ebmcore.energy import BoundEnergy
from ebmcore.errors import EbmcoreWarning
from ebmcore.gradients import AUTOGRAD, Choice, Strides, choose_gradient, disagreement
from ebmcore.registry import Registry

RECHECKED = 64
"""Chains at which they are compared."""


@final
class WatchedGradient:
    """Where the gradients of an energy come from whose weights change between calls.

    Args:
        asked: As `choose_gradient`.
        energy: The energy of the chains at `x`.
        x: Positions [n, *shape].
        registry: Where backends come from.
        strides: As `choose_gradient`.

    Raises:
        InputError: As `choose_gradient`.
    """

    def __init__(
        self, asked: str, energy: BoundEnergy, x: Tensor, registry: Registry, *, strides: Strides | None
    ) -> None:
        self._choice = choose_gradient(asked, energy, x.detach()[:RECHECKED], registry, strides=strides)
        self._model = energy.model
        self._weights = _versions(energy.model)

    def applied(self, energy: BoundEnergy) -> BoundEnergy:
        """Return `energy` with these gradients; a copy of the model keeps its own."""
        name, fast, _ = self._choice
        if fast is not None:
            return energy.with_gradient(fast) if energy.model is self._model else energy
        return energy.by_autograd() if name == AUTOGRAD else energy

    def look(self, energy: BoundEnergy, x: Tensor) -> None:
        """Compare once more at `x` if weights are others than at the last look; autograd takes over where they differ.

        Warns:
            EbmcoreWarning: They differ.
        """
        if self._choice.fast is None or (weights := _versions(self._model)) == self._weights:
            return
        self._weights = weights
        wrong = disagreement(self._choice.fast, energy, x.detach()[:RECHECKED])
        if wrong is not None:
            own = energy.gradient_source
            warnings.warn(
                f"gradient backend '{self._choice.name}' must agree with {own}; got {wrong}. That is used now.",
                EbmcoreWarning,
                stacklevel=3,
            )
            self._choice = Choice(own, None, 0.0)


def _versions(model: Any) -> object:
    """Return what changes when a module's weights do; of what is no module nothing is known."""
    if not isinstance(model, nn.Module):
        return object()
    return [(tensor.data_ptr(), tensor._version) for tensor in (*model.parameters(), *model.buffers())]
