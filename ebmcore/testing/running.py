"""Which checks a plugin is held to, and their runs: one by one, all at once, or as tests of pytest."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from unittest import SkipTest

from torch import Tensor

from ebmcore.errors import InputError, PluginError
from ebmcore.observers import Events
from ebmcore.registry import Registry
from ebmcore.registry.validation import METHODS, validate_object
from ebmcore.registry.wording import Refusal, a, quoted
from ebmcore.settings_examples import examples
from ebmcore.testing import (
    executors,
    models,
    noise_backends,
    reducers,
    samplers,
    samplers_chains,
    samplers_law,
    samplers_strides,
    settings_checks,
    small_kinds,
    writers,
)
from ebmcore.testing.conformance import Check, ConformanceError, Outcome, checks_of, name_of

FUNCTIONS: Mapping[str, tuple[Callable[..., None], ...]] = {
    "sampler": (*samplers.CHECKS, *samplers_chains.CHECKS, *samplers_law.CHECKS, *samplers_strides.CHECKS),
    "model": models.CHECKS,
    "schedule": small_kinds.SCHEDULES,
    "writer": writers.CHECKS,
    "reducer": reducers.CHECKS,
    "executor": executors.CHECKS,
    "noise": noise_backends.CHECKS,
    "gradient": small_kinds.GRADIENTS,
    "observer": small_kinds.OBSERVERS,
}
"""Kind -> its own checks; those of settings and module come after them for every kind."""

OWN: Mapping[str, Mapping[str, Any]] = {
    "sampler": {"use": "ebmcore.testing.own:Step", "step_size": 0.1},
    "model": {"use": "ebmcore.testing.targets:Gaussian", "shape": [3]},
    "schedule": {"use": "ebmcore.testing.own:Fixed", "value": 0.1},
}
"""What is put where a plugin's setting is a plugin itself."""


class Pair(NamedTuple):
    """An object and one rule that it is held to."""

    object: Any
    check: Check


def sampler_checks(sampler: Any, *, seed: int = 0) -> Iterator[Pair]:
    """Yield (sampler, check) pairs: shapes, bits, randomness, settings, and the law that it claims.

    Args:
        sampler: An object, or a class whose settings have defaults or examples.
        seed: What all random numbers of the checks follow from.
    """
    return pairs("sampler", sampler, seed=seed)


def model_checks(
    model: Any,
    *,
    shape: Sequence[int] | None = None,
    condition: Mapping[str, Tensor] | None = None,
    seed: int = 0,
) -> Iterator[Pair]:
    """Yield (model, check) pairs: shapes, dtypes, gradient, independence of chains, settings.

    Args:
        model: An energy, or a class of them.
        shape: Shape of one position, for an energy that takes any.
        condition: Keyword arguments that it is called with, one row a chain.
        seed: What the positions follow from.
    """
    shape = None if shape is None else tuple(shape)
    return pairs("model", model, seed=seed, shape=shape, condition=condition)


def writer_checks(writer: Any, *, seed: int = 0) -> Iterator[Pair]:
    """Yield (writer, check) pairs: any blocks in any order, again, after a kill, in threads."""
    return pairs("writer", writer, seed=seed)


def reducer_checks(reducer: Any, *, seed: int = 0) -> Iterator[Pair]:
    """Yield (reducer, check) pairs: every draw counts, groups join, accumulators are plain."""
    return pairs("reducer", reducer, seed=seed)


def executor_checks(executor: Any, *, seed: int = 0) -> Iterator[Pair]:
    """Yield (executor, check) pairs: each chunk once, the bits of `serial`, faults passed on."""
    return pairs("executor", executor, seed=seed)


def noise_checks(backend: Any, *, seed: int = 0) -> Iterator[Pair]:
    """Yield (backend, check) pairs: the numbers of the definition, in any cut, in place."""
    return pairs("noise", backend, seed=seed)


def pairs(kind: str, obj: Any, *, seed: int = 0, **arguments: Any) -> Iterator[Pair]:
    """Yield (object, check) pairs for a plugin of any kind.

    Args:
        kind: One of the kinds of plugins, such as `"schedule"`.
        obj: An object, or a class of which one is made with example settings.
        seed: What all random numbers of the checks follow from.
        **arguments: What else the kind's checks take.

    Raises:
        InputError: There is no such kind.
        PluginError: The object lacks what its kind asks for.
    """
    if kind not in FUNCTIONS:
        raise InputError(f"a plugin's kind must be one of {', '.join(FUNCTIONS)}; got {quoted(kind)}. Choose one.")
    made = made_of(kind, obj)
    try:
        validate_object(kind, made)
    except Refusal as refusal:
        raise PluginError(f"{kind} {name_of(made)} {refusal}.") from None
    checks = checks_of(*FUNCTIONS[kind], seed=seed, **arguments)
    checks += checks_of(*settings_checks.CHECKS, seed=seed, kind=kind)
    return (Pair(made, check) for check in checks)


