"""What every energy must do: shapes, dtypes, a gradient that is its own, chains that do not see each other."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ebmcore.energy import BoundEnergy, has_value, place
from ebmcore.energy_checks import check_mode, check_model
from ebmcore.errors import EbmcoreError
from ebmcore.initial import Start
from ebmcore.protocols import HasGradient, HasShape, HasSlope, HasSupport, HasValueAndGradient, Support
from ebmcore.testing.conformance import ConformanceError, NotApplicable, name_of, require
from ebmcore.testing.making import noise

GUESSES = ((3,), (2,), (1, 8, 8), (1, 28, 28), ())
"""Shapes that an energy without a `shape` is tried with."""

POINTS = 7
DIFFERENCE = 1e-5
"""Step of a central difference in float64: it errs by this squared times the third derivative."""

Condition = Mapping[str, Tensor] | None


class _Case:
    """A model placed for a dtype, with positions to call it at."""

    def __init__(
        self,
        model: Any,
        seed: int,
        shape: tuple[int, ...] | None,
        condition: Condition,
        dtype: torch.dtype,
        n: int = POINTS,
    ) -> None:
        self.shape = _shape_of(model, shape, condition)
        self.model = place(model, torch.device("cpu"), dtype, own=isinstance(model, nn.Module))
        self.condition = {name: _rows(value, n, dtype) for name, value in (condition or {}).items()}
        support: Support = model.support if isinstance(model, HasSupport) else "real"
        like = torch.empty((n, *self.shape), dtype=dtype)
        self.x = Start("auto").positions(0, n, 0, like, support, noise(seed, n, dtype=dtype, init=True))
        self.bound = BoundEnergy(self.model, shape=self.shape, dtype=dtype, condition=self.condition)


def check_callable(model: Any, seed: int, shape: tuple[int, ...] | None = None, condition: Condition = None) -> None:
    """It is callable, or has a gradient; batch norm is in evaluation mode; `shape` is a tuple of whole numbers."""
    check_model(model)
    check_mode(model)
    if isinstance(model, HasShape):
        require(
            isinstance(model.shape, tuple) and all(isinstance(size, int) and size > 0 for size in model.shape),
            f"`shape` of {name_of(model)} must be a tuple of whole numbers > 0, () for a scalar",
            repr(model.shape),
            "Write such as shape = (2,)",
        )
    _Case(model, seed, shape, condition, torch.float32)


def check_shapes(model: Any, seed: int, shape: tuple[int, ...] | None = None, condition: Condition = None) -> None:
    """For any number of chains U is [n], and its gradient has the shape of x."""
    for n in (1, 2, POINTS):
        case = _Case(model, seed, shape, condition, torch.float32, n)
        _evaluated(case)


def check_dtypes(model: Any, seed: int, shape: tuple[int, ...] | None = None, condition: Condition = None) -> None:
    """What it returns has the dtype and device of x, float32 or float64."""
    for dtype in (torch.float32, torch.float64):
        case = _Case(model, seed, shape, condition, dtype)
        for name, value in _raw(case, case.x).items():
            require(
                value.dtype is dtype and value.device == case.x.device,
                f"{name} of {name_of(model)} must have the dtype and device of x, {dtype} on {case.x.device}",
                f"{value.dtype} on {value.device}",
                "Make tensors with dtype=x.dtype, device=x.device; register those of an nn.Module as buffers",
            )


def check_gradient(model: Any, seed: int, shape: tuple[int, ...] | None = None, condition: Condition = None) -> None:
    """The gradient is that of the value: central differences in float64 agree, at every coordinate."""
    if not has_value(model):
        raise NotApplicable("it has a gradient alone")
    case = _Case(model, seed, shape, condition, torch.float64, 3)
    flat = case.x.reshape(3, -1)
    gradient = case.bound.gradient(case.x).reshape(3, -1)
    for i in range(flat.shape[1])[:: max(1, flat.shape[1] // 64)]:
        ends = []
        for sign in (1.0, -1.0):
            moved = flat.clone()
            moved[:, i] += sign * DIFFERENCE
            ends.append(case.bound.value(moved.reshape(case.x.shape)))
        found = (ends[0] - ends[1]) / (2 * DIFFERENCE)
        # A value that is rounded to float32 errs by 1e-7 / DIFFERENCE here, a kink by its jump.
        error = (found - gradient[:, i]).abs() / (1.0 + found.abs() + ends[0].abs())
        require(
            bool((error < 1e-4).all()),
            f"the gradient of {name_of(model)} must be that of its value",
            f"{gradient[int(error.argmax()), i]:.6g} where central differences in float64 give "
            f"{found[int(error.argmax())]:.6g}, in coordinate {i}",
            "Compute both from the same terms and conditions, in the dtype of x; without .detach() between x and U",
        )


def check_slope(model: Any, seed: int, shape: tuple[int, ...] | None = None, condition: Condition = None) -> None:
    """`slope` holds the coefficients of the gradient, the same polynomial in every coordinate."""
    if not isinstance(model, HasSlope):
        raise NotApplicable("it has no `slope`")
    case = _Case(model, seed, shape, condition, torch.float64)
    wanted, found = case.bound.gradient(case.x), torch.zeros_like(case.x)
    for coefficient in reversed(model.slope):
        found = found * case.x + coefficient
    off = float(((found - wanted).abs() / (1.0 + wanted.abs())).max())
    require(
        off <= 1e-8,
        f"`slope` of {name_of(model)} must be the coefficients of its gradient",
        f"a polynomial that is {off:.3g} off",
        "Write dU/dx_i as a polynomial in x_i, the lowest power first",
    )


def check_value_and_gradient(
    model: Any, seed: int, shape: tuple[int, ...] | None = None, condition: Condition = None
) -> None:
    """`value_and_gradient` gives what the call and `gradient` give."""
    if not isinstance(model, HasValueAndGradient):
        raise NotApplicable("it has no `value_and_gradient`")
    case = _Case(model, seed, shape, condition, torch.float64)
    found = _raw(case, case.x)
    for name in ("value", "gradient"):
        if name in found:
            a, b = found[name], found[f"{name} by value_and_gradient"]
            require(
                torch.allclose(a, b, rtol=1e-9, atol=1e-9),
                f"`value_and_gradient` of {name_of(model)} must give its {name}",
                f"a difference of {(a - b).abs().max():.3g}",
                "Compute both from one function",
            )


def check_chains_are_independent(
    model: Any, seed: int, shape: tuple[int, ...] | None = None, condition: Condition = None
) -> None:
    """A chain's value and gradient do not depend on the chains beside it, and conditions follow their chains."""
    case = _Case(model, seed, shape, condition, torch.float64)
    whole = _evaluated(case)
    for rows in (torch.tensor([3]), torch.tensor([5, 0]), torch.arange(POINTS).flip(0)):
        bound = case.bound.select(rows)
        part = [bound.value(case.x[rows])] if has_value(case.model) else []
        part.append(bound.gradient(case.x[rows]))
        for a, b in zip(whole, part, strict=True):
            require(
                torch.allclose(a[rows], b, rtol=1e-6, atol=1e-9, equal_nan=True),
                f"{name_of(model)} must give a chain the same energy in any batch",
                f"a difference of {(a[rows] - b).abs().max():.3g} with {len(rows)} of {POINTS} chains",
                "Reduce over the axes of one position only, never over axis 0",
            )


