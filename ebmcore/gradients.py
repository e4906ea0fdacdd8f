"""Where a run's gradients come from: the energy's closed form, a backend that takes the energy, or autograd."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ebmcore.energy import BoundEnergy, frozen
from ebmcore.errors import EbmcoreError, EbmcoreWarning, InputError
from ebmcore.protocols import GradientBackend, HasClosedForms, HasCompileTime, HasMinibatch
from ebmcore.registry import READY, Registry, is_ours, ours

CLOSED_FORM, AUTOGRAD = "closed_form", "autograd"

FIRST_BATCH = 256
"""Chains at whose first positions a backend is compared with autograd."""

TOLERANCE = 1e-4
"""How far a backend's value and gradient may be from autograd's, as a part of the largest."""

KINKS = 0.01
"""Part of the chains that may lie nearer to a kink of the energy than rounding, where either side is right."""

Fast = Callable[[Tensor], tuple[Tensor, Tensor]]
Strides = Callable[[BoundEnergy], bool]


class Choice(NamedTuple):
    """Where gradients come from, and what it took to find out."""

    name: str
    """`"closed_form"`, `"autograd"`, or the name of a backend."""
    fast: Fast | None
    """The backend's value and gradient of the energy."""
    seconds: float
    """What a backend took to build and compile."""


def choose_gradient(
    asked: str, energy: BoundEnergy, x: Tensor, registry: Registry, *, strides: Strides | None
) -> Choice:
    """Return the source of a run's gradients.

    `"auto"` is the energy's closed form, else the first backend, by name, that takes the energy without compile time
    and agrees with autograd at `x`, else autograd. Where the sampler takes strides, a backend that is for closed
    forms too comes before them. Backends of other distributions than ours have to be named.

    Args:
        asked: `"auto"`, `"closed_form"`, `"autograd"`, or the name of a backend.
        energy: The energy of the chains at `x`, on their device.
        x: The first positions [n, *shape].
        registry: Where backends come from.
        strides: Says of an energy whether the samplers take several steps of it in one call (`strides.striding`).

    Raises:
        InputError: What was named cannot be had, does not take the energy, or disagrees with autograd.

    Warns:
        EbmcoreWarning: A backend that nobody named fails or disagrees, and is left out.
    """
    if asked == CLOSED_FORM and energy.gradient_source != CLOSED_FORM:
        raise InputError("`gradient` must be what the energy has; got 'closed_form', and it has none. Use 'auto'.")
    if asked == AUTOGRAD and not energy.has_forward:
        raise InputError("`gradient` must be what the energy has; got 'autograd' for one without a value. Use 'auto'.")
    if asked in (CLOSED_FORM, AUTOGRAD):
        return Choice(asked, None, 0.0)
    if asked != "auto":
        return _named(asked, energy, x, registry)
    closed = energy.gradient_source == CLOSED_FORM
    if (closed and strides is None) or _no_backend(energy) is not None:
        return Choice(energy.gradient_source, None, 0.0)
    for record in registry.records("gradient"):
        if record.state not in READY or not is_ours(record):
            continue
        name = ours(registry, "gradient", record.name)
        try:
            backend: GradientBackend = registry.build("gradient", {"use": name}).object
            if isinstance(backend, HasCompileTime) and backend.compiles:
                continue
            if closed and not (isinstance(backend, HasClosedForms) and backend.closed_forms):
                continue
            began = time.perf_counter()
            fast = build_gradient(backend, energy)
            if fast is None or (closed and strides is not None and not strides(energy.with_gradient(fast))):
                continue
            wrong = disagreement(fast, energy, x)
            if wrong is None:
                return Choice(name, fast, time.perf_counter() - began)
            _say(record.name, f"got {wrong}.")
        except EbmcoreError as error:
            _say(record.name, str(error))
        except Exception as error:  # a plugin that was not asked for by name must not stop a run
            _say(record.name, f"it raised {type(error).__name__}: {error}.")
    return Choice(energy.gradient_source, None, 0.0)


