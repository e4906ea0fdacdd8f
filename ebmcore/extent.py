"""How many chains of which shape a run has: what the energy, the start and the caller say must be one."""

from __future__ import annotations

from ebmcore.energy_checks import check_keyword
from ebmcore.errors import InputError, about
from ebmcore.parts import Parts
from ebmcore.protocols import HasEnsembleSize, HasShape
from ebmcore.request import Request, whole


def shape_of(request: Request, parts: Parts) -> tuple[int, ...]:
    """Return the shape of one position.

    Raises:
        InputError: Nobody says it, or two say different ones.
    """
    asked = None
    if request.shape is not None:
        extents = [request.shape] if isinstance(request.shape, int | float) else list(request.shape)
        asked = tuple(whole("shape", extent, 1) for extent in extents)
    known = tuple(parts.model.shape) if isinstance(parts.model, HasShape) else None
    begun = None if parts.start.points is None else tuple(parts.start.points.shape[1:])
    shape = next((each for each in (asked, known, begun) if each is not None), None)
    if shape is None:
        raise InputError(
            "`shape` must be known; got none from the energy, `init` or you. Give one position's, such as (2,)."
        )
    if asked is None and begun not in (None, shape):
        raise InputError(
            f"`init` must hold positions of the energy's shape, {list(shape)}; got {list(begun or ())}. "
            "Begin with 'auto', or with positions of that shape."
        )
    for source, other in (("the energy", known), ("`init`", begun)):
        if other is not None and other != shape:
            raise InputError(f"`shape` must be that of {source}, {list(other)}; got {list(shape)}. Leave `shape` out.")
    return shape


def chains_of(request: Request, parts: Parts) -> int:
    """Return the number of chains.

    Raises:
        InputError: Nobody says it, or the start has another number.
    """
    points, repeat = parts.start.points, parts.start.repeat
    begun = None if points is None or points.ndim == 0 else len(points) * repeat
    if request.chains is None:
        if begun is None:
            raise InputError("`chains` must be set; got nothing. Say how many chains to run, such as chains=10_000.")
        return whole("chains", begun, 1)
    chains = whole("chains", request.chains, 1)
    if begun is not None and begun != chains:
        raise InputError(
            f"`init` must have one row a chain, here {chains}; got {begun}. Leave `chains` out, or fit it."
        )
    if chains % repeat:
        fit = repeat * max(1, round(chains / repeat))
        raise InputError(f"`chains` must be a multiple of `repeat` of `init`, {repeat}; got {chains}. Take {fit}.")
    return chains


def check_conditions(chains: int, parts: Parts) -> None:
    """Refuse a condition that the energy does not take, or that has not one row a chain.

    Raises:
        InputError: One is such.
    """
    for name in parts.shared:
        with about("shared", name):
            check_keyword(parts.model, name, "shared")
    for name, value in parts.condition.items():
        with about("condition", name):
            if name in parts.shared:
                raise InputError(f"condition '{name}' must not be shared too; got both. Leave one of them out.")
            if value.ndim == 0 or len(value) != chains:
                raise InputError(
                    f"condition '{name}' must have one row a chain, here {chains}; got shape {list(value.shape)}. "
                    "Give what is the same for all chains as `shared`."
                )
            check_keyword(parts.model, name, "condition")


def ensembles_of(chains: int, parts: Parts) -> list[int]:
    """Return how many chains each sampler steps together, of those that step several.

    Raises:
        InputError: They do not divide the number of chains.
    """
    sizes = [sampler.ensemble_size for sampler in parts.samplers if isinstance(sampler, HasEnsembleSize)]
    for size in sizes:
        if chains % size:
            fit = size * max(1, round(chains / size))
            raise InputError(
                f"`chains` must be a multiple of the sampler's ensemble_size {size}; got {chains}. Take {fit}."
            )
    return sizes