def check_conditions_count(
    model: Any, seed: int, shape: tuple[int, ...] | None = None, condition: Condition = None
) -> None:
    """A condition changes the energy or its gradient."""
    if not condition:
        raise NotApplicable("no condition was given; model_checks(model, condition=...) takes one")
    case = _Case(model, seed, shape, condition, torch.float64)
    before = _evaluated(case)
    for name, value in case.condition.items():
        other = value + 1 if value.is_floating_point() else value.roll(1, 0)
        keywords = {**case.condition, name: other}
        changed = BoundEnergy(case.model, shape=case.shape, dtype=torch.float64, condition=keywords)
        after = [changed.value(case.x)] if has_value(case.model) else []
        after.append(changed.gradient(case.x))
        require(
            any(not torch.equal(a, b) for a, b in zip(before, after, strict=True)),
            f"{name_of(model)} must use its condition '{name}'",
            "the same energy and gradient with other values",
            "Use the keyword argument, in `gradient` and `value_and_gradient` too",
        )


def check_input_is_left_alone(
    model: Any, seed: int, shape: tuple[int, ...] | None = None, condition: Condition = None
) -> None:
    """A call leaves x, the conditions, weights, buffers and modes as they were, and its value is no part of x."""
    case = _Case(model, seed, shape, condition, torch.float32)
    x, before = case.x.clone(), _weights(case.model)
    for name, value in _raw(case, case.x).items():
        require(
            torch.equal(case.x, x),
            f"{name_of(model)} must leave x as it is",
            f"another x after {name} was computed",
            "Write x = x * 2 in place of x *= 2, and so on",
        )
        require(
            name != "value" or value.untyped_storage().data_ptr() != case.x.untyped_storage().data_ptr(),
            f"the value of {name_of(model)} must be a tensor of its own",
            "a view of x",
            "Add .clone()",
        )
    require(
        _weights(case.model) == before,
        f"{name_of(model)} must leave its weights, buffers and modes as they are when it is called",
        "a change of them",
        "Update running statistics in training code only",
    )


