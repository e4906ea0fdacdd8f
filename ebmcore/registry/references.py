"""`pkg.module:Attr` and `./file.py:Attr` -> the object.

A file is executed as a module of its own, once for each content: what runs is what was
hashed, an edited file runs anew, and two tables that name one file get the same classes.
"""

from __future__ import annotations

import importlib
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ebmcore.registry.wording import Refusal, listed, near, quoted

_VALUE = re.compile(r"(?P<module>\w+(\.\w+)*)\s*:\s*(?P<attr>\w+(\.\w+)*)\s*(\[.*\])?")
_FILES = threading.RLock()


def is_direct(use: str) -> bool:
    """Is this a direct reference, and not the name of a plugin?"""
    return ":" in use or use.endswith(".py")


def name_fault(name: str) -> str | None:
    """Return why a plugin cannot have this name; None if it can."""
    if name and not is_direct(name) and "@" not in name and not any(map(str.isspace, name)):
        return None
    return f"must have a name without spaces, ':' and '@' that does not end in .py; got {quoted(name)}"


def value_fault(value: str) -> str | None:
    """Return why this cannot be an entry point's value; None if it can."""
    if _VALUE.fullmatch(value):
        return None
    return f"must have an entry point of the form 'module:attribute'; got {quoted(value)}"


def load_value(value: str) -> Any:
    """Import an entry point's module and return its attribute.

    Raises:
        Refusal: The value is malformed, or the module has no such attribute.
        BaseException: Whatever the module raises.
    """
    return _import(value)[0]


def load_direct(use: str, base: Path) -> tuple[Any, str | None]:
    """Load the object of a direct reference.

    Args:
        use: `pkg.module:Attr`, or `FILE.py:Attr` with a file relative to `base`.
        base: A folder.

    Returns:
        The object, and the sha256 of the file that defines its module (None if that has no file).

    Raises:
        Refusal: The reference is malformed, the file is missing, or nothing in it has that name.
        BaseException: Whatever the module raises.
    """
    place, _, attr = use.rpartition(":")
    if place.endswith(".py") and re.fullmatch(r"\w+(\.\w+)*", attr):
        module, digest = _execute(place, base)
        return _attribute(module, attr, place), digest
    if not _VALUE.fullmatch(use):
        raise Refusal("must be written 'pkg.module:Name' or './file.py:Name'; that is neither. Add what is missing")
    from hashlib import sha256

    found, module = _import(use)
    file = Path(getattr(module, "__file__", None) or "")
    return found, sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def file_of(use: str, base: Path) -> Path | None:
    """Return the file of a reference to one."""
    place = use.rpartition(":")[0]
    return (base / place).resolve() if place.endswith(".py") else None


def _import(value: str) -> tuple[Any, ModuleType]:
    match = _VALUE.fullmatch(value)
    if match is None:
        raise Refusal(str(value_fault(value)))
    module = importlib.import_module(match["module"])
    return _attribute(module, match["attr"], f"module '{match['module']}'"), module


def _execute(place: str, base: Path) -> tuple[ModuleType, str]:
    from hashlib import sha256

    path = (base / place).resolve()
    if not path.is_file():
        raise Refusal(f"must name a file that exists; got {str(path)!r}. Check the path, which is relative to {base}")
    source = path.read_bytes()
    digest = sha256(source).hexdigest()
    unique = sha256(f"{path}\0{digest}".encode()).hexdigest()[:16]
    name = f"ebmcore_file_{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}_{unique}"
    with _FILES:
        if name not in sys.modules:
            _run(name, path, source)
        return sys.modules[name], digest


def _run(name: str, path: Path, source: bytes) -> None:
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location(name, path)
    if spec is None:
        raise Refusal(f"must name a file that Python can run; got {str(path)!r}")
    module = sys.modules[name] = module_from_spec(spec)
    try:
        # Not by the loader: its bytecode cache misses an edit of the same size within a second.
        exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))
    except BaseException:
        del sys.modules[name]
        raise


def _attribute(module: ModuleType, path: str, place: str) -> Any:
    found: Any = module
    for attr in path.split("."):
        try:
            found = getattr(found, attr)
        except AttributeError:
            names = list(_public(found))
            close = near(attr, names)
            raise Refusal(
                f"must name something in {place}; got {path!r}, which is not there."
                f"{f' Did you mean {close!r}?' if close else ''} It has: {listed(names)}"
            ) from None
    return found


def _public(holder: Any) -> Iterator[str]:
    """Yield what a user may have meant: names that are not private, and first those that the module defines itself."""
    names = [name for name in vars(holder) if not name.startswith("_")] if hasattr(holder, "__dict__") else []
    home = getattr(holder, "__name__", None) if isinstance(holder, ModuleType) else None
    own = [name for name in names if home is not None and getattr(vars(holder)[name], "__module__", None) == home]
    yield from own or names
