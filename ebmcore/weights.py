"""`weights = "file.safetensors"` of a run file: the host's word for every model that is an nn.Module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ebmcore.errors import InputError


def load_weights(model: Any, path: Path) -> nn.Module:
    """Load a safetensors file into a model's state_dict and return the model.

    Args:
        model: An nn.Module; anything else has no weights.
        path: A .safetensors file whose names and shapes are those of `model.state_dict()`.

    Raises:
        InputError: The model has no weights; the file is missing, is not safetensors, or is of another architecture.
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"`weights` must go with a model that has some; got {type(model).__name__}. Leave `weights` out."
        )
    if not path.is_file():
        raise InputError(f"`weights` must name a file; got '{path}', which is not one. Check the path.")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise InputError(
            f"`weights` must be a safetensors file; got '{path}' ({error}). Save it with safetensors.torch.save_file."
        ) from error
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise InputError(
                f"`weights` must fit the architecture; got '{path}' with {_shape(found.get(name))} for '{name}' "
                f"where {type(model).__name__} has {_shape(wanted.get(name))}. Check the model's settings."
            )
    # Assigned, not copied: a float64 file keeps its digits for a float64 run.
    model.load_state_dict(state, assign=True)
    return model


def _shape(shape: tuple[int, ...] | None) -> str:
    return "nothing" if shape is None else str(list(shape))
