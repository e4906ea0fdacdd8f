"""An energy's calls of torch, followed on two small inputs: an allow-list of functions, each with exact arguments.

A call without a rule, or with other arguments, is refused before it is made, so that a refused energy has drawn no
random number and changed no buffer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ebmcore_kernels.nodes import Hidden, Input, Node, Refused, Result, Weight
from ebmcore_kernels.rules import AXES, RULES

PLAIN = (int, float, str, bool, type(None), type(Ellipsis), slice)


class Recorder(TorchFunctionMode):  # type: ignore[misc]
    """Follows values through calls.

    Args:
        x: The positions [n, d].
        tensors: The energy's own, by id.
    """

    def __init__(self, x: Tensor, tensors: dict[int, Tensor]) -> None:
        super().__init__()
        self.refusal: str | None = None
        self._tensors = tensors
        self._dead: list[Tensor] = []  # kept, so that no other tensor takes the id of one
        self._known: dict[int, tuple[Tensor, Node]] = {id(x): (x, Input(x.shape[1]))}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Make a call that a rule allows.

        Raises:
            Refused: There is none. The whole recording is void then, even if the energy goes on.
        """
        try:
            return self._call(func, args, kwargs or {})
        except Refused as refusal:
            self.refusal = str(refusal)
            raise
        except Exception as error:
            self.refusal = f"{func}: {error}"
            raise Refused(self.refusal) from error

    def node(self, value: object) -> Node:
        """Return what a tensor is.

        Raises:
            Refused: It is none that was made by recorded calls, nor one of the energy's own.
        """
        known = self._known.get(id(value))
        if known is not None:
            return known[1]
        if id(value) in self._tensors and isinstance(value, Tensor):
            return Weight(_usable(value))
        raise Refused("a tensor from elsewhere")

    def _call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or self.refusal is not None:
            raise Refused("without gradients, or in another precision")
        if func in AXES:
            if not isinstance(self.node(args[0]), Input | Hidden):
                raise Refused("the axes of something else")
            return func(*args, **kwargs)
        if func not in RULES:
            raise Refused(f"{func} is not on the list")
        made = RULES[func](*map(self._argument, args), **{name: self._argument(a) for name, a in kwargs.items()})
        value = func(*args, **kwargs)
        if type(value) not in (Tensor, torch.nn.Parameter) or value.dtype != torch.float32:
            raise Refused("something else than a float32 tensor")
        self._put(value, made)
        return value

    def _argument(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.node(value)
        if isinstance(value, tuple | list):
            if not all(isinstance(item, PLAIN) for item in value):
                raise Refused("tensors in a list")
        elif not isinstance(value, PLAIN):
            raise Refused(f"{type(value)} as an argument")
        return value

    def _put(self, value: Tensor, made: Node) -> None:
        before = self._known.get(id(value))
        if before is not None and before[1] != made:
            # Overwritten: its views hold other numbers now than their nodes say, and are no longer known.
            place = value.untyped_storage().data_ptr()
            for tensor, _ in list(self._known.values()):
                if tensor.untyped_storage().data_ptr() == place:
                    self._dead.append(self._known.pop(id(tensor))[0])
        self._known[id(value)] = (value, made)


def record(energy: Callable[[Tensor], Tensor], d: int, n: int, tensors: dict[int, Tensor]) -> Result:
    """Return what `energy` makes of n positions of d numbers.

    Raises:
        Refused: It is not proved.
    """
    x = torch.sin(torch.arange(1.0, n * d + 1).mul_(1.7)).view(n, d).requires_grad_()
    recorder = Recorder(x, tensors)
    with torch.enable_grad(), recorder:
        try:
            value = energy(x)
        except Exception as error:
            raise Refused(str(error)) from error
    if recorder.refusal is not None:
        raise Refused(recorder.refusal)
    made = recorder.node(value)
    if not isinstance(made, Result) or made.column or value.shape != (n,):
        raise Refused("the result is not [n]")
    return made


def _usable(tensor: Tensor) -> Tensor:
    if (
        type(tensor) not in (Tensor, torch.nn.Parameter)
        or tensor.dtype != torch.float32
        or tensor.device.type != "cpu"
        or tensor.layout != torch.strided
        or tensor.is_neg()
        or tensor.grad_fn is not None
        or tensor.ndim > 2
        or tensor.numel() == 0
        or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    ):
        raise Refused("a weight that is not a plain float32 tensor")
    return tensor
