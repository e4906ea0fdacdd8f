"""What holds for the settings and the module of a plugin of any kind."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any

import tomli_w

from ebmcore.errors import PluginError
from ebmcore.registry import KINDS, Registry
from ebmcore.settings import settings_model, validate
from ebmcore.settings_nested import Part, fill
from ebmcore.settings_objects import check_object
from ebmcore.settings_plain import plain
from ebmcore.settings_types import IN_PYTHON
from ebmcore.testing.conformance import NotApplicable, name_of, require

CODE = """
import contextlib, io, json, os, random, sys, warnings
import numpy, torch
def look():
    return {
        "torch's random state": repr(torch.get_rng_state().tolist()),
        "numpy's random state": repr(numpy.random.get_state()),
        "Python's random state": repr(random.getstate()),
        "torch's number of threads": torch.get_num_threads(),
        "torch's default dtype": str(torch.get_default_dtype()),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "whether autograd is on": torch.is_grad_enabled(),
        "CUDA, which was initialised": torch.cuda.is_initialized(),
        "the working folder": os.getcwd(),
    }
before, printed = look(), io.StringIO()
sys.path[:0] = json.loads(sys.argv[2])
with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
    __import__(sys.argv[1])
after = look()
print(json.dumps([printed.getvalue()[:200], [name for name in before if before[name] != after[name]]]))
"""


def check_settings_are_frozen(obj: Any, seed: int, kind: str) -> None:
    """Settings are fields of a frozen dataclass, and none of them is a list or table that could be changed."""
    target = type(obj)
    if not dataclasses.is_dataclass(target):
        raise NotApplicable("it is no dataclass")
    if kind == "observer":
        raise NotApplicable("an observer may change: it is a part of one run")
    parameters = target.__dataclass_params__  # type: ignore[attr-defined]
    require(
        bool(parameters.frozen),
        f"{name_of(obj)} must be a frozen dataclass",
        "one that is not frozen",
        "Write @dataclass(frozen=True)",
    )
    for field in dataclasses.fields(obj):
        value = getattr(obj, field.name, None)
        require(
            not field.init or not isinstance(value, list | dict | set | bytearray),
            f"`{field.name}` of {name_of(obj)} must be a value that cannot change",
            f"a {type(value).__name__}",
            "Annotate it as a tuple: a run file's list becomes one",
        )


def check_settings_round_trip(obj: Any, seed: int, kind: str) -> None:
    """Settings can be written as TOML, and read back give an equal object."""
    if not dataclasses.is_dataclass(type(obj)):
        raise NotApplicable("it is no dataclass: its settings cannot be read from an object")
    table = {"use": reference(obj), **table_of(obj)}
    text = tomli_w.dumps(table)
    again = Registry(distributions=()).build(kind, tomllib.loads(text), subject=name_of(obj)).object
    other = table_of(again)
    changed = next((name for name in {*table, *other} - {"use"} if table.get(name) != other.get(name)), None)
    require(
        type(again) is type(obj) and changed is None,
        f"{name_of(obj)} must keep its settings through TOML",
        f"`{changed}` = {other.get(str(changed))!r} in place of {table.get(str(changed))!r}",
        "Store what you are given, and convert where you use it",
    )


def check_settings_are_described(obj: Any, seed: int, kind: str) -> None:
    """Settings are typed, valid in their bounds, and each says in a `description` what it is."""
    if kind in ("model", "observer") and not dataclasses.is_dataclass(type(obj)):
        target: Any = type(obj) if type(obj).__module__ != "builtins" and not inspect.isroutine(obj) else None
    else:
        target = type(obj)
        check_object(kind, obj, subject=name_of(obj)) if kind in KINDS else None
    if target is None:
        raise NotApplicable("it is a function")
    try:
        fields = settings_model(target, subject=name_of(obj)).model_fields.values()
    except PluginError as error:
        if kind != "model":
            raise
        raise NotApplicable(f"it is made by a function, whose settings are its own: {error}") from None
    silent = [str(field.alias) for field in fields if not field.description]
    require(
        not silent,
        f"{name_of(obj)} must describe each setting, for `ebmcore plugins show`",
        f"no description of `{', '.join(silent)}`",
        'Add metadata={"description": "..."} to the field, or Annotated[..., Doc("...")] to the parameter',
    )


def check_import_is_light(obj: Any, seed: int, kind: str) -> None:
    """Importing the plugin's module prints nothing and changes nothing that is global."""
    module = type(obj).__module__ if not hasattr(obj, "__qualname__") else obj.__module__
    printed, changed = _imported(_importable(module))
    require(
        not printed,
        f"module '{module}' must print nothing when it is imported",
        repr(printed),
        "Remove the print, or the warning's cause",
    )
    require(
        not changed,
        f"module '{module}' must change nothing global when it is imported",
        f"a change of {', '.join(changed)}",
        "Move that into the function that needs it, and draw random numbers from `noise`",
    )


def table_of(obj: Any) -> dict[str, Any]:
    """Return a dataclass's settings as TOML can hold them, plugins in them as tables.

    Raises:
        NotApplicable: One of them is an object that no reference names.
    """
    target = type(obj)
    fields = settings_model(target, subject=name_of(obj)).model_fields.values()
    values = {str(field.alias): getattr(obj, str(field.alias)) for field in fields}
    changed = {
        str(field.alias): values[str(field.alias)]
        for field in fields
        if values[str(field.alias)] is not field.default and values[str(field.alias)] is not None
    }
    checked = validate(target, changed, subject=name_of(obj), context=IN_PYTHON)

    def written(part: Part, path: str) -> Mapping[str, Any] | float:
        if type(part.value).__name__ == "Constant" and type(part.value).__module__.startswith("ebmcore."):
            return float(part.value.value)
        return {"use": reference(part.value), **table_of(part.value)}

    given = {name: fill(checked[name], written, name) for name in changed}
    return plain(target, given, subject=name_of(obj), written=lambda part, path: part.value)


def reference(obj: Any) -> str:
    """Return how a run file names the class of an object.

    Raises:
        NotApplicable: It cannot.
    """
    target = type(obj)
    reference = f"{target.__module__}:{target.__qualname__}"
    found: Any = sys.modules.get(target.__module__)
    for name in target.__qualname__.split("."):
        found = getattr(found, name, None)
    if found is not target or target.__module__ == "__main__":
        raise NotApplicable(f"no run file can name {reference}: it is not an attribute of an importable module")
    return reference


def _importable(module: str) -> str:
    try:
        found = find_spec(module) is not None and module != "__main__"
    except (ImportError, ValueError):
        found = False
    if not found:
        raise NotApplicable(f"module '{module}' cannot be imported by its name in another process")
    return module


@cache
def _imported(module: str) -> tuple[str, tuple[str, ...]]:
    done = subprocess.run(
        [sys.executable, "-c", CODE, module, json.dumps(sys.path)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return f"a failure: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}", ()
    printed, changed = json.loads(done.stdout.splitlines()[-1])
    return printed, tuple(changed)


CHECKS = (
    check_settings_are_frozen,
    check_settings_round_trip,
    check_settings_are_described,
    check_import_is_light,
)
