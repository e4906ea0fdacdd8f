"""The gradient backend `mlp`: value and input gradient of a user's own multilayer perceptron, by a fused kernel.

    U(x) = scale * W_H f(... f(W_1 x + b_1) ...) + b_H + k |x|^2 + constant,     dU/dx by the chain rule, in one pass
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import torch
from torch import Tensor
from torch.nn.modules import module as modules

from ebmcore.protocols import EnergyLike
from ebmcore_kernels.held import Held
from ebmcore_kernels.nodes import Refused
from ebmcore_kernels.perceptron import Perceptron
from ebmcore_kernels.recording import record
from ebmcore_kernels.watch import Watch

WIDEST = 64
"""Numbers of a position beyond which autograd's matrix products are as fast."""

PROBES = 64
"""Positions at which it is compared with autograd whenever the weights are new."""


@dataclass(frozen=True)
class MLP:
    """Multilayer perceptrons in float32 on a CPU with hardware fma; whatever is not proved to be one is left alone.

    An energy is recognised by recording its calls of torch on two small inputs: layers, SELU, ELU, ReLU, LeakyReLU,
    SiLU, tanh, softplus and GELU, a multiple of |x|^2, a constant, a factor. What it holds (attributes, closures, the
    globals and methods that it names) is looked at before, so that a call has no effect and depends on nothing else.
    """

    def build(
        self, energy: EnergyLike, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, /
    ) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
        """Return x [n, d] -> (U [n], dU/dx [n, d]), or None: not an energy that it can prove it handles.

        The callable reads the weights at every call, and first checks that everything the energy holds is still the
        same object; if not, the energy is recorded anew. If it cannot be, or is in another precision, autograd does
        that call. Whenever weights are new, 64 fixed positions are compared with autograd as well.
        """
        features = llvm.get_host_cpu_features()
        if not (features.get("fma") or features.get("neon") or features.get("fp-armv8")):
            return None
        if len(shape) != 1 or not 1 <= shape[0] <= WIDEST or dtype != torch.float32 or device.type != "cpu":
            return None
        if not callable(energy) or hasattr(energy, "gradient") or hasattr(energy, "value_and_gradient"):
            return None
        fused = Fused(energy, shape[0])
        return fused if fused.recognised else None


class _Known(NamedTuple):
    watch: Watch
    network: Perceptron | None


class Fused:
    """x [n, d] -> (U [n], dU/dx [n, d]) of an energy; threads may share it.

    Args:
        energy: The user's callable.
        d: Numbers of a position.
    """

    def __init__(self, energy: Callable[[Tensor], Tensor], d: int) -> None:
        self._energy, self._d = energy, d
        self._lock = threading.Lock()
        self._probes = torch.sin(torch.arange(1.0, PROBES * d + 1).mul_(1.3)).mul_(2.0).view(PROBES, d)
        self._agreed: int | None = None
        self._wrong = False
        self._known = _recognise(energy, d)
        if self.recognised:
            self(self._probes)

    @property
    def recognised(self) -> bool:
        """Whether the energy is a network that the kernel does."""
        return self._known is not None and self._known.network is not None and not self._wrong

    def __call__(self, x: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return U [n] and dU/dx [n, d]."""
        network = self._network()
        if network is None or x.dtype != torch.float32 or x.shape[1:] != (self._d,) or x.device.type != "cpu":
            return _autograd(self._energy, x)
        u, g, digest = network(x.contiguous())
        if digest != self._agreed:
            if not self._agrees(network):
                self._wrong = True
                return _autograd(self._energy, x)
            self._agreed = digest
        return u, g

    def _agrees(self, network: Perceptron) -> bool:
        try:
            truth = _autograd(self._energy, self._probes)
        except Exception:  # an error of the energy's own is for autograd's user to see
            return False
        return _agree(network(self._probes)[:2], truth)

    def _network(self) -> Perceptron | None:
        if self._wrong or torch.is_autocast_enabled("cpu") or modules._has_any_global_hook():
            return None
        known = self._known
        if known is None:
            return None
        if known.watch.same() and (known.network is None or known.network.same):
            return known.network
        with self._lock:
            if self._known is known:
                self._known = _recognise(self._energy, self._d)
                self._agreed = None
            return None if self._known is None else self._known.network


def _recognise(energy: Any, d: int) -> _Known | None:
    """Return the network that an energy is; None in its place if it is none, and None if that may not be watched."""
    if torch._C._len_torch_function_stack():
        return None
    watch = None
    try:
        held = Held(energy)
        watch = held.watch
        recorded = [record(energy, d, n, held.tensors) for n in (3 + 4 * (d == 3), 5 + 4 * (d == 5))]
        if not watch.same() or recorded[0].key() != recorded[1].key():
            raise Refused("it changed between two calls")
        return _Known(watch, Perceptron(recorded[0], d))
    except Refused:
        if watch is None:
            return None
        if not watch.same():
            watch.restore()
            return None
        return _Known(watch, None)


def _autograd(energy: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        u = energy(leaf)
        (g,) = torch.autograd.grad(u.sum(), leaf)
    return u.detach(), g


def _agree(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> bool:
    """Return whether values and gradients are close; one position in 32 may be at a kink and take its other side."""
    if any(a.shape != b.shape or a.dtype != b.dtype for a, b in zip(ours, theirs, strict=True)):
        return False
    (u, g), (v, h) = ours, theirs
    finite = g.isfinite().all(-1) & h.isfinite().all(-1) & u.isfinite() & v.isfinite()
    if not finite.any():
        return True
    u, v, g, h = u[finite], v[finite], g[finite], h[finite]
    off = (g - h).abs().amax(-1) > 1e-4 * h.abs().max() + 1e-30
    values = (u - v).abs() > 1e-4 * v.abs().max() + 1e-4 * h.abs().max() + 1e-30
    return int((off | values).sum()) <= 1 + len(g) // 32


