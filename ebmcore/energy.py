"""The energy that a sampler is handed: a user's callable with everything settled around it.

Value, gradient, temperature, conditions and the ownership of what comes back are decided
here, once; a sampler sees only `EnergyFunction`.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from ebmcore.errors import EbmcoreWarning, EnergyError
from ebmcore.protocols import HasGradient, HasSupport, HasValueAndGradient, Support

PRECISIONS = ("float32", "float64", "bfloat16", "float16")
"""The half ones are those of the energy's own arithmetic alone."""


class Precision(NamedTuple):
    """The dtypes of a run: a half-precision state would sample another distribution, since small steps round away."""

    state: torch.dtype
    """Of positions, noise and what a sampler sees: float32 or float64."""
    energy: torch.dtype
    """In which the energy is evaluated."""

    @classmethod
    def named(cls, name: str) -> Precision:
        """Return the dtypes of one of `PRECISIONS`."""
        dtype: torch.dtype = getattr(torch, name)
        return cls(torch.float64 if dtype is torch.float64 else torch.float32, dtype)


def promoted(x: Tensor, what: str) -> Tensor:
    """Return positions of which a state can be made: those in half precision as float32.

    Warns:
        EbmcoreWarning: They were in half precision.
    """
    if x.dtype not in (torch.bfloat16, torch.float16):
        return x
    warnings.warn(
        f"{what} should be float32 or float64, since small steps round away in half precision; got "
        f"{str(x.dtype).removeprefix('torch.')}. It is taken as float32; precision='bfloat16' halves the energy alone.",
        EbmcoreWarning,
        stacklevel=3,
    )
    return x.float()


