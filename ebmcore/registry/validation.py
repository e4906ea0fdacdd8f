"""What a plugin of each kind must have, looked at when it is loaded; types are not checked, structure is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from types import MappingProxyType, ModuleType
from typing import Any

from ebmcore.registry.wording import Refusal, quoted

METHODS: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "sampler": {"init": ("energy", "position", "noise"), "step": ("energy", "state", "noise")},
        "writer": {
            "prepare": ("path", "layout", "committed"),
            "open": ("path", "layout"),
            "finish": ("path", "layout", "summary"),
        },
        "reducer": {"start": ("layout",), "update": ("acc", "block"), "merge": ("a", "b"), "finish": ("acc",)},
        "executor": {"run": ("job", "chunks", "devices")},
        "schedule": {"__call__": ("step", "steps")},
        "gradient": {"build": ("energy", "shape", "dtype", "device")},
        "noise": {"fill_": ("out", "kind", "key", "chains"), "perturb_": ("x", "scale", "key", "chains")},
    }
)
"""Kind -> the methods of `ebmcore.protocols`, with their positional arguments after `self`."""

_SETTINGS_ONLY = ("sampler", "schedule", "writer", "executor")
_MAY_BE_FUNCTIONS = ("model", "schedule", "observer")


def validate(kind: str, target: Any) -> None:
    """Check that a loaded object has what its kind asks for.

    Raises:
        Refusal: It has not; the text says the rule, what was found and the fix.
    """
    if not inspect.isclass(target) and not (kind in _MAY_BE_FUNCTIONS and _is_function(target)):
        wanted = "a class or a function" if kind in _MAY_BE_FUNCTIONS else "a class"
        raise Refusal(f"must be {wanted}; got {_what(target)}. Name {wanted} of the module")
    if not inspect.isclass(target):
        _check_function(kind, target)
        return
    if kind in _SETTINGS_ONLY:
        _check_dataclass(target)
    for name, arguments in METHODS.get(kind, {}).items():
        _check_method(target, name, arguments)
    if kind == "writer":
        _check_parallel(target)
    if kind == "noise":
        _check_devices(target)
    if kind == "model":
        _check_model(target)


def validate_object(kind: str, value: Any) -> None:
    """Check that an object, made in Python or returned by a function, is one of a kind.

    Raises:
        Refusal: It is not; the text says the rule, what was found and the fix.
    """
    if inspect.isclass(value):
        raise Refusal(f"must be an object; got the class {value.__name__!r}. Call it with its settings")
    if kind == "schedule":
        if not _takes(value, METHODS["schedule"]["__call__"]):
            raise Refusal(f"must be a schedule: callable with (step, steps); got {_what(value)}. Give it both")
    elif kind == "model":
        if not (callable(value) or hasattr(value, "gradient")):
            raise Refusal(f"must be an energy: callable, or with `gradient`; got {_what(value)}. Give it one of these")
    else:
        validate(kind, type(value))


def _takes(function: Any, arguments: tuple[str, ...]) -> bool:
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # compiled code may not say
        return True
    return True


def _check_dataclass(target: type) -> None:
    if not is_dataclass(target):
        raise Refusal(f"must be a frozen dataclass; got {_what(target)}. Write @dataclass(frozen=True) above it")
    if not target.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise Refusal("must be a frozen dataclass; got one that is not frozen. Write @dataclass(frozen=True)")


def _check_method(target: type, name: str, arguments: tuple[str, ...]) -> None:
    call = f"{name}({', '.join(arguments)})"
    # Not getattr: every class has a `__call__`, that of its metaclass.
    found = next((vars(base)[name] for base in target.__mro__ if name in vars(base)), None)
    function = found.__func__ if isinstance(found, staticmethod | classmethod) else found
    if not callable(function):
        got = "none" if found is None else _what(found)
        raise Refusal(f"must have a method `{call}`; got {got}. Define it")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # compiled code may not say
        return
    try:
        signature.bind(*(() if isinstance(found, staticmethod) else ("self",)), *arguments)
    except TypeError:
        raise Refusal(
            f"must have a method `{call}`, called with {len(arguments)} positional arguments; "
            f"got `{name}{_short(signature)}`. Change its arguments"
        ) from None


def _check_parallel(target: type) -> None:
    parallel = inspect.getattr_static(target, "parallel", None)
    if not isinstance(parallel, bool):
        got = "none" if parallel is None else quoted(parallel)
        raise Refusal(
            f"must say `parallel: ClassVar[bool]`; got {got}. Write True if several processes may write at once"
        )
    if any(one.name == "parallel" for one in fields(target)):
        raise Refusal("must say `parallel: ClassVar[bool]`; got a field, which is a setting. Annotate it as a ClassVar")


def _check_devices(target: type) -> None:
    devices = inspect.getattr_static(target, "devices", None)
    if not (isinstance(devices, tuple) and devices and all(isinstance(device, str) for device in devices)):
        got = "none" if devices is None else quoted(devices)
        raise Refusal(f'must say `devices: ClassVar[tuple[str, ...]]`; got {got}. Write such as devices = ("cpu",)')


def _check_model(target: type) -> None:
    # hasattr(cls, "__call__") is true of every class: its metaclass has one.
    if not any({"__call__", "gradient", "value_and_gradient"} & vars(base).keys() for base in target.__mro__):
        raise Refusal(
            f"must be an energy when it is made: callable, or with `gradient`; got {_what(target)}, which has "
            "neither. Define __call__(self, x)"
        )


def _check_function(kind: str, target: Any) -> None:
    """Refuse a function that is the energy or the schedule itself, where one that returns it is asked for."""
    if kind not in ("model", "schedule"):
        return
    returned = "an energy" if kind == "model" else "a schedule"
    parameters = _parameters(target)
    steps = [one.name for one in parameters] == ["step", "steps"]
    for parameter in parameters:
        required = parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_ONLY,
            parameter.POSITIONAL_OR_KEYWORD,
        )
        annotation = parameter.annotation
        written = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
        no_setting = annotation is parameter.empty or written.split(".")[-1] == "Tensor"
        if required and (no_setting or (kind == "schedule" and steps)):
            raise Refusal(
                f"must be a function of settings that returns {returned}; got `{target.__name__}`, whose "
                f"`{parameter.name}` is no setting. Annotate a setting with its type; return {returned} from "
                f"`def {kind}(): return {target.__name__}`"
            )


def _parameters(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    try:
        return tuple(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return ()


def _is_function(target: Any) -> bool:
    return inspect.isroutine(target) or (callable(target) and hasattr(target, "__wrapped__"))


def _short(signature: inspect.Signature) -> str:
    """Write a signature without its types."""
    bare = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))


def _what(target: Any) -> str:
    if isinstance(target, ModuleType):
        return f"the module {target.__name__!r}"
    if inspect.isclass(target):
        return f"the class {target.__name__!r}"
    if _is_function(target):
        return f"the function {getattr(target, '__name__', '?')!r}"
    return f"an object of class {type(target).__name__!r}"