def build_gradient(backend: GradientBackend, energy: BoundEnergy) -> Fast | None:
    """Return a backend's value and gradient of an energy at T = 1, or None if it does not take it."""
    with frozen(energy.model):
        return backend.build(energy.model, energy.shape, energy.dtype, energy.device)


def with_source(energy: BoundEnergy, name: str, registry: Registry) -> BoundEnergy:
    """Return an energy whose gradients come from a source that `choose_gradient` named; its own if it has not yet.

    Raises:
        InputError: It is a backend that does not take the energy here.
    """
    if name in ("auto", CLOSED_FORM):
        return energy
    if name == AUTOGRAD:
        return energy.by_autograd()
    fast = build_gradient(registry.build("gradient", {"use": name}).object, energy)
    if fast is None:
        raise _refusal(name, f"{type(energy.model).__name__}, which it does not handle on {energy.device}")
    return energy.with_gradient(fast)


def disagreement(fast: Fast, energy: BoundEnergy, x: Tensor) -> str | None:
    """Say how a backend's value and gradient differ from the energy's own at `x` [n, *shape], or None if they do not.

    Its own are its closed form's, or autograd's where it has none.
    """
    closed = energy.gradient_source == CLOSED_FORM
    exact = (energy.with_gradient(None) if closed else energy.by_autograd()).at_temperature(1.0)
    source = "the closed form" if closed else "autograd"
    with frozen(energy.model):
        u, g = exact.value_and_gradient(x)
        own_u, own_g = fast(x.clone())
    if own_u.shape != u.shape or own_g.shape != g.shape:
        return f"shapes {list(own_u.shape)} and {list(own_g.shape)} where {source} has {list(u.shape)}, {list(g.shape)}"
    for what, own, wanted in (("values", own_u, u), ("gradients", own_g, g)):
        off = ~_close(own.detach(), wanted).reshape(len(x), -1).all(1)
        if int(off.sum()) > max(1, int(KINKS * len(x))):
            return f"{what} that differ from {source}'s in {int(off.sum())} of {len(x)} chains"
    return None


def _close(own: Tensor, wanted: Tensor) -> Tensor:
    finite = wanted.isfinite()
    largest = wanted[finite].abs().max() if bool(finite.any()) else wanted.new_zeros(())
    near = (own - wanted).abs() <= TOLERANCE * largest
    return torch.where(finite, near, own.isfinite() == finite)


def _no_backend(energy: BoundEnergy) -> str | None:
    """Say why no backend can take an energy: it would be called with x alone."""
    if energy.has_keywords:
        return "an energy with conditions"
    if isinstance(energy.model, HasMinibatch):
        return "an energy with minibatches"
    return "an energy in half precision" if energy.compute != energy.dtype else None


def _named(name: str, energy: BoundEnergy, x: Tensor, registry: Registry) -> Choice:
    backend: GradientBackend = registry.build("gradient", {"use": name}).object
    reason = _no_backend(energy) or (None if energy.has_forward else "an energy without a value")
    if reason is not None:
        raise _refusal(name, reason)
    began = time.perf_counter()
    fast = build_gradient(backend, energy)
    if fast is None:
        raise _refusal(name, f"{type(energy.model).__name__}, which it does not handle")
    wrong = disagreement(fast, energy, x)
    if wrong is not None:
        raise _refusal(name, wrong)
    return Choice(name, fast, time.perf_counter() - began)


def _refusal(name: str, got: str) -> InputError:
    return InputError(f"gradient backend '{name}' must be able to take this energy; got {got}. Use gradient = 'auto'.")


def _say(name: str, reason: str) -> None:
    line = " ".join(reason.split())
    warnings.warn(
        f"gradient backend '{name}' must agree with the energy where it is used; {line} It is left out.",
        EbmcoreWarning,
        stacklevel=4,
    )
