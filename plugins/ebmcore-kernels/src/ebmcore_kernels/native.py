"""Machine code that Numba made once, kept on disk, and loaded without Numba: its import costs more than a short run.

A kernel is a function `name(args)` of a module of this package, compiled by Numba: `args` is the address of its
arguments, eight bytes each. Its object file is named by a digest of what it depends on: the sources of this
package, Numba, LLVM and the CPU. The file begins with a line that holds the digest of the rest and the symbol.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

Kernel = Callable[[bytes], Any]

_PACKAGE = Path(__file__).parent
_UNCALLED = ("NRT_MemInfo_call_dtor",)
"""Named by a function that Numba adds to every object, for arrays that own memory: the kernels have none."""

_lock = threading.Lock()
_engines: list[Any] = []
_returned = ctypes.create_string_buffer(64)
"""Where kernels leave a result and an exception that nobody asks for."""


@cache
def native(module: str, name: str) -> Kernel:
    """Return a kernel as a function of its packed arguments, which releases the interpreter while it runs.

    Args:
        module: Module of this package.
        name: Function in it.

    Raises:
        Exception: What Numba raises where it cannot compile.
    """
    call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(address(module, name))
    room = ctypes.addressof(_returned)
    return lambda args: call(room, room + 32, args)


@cache
def address(module: str, name: str) -> int:
    """Return where a kernel lies, for another one to call it (`intrinsics.call`).

    Args:
        module: Module of this package.
        name: Function in it.

    Raises:
        Exception: What Numba raises where it cannot compile.
    """
    with _lock:
        file = f"{module}-{name}-{_key()}.o"
        found = next(filter(None, (_read(folder / file) for folder in _folders())), None)
        if found is None:
            found = _compiled(module, name)
            _keep(file, *found)
        return _linked(*found)


@cache
def has_fma() -> bool:
    """Say whether the CPU has fused multiply-add: to emulate it costs fiftyfold."""
    features = llvm.get_host_cpu_features()
    return bool(features.get("fma") or features.get("neon") or features.get("fp-armv8"))


@cache
def _key() -> str:
    digest = hashlib.sha256()
    for source in sorted(_PACKAGE.glob("*.py")):
        digest.update(source.read_bytes())
    digest.update(f"{version('numba')} {llvmlite.__version__} {llvm.llvm_version_info}".encode())
    cpu = os.environ.get("NUMBA_CPU_NAME") or llvm.get_host_cpu_name()
    features = os.environ.get("NUMBA_CPU_FEATURES") or llvm.get_host_cpu_features().flatten()
    digest.update(f"{cpu} {features}".encode())
    return digest.hexdigest()[:24]


def _folders() -> Iterator[Path]:
    """Yield where object files may lie, as Numba's own cache: the first that can be written keeps new ones."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(chosen)
        return
    yield _PACKAGE / "__pycache__"
    with suppress(RuntimeError):  # nobody's home
        yield Path.home() / ".cache" / "ebmcore-kernels"


def _read(path: Path) -> tuple[str, bytes] | None:
    try:
        head, _, code = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    digest, _, symbol = head.decode(errors="replace").partition(" ")
    return (symbol, code) if hashlib.sha256(code).hexdigest() == digest else None


def _keep(file: str, symbol: str, code: bytes) -> None:
    head = f"{hashlib.sha256(code).hexdigest()} {symbol}\n".encode()
    for folder in _folders():
        part = folder / f".{file}.{secrets.token_hex(4)}"
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(head + code)
            part.replace(folder / file)
            return


def _compiled(module: str, name: str) -> tuple[str, bytes]:
    from numba import int64

    function = getattr(import_module(f"ebmcore_kernels.{module}"), name)
    function.compile((int64,))
    result = function.overloads[int64,]
    library = result.library
    # Numba has no public way to its object code but for a module compiled ahead of time, which wants a C compiler.
    return result.fndesc.llvm_func_name, library._codegen._tm.emit_object(library._final_module)


def _linked(symbol: str, code: bytes) -> int:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for uncalled in _UNCALLED:
        llvm.add_symbol(uncalled, ctypes.cast(ctypes.pythonapi.Py_IncRef, ctypes.c_void_p).value)
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    return int(engine.get_function_address(symbol))
