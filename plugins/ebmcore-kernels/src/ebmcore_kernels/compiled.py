"""What lets a noise backend call a gradient itself, many steps at a time, without Python between them."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor


class CompiledGradient(NamedTuple):
    """A kernel (see `native`) whose arguments begin with the addresses of x [n, d], U [n], dU/dx [n, d], and n."""

    function: int
    """Its address."""
    words: tuple[int, ...]
    """Its arguments after n."""
    rows: int | None
    """Chains that it is best called with at a time; None where any number will do."""
    owner: object
    """Keeps alive what the arguments point to."""


@runtime_checkable
class HasCompiled(Protocol):
    """A value and gradient that machine code can call."""

    def __call__(self, x: Tensor, /) -> tuple[Tensor, Tensor]: ...

    def compiled(self, n: int, d: int, /) -> CompiledGradient | None:
        """Return the kernel for n chains of d coordinates in this thread, or None: Python must call it now."""
        ...