def check_repeats(model: Any, seed: int, shape: tuple[int, ...] | None = None, condition: Condition = None) -> None:
    """The same x gives the same bits again, in a copy too, without global random numbers."""
    case = _Case(model, seed, shape, condition, torch.float32)
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002  # it is what is looked at
    try:
        first = _raw(case, case.x)
        torch.manual_seed(seed + 1)
        np.random.seed(seed + 1)  # noqa: NPY002
        random.seed(seed + 1)
        again = _raw(case, case.x)
        duplicate = copy.deepcopy(case.model)
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        random.setstate(kept[2])
    case.model = duplicate
    case.bound = BoundEnergy(duplicate, shape=case.shape, condition=case.condition)
    for how, other in (("called again", again), ("copied", _raw(case, case.x))):
        changed = [name for name, value in first.items() if not torch.equal(value, other[name])]
        require(
            not changed,
            f"{name_of(model)} must be a fixed function of x",
            f"another {changed[0]} at the same x when it is {how}" if changed else "",
            "Draw nothing in it, count nothing in it, and call .eval() on dropout",
        )


def _evaluated(case: _Case) -> list[Tensor]:
    try:
        return [*([case.bound.value(case.x)] if has_value(case.model) else []), case.bound.gradient(case.x)]
    except EbmcoreError as error:
        raise ConformanceError(str(error)) from error


def _raw(case: _Case, x: Tensor) -> dict[str, Tensor]:
    """Return what the model itself gives, by name."""
    found: dict[str, Tensor] = {}
    model: Any = case.model
    with torch.no_grad():
        if has_value(model):
            found["value"] = model(x, **case.condition)
        if isinstance(model, HasGradient):
            found["gradient"] = model.gradient(x, **case.condition)
        if isinstance(model, HasValueAndGradient):
            value, gradient = model.value_and_gradient(x, **case.condition)
            found |= {"value by value_and_gradient": value, "gradient by value_and_gradient": gradient}
    if "gradient" not in found and "value" in found:
        case.bound.gradient(x)
    for name, value in found.items():
        require(
            isinstance(value, Tensor),
            f"{name} of {name_of(model)} must be a tensor",
            type(value).__name__,
            "Return one",
        )
    return found


def _shape_of(model: Any, shape: tuple[int, ...] | None, condition: Condition) -> tuple[int, ...]:
    if shape is not None:
        return tuple(shape)
    if isinstance(model, HasShape):
        return tuple(model.shape)
    for guess in GUESSES:
        x = torch.zeros((POINTS, *guess)) + 0.5
        keywords = {name: _rows(value, POINTS, torch.float32) for name, value in (condition or {}).items()}
        try:
            with torch.no_grad():
                found = model(x, **keywords) if has_value(model) else model.gradient(x, **keywords)
        except Exception:  # a shape that is not its own
            continue
        if isinstance(found, Tensor) and len(found) == POINTS:
            return guess
    raise ConformanceError(
        f"{name_of(model)} must say its `shape`, or accept one of {', '.join(map(str, GUESSES))}; got neither. "
        "Give it an attribute `shape`, or pass model_checks(model, shape=...)."
    )


def _rows(value: Tensor, n: int, dtype: torch.dtype) -> Tensor:
    rows = value[torch.arange(n) % len(value)]
    return rows.to(dtype) if rows.is_floating_point() else rows


def _weights(model: Any) -> Any:
    if not isinstance(model, nn.Module):
        return None
    held = {name: value.tolist() for name, value in model.state_dict().items()}
    return held, [module.training for module in model.modules()], [p.requires_grad for p in model.parameters()]


CHECKS = (
    check_callable,
    check_shapes,
    check_dtypes,
    check_gradient,
    check_slope,
    check_value_and_gradient,
    check_chains_are_independent,
    check_conditions_count,
    check_input_is_left_alone,
    check_repeats,
)
