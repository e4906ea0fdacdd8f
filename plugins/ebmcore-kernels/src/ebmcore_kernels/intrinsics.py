"""What LLVM has and Numba does not spell: fused multiply-add, rotation, a float's bits, a pointer from an integer."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

Code = tuple[Any, Any]

_FLOATS = {types.float32: (ir.FloatType(), types.int32), types.float64: (ir.DoubleType(), types.int64)}


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Code:
    """Return a*b + c, rounded once."""
    return a(a, a, a), lambda context, builder, signature, args: builder.fma(*args)


@intrinsic
def sqrt(typing: Any, a: Any) -> Code:
    """Return the square root, correctly rounded; NaN below 0."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.call(builder.module.declare_intrinsic("llvm.sqrt", [_FLOATS[a][0]]), args)

    return a(a), build


@intrinsic
def rotate(typing: Any, word: Any, by: Any) -> Code:
    """Return a 32-bit word rotated to the left."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        i32 = ir.IntType(32)
        shift = builder.module.declare_intrinsic("llvm.fshl", [i32], ir.FunctionType(i32, [i32] * 3))
        return builder.call(shift, [args[0], args[0], args[1]])

    return types.uint32(types.uint32, types.uint32), build


@intrinsic
def bits(typing: Any, a: Any) -> Code:
    """Return the bits of a float as an integer of its width."""
    integer = _FLOATS[a][1]
    return integer(a), lambda context, builder, signature, args: builder.bitcast(
        args[0], context.get_value_type(integer)
    )


@intrinsic
def from_bits(typing: Any, a: Any, like: Any) -> Code:
    """Return the float of `like`'s type that has the bits `a`."""
    return like(a, like), lambda context, builder, signature, args: builder.bitcast(args[0], _FLOATS[like][0])


@intrinsic
def pointer(typing: Any, address: Any, like: Any) -> Code:
    """Return an address as a pointer to numbers of `like`'s type."""
    kind = types.CPointer(like)
    return kind(address, like), lambda context, builder, signature, args: builder.inttoptr(
        args[0], context.get_value_type(kind)
    )


@intrinsic
def call(typing: Any, function: Any, args: Any) -> Code:
    """Call the kernel at an address with the address of its arguments; return what it returns."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word, byte = ir.IntType(64), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.IntType(32), [word.as_pointer(), byte.as_pointer(), word])
        returned, raised = cgutils.alloca_once(builder, word), cgutils.alloca_once(builder, byte)
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [returned, raised, arguments[1]])
        return builder.load(returned)

    return types.int64(types.int64, types.int64), build


ROOM = 2048
"""Numbers that `room` has place for."""


@intrinsic
def room(typing: Any, like: Any) -> Code:
    """Return the address of `ROOM` numbers of `like`'s type on the stack, the calling function's own."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        block = cgutils.alloca_once(builder, context.get_value_type(like), size=ROOM)
        block.align = 64
        return builder.ptrtoint(block, ir.IntType(64))

    return types.int64(like), build
