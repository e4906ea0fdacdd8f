"""What a sampler claims of its law, and the settings that the claim is about."""

from __future__ import annotations

import dataclasses
from typing import Any

from ebmcore.errors import EbmcoreError
from ebmcore.protocols import HasLaw
from ebmcore.settings_objects import check_instance
from ebmcore.testing.conformance import NotApplicable, name_of
from ebmcore.testing.walking import bind, target_of, walk, whole_ensembles


def law_of(sampler: Any) -> str:
    """Return what a sampler says of its law, or what is meant where it says nothing (see `HasLaw`)."""
    if isinstance(sampler, HasLaw):
        return str(sampler.law)
    if step_size_of(sampler) is None or accepts(sampler):
        return "exact"
    return "limit"


def step_size_of(sampler: Any) -> float | None:
    """Return the number that is a sampler's `step_size`, or that of the sampler inside it."""
    if not dataclasses.is_dataclass(sampler):
        return None
    for field in dataclasses.fields(sampler):
        value = getattr(sampler, field.name, None)
        if field.name == "step_size" and isinstance(value, int | float):
            return float(value)
        if hasattr(value, "step") and hasattr(value, "init") and dataclasses.is_dataclass(value):
            inner = step_size_of(value)
            if inner is not None:
                return inner
    return None


def with_step_size(sampler: Any, size: float) -> Any:
    """Return the sampler with another step size.

    Raises:
        NotApplicable: It has none that is a number, or does not take this one.
    """
    for field in dataclasses.fields(sampler):
        value = getattr(sampler, field.name, None)
        if field.name == "step_size" and isinstance(value, int | float):
            try:
                made = dataclasses.replace(sampler, step_size=size)
                check_instance(made, subject=name_of(sampler))
            except (ValueError, EbmcoreError) as error:
                raise NotApplicable(f"it does not take step_size = {size}: {error}") from None
            return made
        if hasattr(value, "step") and hasattr(value, "init") and step_size_of(value) is not None:
            return dataclasses.replace(sampler, **{field.name: with_step_size(value, size)})
    raise NotApplicable("it has no `step_size` that is a number, to be halved")


def accepts(sampler: Any) -> bool:
    """Say whether a step reports `acceptance_rate`."""
    info = walk(sampler, bind(target_of(sampler)), range(whole_ensembles(sampler, 3)), steps=1).infos[0]
    return info is not None and hasattr(info, "acceptance_rate")
