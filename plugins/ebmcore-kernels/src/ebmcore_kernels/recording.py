"""What a callable does to its input, followed call by call: proof that it is a multilayer perceptron, or a refusal.

The callable is run on two small inputs under a torch function mode that sees every call. A value is
followed as what it is: the input, its squares, a hidden layer, a result, a weight. A call without a rule, or with
other arguments than the rule has, is refused before it is made. Whatever reaches the result unseen
(a number read from a tensor, an operation of somebody's own) is a tensor that nobody knows, and refused too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ebmcore_kernels.calls import RULES
from ebmcore_kernels.held import Held, Refused
from ebmcore_kernels.nodes import Input, Node, Result, Weight

QUERIES = frozenset({Tensor.dim, *(getattr(Tensor, name).__get__ for name in ("ndim", "dtype", "device"))})
"""What may be asked of any tensor: it is the same for every number of chains."""

ROWS = (2, 3)
"""Chains of the two inputs: what depends on their number differs."""


class Recording(NamedTuple):
    """A callable that has been followed."""

    result: Result
    held: Held


class _Recorder(TorchFunctionMode):
    def __init__(self, held: Held, x: Tensor) -> None:
        super().__init__()
        self._held = held
        self._nodes: dict[int, Node] = {id(x): Input(x.shape[1])}
        self._alive: list[Tensor] = [x]
        self.refused: Refused | None = None
        """The first refusal: an energy that catches it and goes on is refused all the same."""

    def node(self, value: object) -> Any:
        """Return what a tensor is; anything else is itself."""
        if not isinstance(value, Tensor):
            return value
        if id(value) in self._nodes:
            return self._nodes[id(value)]
        if id(value) in self._held.tensors:
            return Weight(_plain(value))
        raise Refused("a tensor that is neither the input's nor the energy's")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            return self._call(func, args, kwargs or {})
        except Refused as refusal:
            self.refused = self.refused or refusal
            raise
        except Exception as error:
            self.refused = self.refused or Refused(f"a call of {getattr(func, '__name__', func)} failed")
            raise self.refused from error

    def _call(self, func: Any, args: Any, kwargs: Any) -> Any:
        if torch.is_autocast_enabled("cpu") or not torch.is_grad_enabled():
            raise Refused("another precision, or no gradients")
        if func in QUERIES:
            return func(*args, **kwargs)
        rule = RULES.get(func)
        if rule is None:
            raise Refused(f"a call of {getattr(func, '__name__', func)}")
        if kwargs.get("inplace") or any(argument is True for argument in args[1:]):
            self._check_alone(args[0])
        try:
            made = rule(*map(self.node, args), **{name: self.node(value) for name, value in kwargs.items()})
        except (TypeError, AttributeError) as error:
            raise Refused(f"other arguments of {getattr(func, '__name__', func)}") from error
        out = func(*args, **kwargs)
        if not isinstance(made, Weight) and not (
            type(out) is Tensor and out.dtype == torch.float32 and out.requires_grad
        ):
            raise Refused("a result in another precision, or without a gradient")
        self._nodes[id(out)] = made
        self._alive.append(out)
        return out

    def _check_alone(self, overwritten: Any) -> None:
        """Refuse an operation in place on memory that another tensor shows too: what that is would be stale."""
        storage = overwritten.untyped_storage().data_ptr()
        if any(other is not overwritten and other.untyped_storage().data_ptr() == storage for other in self._alive):
            raise Refused("a tensor that is seen under two names is overwritten")


def record(energy: Any, width: int) -> Recording:
    """Follow `energy` on positions [n, width].

    Args:
        energy: A callable.
        width: Coordinates of a position.

    Raises:
        Refused: It is not proved to be a multilayer perceptron with an optional quadratic term.
    """
    if torch.is_autocast_enabled("cpu") or torch._C._len_torch_function_stack():
        raise Refused("calls are changed by a context around them")
    held = Held(energy)
    results = []
    try:
        for n in ROWS:
            x = torch.linspace(-1.3, 1.7, n * width).reshape(n, width).requires_grad_(True)
            results.append(_followed(energy, held, x))
    except Exception as error:  # an energy that fails on a small input is not for us to judge
        raise Refused(f"it raised {type(error).__name__}") from error
    finally:
        changed = held.restore()
    if changed:
        raise Refused("calling it changes it, or draws random numbers")
    first, second = results
    if _key(first) != _key(second):
        raise Refused("it does not do the same for every number of chains")
    return Recording(first, held)


def _followed(energy: Any, held: Held, x: Tensor) -> Result:
    recorder = _Recorder(held, x)
    with torch.enable_grad(), recorder:
        out = energy(x)
    if recorder.refused is not None:
        raise recorder.refused
    node = recorder.node(out)
    if not isinstance(node, Result) or node.column or not node.layers or out.shape != (len(x),):
        raise Refused("it does not end in the output of a network, one number a chain")
    _check_graph(out)
    return node


def _key(result: Result) -> tuple[object, ...]:
    return (*(layer.key() for layer in result.layers), *result[1:])


def _plain(tensor: Tensor) -> Tensor:
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.dtype != torch.float32 or tensor.device.type != "cpu":
        raise Refused("a weight that is not a plain float32 tensor on the CPU")
    if tensor.layout != torch.strided or tensor.is_neg() or tensor.is_conj() or tensor.grad_fn is not None:
        raise Refused("a weight that is computed, or not laid out in strides")
    return tensor


def _check_graph(out: Tensor) -> None:
    """Refuse gradients of somebody's own: their forward is what was followed, their backward may be anything."""
    seen, stack = set(), [out.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            raise Refused("a gradient of its own")
        stack.extend(parent for parent, _ in node.next_functions)