def made_of(kind: str, obj: Any) -> Any:
    """Return an object: of a class, one with the first settings that its types and bounds allow.

    Raises:
        SettingsError: The class refuses them: make an object yourself.
    """
    if not inspect.isclass(obj):
        return obj
    registry = Registry(distributions=())
    table = next(iter(examples(obj, subject=obj.__qualname__, plugin=OWN.get)))
    target = registry.register(kind, "it")(obj)
    assert target is obj
    return registry.build(kind, {"use": "it", **table}, subject=f"{kind} {obj.__qualname__}").object


def kind_of(obj: Any) -> str:
    """Return the kind of plugin that an object is.

    Raises:
        InputError: It is none.
    """
    target = obj if inspect.isclass(obj) else type(obj)
    for kind in ("sampler", "writer", "reducer", "noise"):
        if all(callable(getattr(target, name, None)) for name in METHODS[kind]):
            return kind
    if any(name in dir(target) for name in vars(Events) if name.startswith("ebmcore_")):
        return "observer"
    for kind, name in (("executor", "run"), ("gradient", "build")):
        if callable(getattr(target, name, None)):
            return kind
    if not inspect.isclass(obj) and callable(obj) and list(_parameters(obj))[:2] == ["step", "steps"]:
        return "schedule"
    if callable(obj) or hasattr(obj, "gradient"):
        return "model"
    raise InputError(f"what is checked must be a plugin; got {a(name_of(obj))}. Say which kind: check(kind, obj).")


def _parameters(obj: Any) -> Iterable[str]:
    try:
        return inspect.signature(obj).parameters
    except (TypeError, ValueError):  # compiled code may not say
        return ()


def outcomes(checks: Iterable[Pair]) -> Iterator[Outcome]:
    """Run checks one by one and yield what comes of each."""
    for obj, check in checks:
        try:
            check(obj)
        except SkipTest as reason:
            yield Outcome(check, "skipped", str(reason))
        except ConformanceError as error:
            yield Outcome(check, "failed", str(error))
        else:
            yield Outcome(check, "passed")


def check(*what: Any, seed: int = 0, **arguments: Any) -> list[Outcome]:
    """Hold a plugin to every rule of its kind: `check(obj)`, or `check(kind, obj)`.

    Args:
        *what: The object, or its kind and the object.
        seed: What all random numbers of the checks follow from.
        **arguments: For a model, its `shape` and `condition`.

    Returns:
        What came of each check: passed, or skipped for a reason.

    Raises:
        ConformanceError: Some failed: the message has each, with the rule, what was seen and what to change.
        InputError: It is no plugin.
    """
    if len(what) not in (1, 2) or (len(what) == 2 and not isinstance(what[0], str)):
        raise InputError(f"check must be called as check(obj) or check(kind, obj); got {len(what)} arguments. Mend it.")
    obj = what[-1]
    kind = what[0] if len(what) == 2 else kind_of(obj)
    found = list(outcomes(pairs(kind, obj, seed=seed, **arguments)))
    failed = [each for each in found if each.state == "failed"]
    if failed:
        lines = "\n".join(f"  {each.check.name}: {each.text}" for each in failed)
        raise ConformanceError(f"{len(failed)} of {len(found)} checks of {kind} {name_of(obj)} failed:\n{lines}")
    return found


def parametrize_with_checks(objects: Sequence[Any] | Any, *, seeds: Sequence[int] = (0,)) -> Any:
    """Return a pytest mark that runs a test once for every object and check, as scikit-learn's does.

    It stands above a test:

        @parametrize_with_checks([MySampler(step_size=0.1)])
        def test_conformance(obj, check):
            check(obj)

    Args:
        objects: Objects, classes, or pairs as `sampler_checks` and its siblings yield them.
        seeds: The seeds of the checks; with several each check runs with each.
    """
    import pytest

    listed = list(objects) if isinstance(objects, Iterable) else [objects]
    found = [
        pair
        for obj in listed
        for pair in ([obj] if isinstance(obj, Pair) else [p for s in seeds for p in pairs(kind_of(obj), obj, seed=s)])
    ]
    ids = [f"{name_of(obj)}-{check.name}" + (f"-{check.seed}" if len(seeds) > 1 else "") for obj, check in found]
    return pytest.mark.parametrize(("obj", "check"), [tuple(pair) for pair in found], ids=ids)