@final
class BoundEnergy:
    """U(x)/T of some chains, on one device, in one dtype (`EnergyFunction`).

    The gradient is the model's `gradient`, else the second half of its `value_and_gradient`,
    else autograd's. Results are detached, in `dtype`, and the caller's to overwrite.

    Args:
        model: A callable [n, *shape] -> [n], or an object with `gradient` alone.
        shape: Shape of one position.
        dtype: float32 or float64, of positions and of what comes back.
        compute: The dtype in which the model is called; `dtype` by default.
        device: Where positions live.
        temperature: T > 0.
        condition: Keyword arguments with one row a chain, [n, ...].
        shared: Keyword arguments that every call gets whole.
    """

    def __init__(
        self,
        model: Any,
        *,
        shape: tuple[int, ...],
        dtype: torch.dtype = torch.float32,
        compute: torch.dtype | None = None,
        device: torch.device | str = "cpu",
        temperature: float = 1.0,
        condition: Mapping[str, Tensor] | None = None,
        shared: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.model = model
        self.shape = shape
        self.dtype = dtype
        self.compute = compute or dtype
        self.device = torch.device(device)
        self.support: Support = model.support if isinstance(model, HasSupport) else "real"
        self.temperature = temperature
        self._condition = dict(condition or {})
        self._shared = dict(shared or {})
        self._given = {**self._shared, **self._condition}
        self._forward: Callable[..., Tensor] | None = model if has_value(model) else None
        self._gradient: Callable[..., Tensor] | None = model.gradient if isinstance(model, HasGradient) else None
        self._both: Callable[..., tuple[Tensor, Tensor]] | None = (
            model.value_and_gradient if isinstance(model, HasValueAndGradient) else None
        )
        self._fast: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None

    @property
    def gradient_source(self) -> str:
        """Where gradients come from by themselves: `"closed_form"` or `"autograd"`."""
        return "autograd" if self._gradient is None and self._both is None else "closed_form"

    @property
    def fast(self) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
        """A backend's value and gradient at T = 1, or None."""
        return self._fast

    @property
    def has_forward(self) -> bool:
        """Whether the model can be called for U."""
        return self._forward is not None

    def value(self, x: Tensor, /, **over: Tensor) -> Tensor:
        """Return U(x)/T [n]."""
        with torch.no_grad():
            if self._forward is None and self._both is not None:
                u = self._both(self._cast(x), **self._keywords(over))[0]
            else:
                u = self._energy(x, over)
            return self._finish(u, x, (len(x),))

    @property
    def has_keywords(self) -> bool:
        """Whether calls of the model get conditions."""
        return bool(self._given)

    def gradient(self, x: Tensor, /, **over: Tensor) -> Tensor:
        """Return dU/dx / T [n, *shape]."""
        if self._gradient is not None and (self._fast is None or over):
            if not torch.is_grad_enabled():  # as in the engine, where entering no_grad again would cost a microsecond
                return self._finish(self._gradient(self._cast(x), **self._keywords(over)), x, x.shape)
            with torch.no_grad():
                return self.gradient(x, **over)
        return self._finish(self._value_and_gradient(x, over)[1], x, x.shape)

    def value_and_gradient(self, x: Tensor, /, **over: Tensor) -> tuple[Tensor, Tensor]:
        """Return (U(x)/T [n], dU/dx / T [n, *shape])."""
        if self._gradient is not None and self._both is None and (self._fast is None or over):
            return self.value(x, **over), self.gradient(x, **over)
        u, g = self._value_and_gradient(x, over)
        return self._finish(u, x, (len(x),)), self._finish(g, x, x.shape)

    def _value_and_gradient(self, x: Tensor, over: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        if self._fast is not None and not over:
            return self._fast(x)
        if self._both is not None:
            with torch.no_grad():
                return self._both(self._cast(x), **self._keywords(over))
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            u = self._energy(leaf, over)
            if not u.requires_grad:
                raise EnergyError(
                    "the energy must be differentiable in x; got a result without a graph. "
                    "Compute it with torch operations on x (no .detach(), .item(), .numpy() or no_grad), "
                    "or give the energy a method gradient(x)."
                )
            (g,) = torch.autograd.grad(u.to(self.dtype).sum(), leaf)
        return u, g

    def select(self, index: Tensor, /) -> BoundEnergy:
        """Return the energy of the chains in rows `index` [m]; repeats allowed."""
        return self._with({name: rows.index_select(0, index) for name, rows in self._condition.items()}, self._shared)

    def rows(self, lo: int, hi: int) -> BoundEnergy:
        """Return the energy of the chains [lo, hi), their conditions moved to the device."""
        condition = {name: whole[lo:hi].to(self.device) for name, whole in self._condition.items()}
        return self._with(condition, self._shared)

    def conditioned(self, condition: Mapping[str, Tensor]) -> BoundEnergy:
        """Return the energy of chains with other conditions."""
        return self._with(condition, self._shared)

    def sharing(self, shared: Mapping[str, Tensor]) -> BoundEnergy:
        """Return this energy with more keyword arguments for every call (a minibatch)."""
        return self._with(self._condition, {**self._shared, **shared})

    def with_gradient(self, fast: Callable[[Tensor], tuple[Tensor, Tensor]] | None) -> BoundEnergy:
        """Return this energy with a backend's value and gradient, or without."""
        other = copy.copy(self)
        other._fast = fast
        return other

    def by_autograd(self) -> BoundEnergy:
        """Return this energy with autograd's gradient, even where the model has a closed form."""
        other = copy.copy(self)
        other._fast = other._gradient = other._both = None
        return other

    def at_temperature(self, temperature: float) -> BoundEnergy:
        """Return this energy at another temperature."""
        other = copy.copy(self)
        other.temperature = temperature
        return other

    def _with(self, condition: Mapping[str, Tensor], shared: Mapping[str, Tensor]) -> BoundEnergy:
        other = copy.copy(self)
        other._condition, other._shared = dict(condition), dict(shared)
        other._given = {**other._shared, **other._condition}
        return other

    def _cast(self, x: Tensor) -> Tensor:
        return x if x.dtype is self.compute else x.to(self.compute)

    def _keywords(self, over: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {**self._given, **over} if over else self._given

    def _energy(self, x: Tensor, over: Mapping[str, Tensor]) -> Tensor:
        if self._forward is None:
            raise EnergyError(
                "the energy must have a value for this; got a model with a gradient alone. "
                "Use a sampler that needs no energy value, such as ula."
            )
        u = self._forward(self._cast(x), **self._keywords(over))
        if not isinstance(u, Tensor) or u.shape != (len(x),):
            raise EnergyError(wrong_result("energy", "[n]", (len(x),), u, x))
        return u

    def _finish(self, result: Tensor, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        if not isinstance(result, Tensor) or result.shape != shape:
            raise EnergyError(wrong_result("gradient", "[n, *shape]", shape, result, x))
        if result.requires_grad or result.dtype is not self.dtype or not result.is_contiguous():
            result = result.detach().to(self.dtype).contiguous()
        if self.temperature != 1.0:
            return result / self.temperature
        # A standard Gaussian's closed-form gradient is x itself: the sampler would overwrite its own state.
        return result.clone() if result.data_ptr() == x.data_ptr() else result


def has_value(model: Any) -> bool:
    """Say whether `model` can be called for U; an nn.Module without a forward cannot."""
    if isinstance(model, nn.Module):
        return type(model).forward is not nn.Module.forward
    return callable(model)


def place(model: Any, device: torch.device, dtype: torch.dtype, *, own: bool = False) -> Any:
    """Return `model` with its floating weights in `dtype` on `device`: itself if they are, else a deep copy.

    Args:
        model: An energy; only an nn.Module has weights that can be moved.
        device: Where it will be called.
        dtype: That of the energy's arithmetic.
        own: Ask for a copy in any case, frozen, for a worker of its own.
    """
    if not isinstance(model, nn.Module):
        return model
    tensors = [*model.parameters(), *model.buffers()]
    fits = all(
        _same_device(tensor.device, device) and (tensor.dtype == dtype or not tensor.is_floating_point())
        for tensor in tensors
    )
    if fits and not own:
        return model
    return copy.deepcopy(model).to(device=device, dtype=dtype).requires_grad_(False)


@contextmanager
def frozen(model: Any) -> Iterator[None]:
    """Hold back gradients for a module's weights, which saves a tenth of a gradient's time, then restore them."""
    held = [p for p in model.parameters() if p.requires_grad] if isinstance(model, nn.Module) else []
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)


def wrong_result(what: str, rule: str, shape: tuple[int, ...], got: object, x: Tensor) -> str:
    """Say in one line why `got` is not a result of `shape`, and the likely mend."""
    n = len(x)
    must = f"the {what} must be a tensor of shape {rule}, here {list(shape)} for x {list(x.shape)}"
    if not isinstance(got, Tensor):
        return f"{must}; got {type(got).__name__}. Return a torch tensor."
    seen = f"{must}; got {list(got.shape)}."
    if what == "energy" and got.ndim == 0:
        return f"{seen} Return one energy a chain, not their sum: sum over the last axes only, such as .sum(-1)."
    if what == "energy" and got.shape == (n, 1):
        return f"{seen} Drop the last axis with .squeeze(-1)."
    if what == "energy" and got.ndim > 1 and got.shape[0] == n:
        return f"{seen} Sum over the position's axes, such as .flatten(1).sum(-1)."
    return f"{seen} Axis 0 is the chain."


def _same_device(a: torch.device, b: torch.device) -> bool:
    return a.type == b.type and (a.index or 0) == (b.index or 0)
