"""The law that a sampler's chains converge to, held against exact moments, quadrature and enumeration.

Chains begin at exact draws, so that no warmup is needed: what is exact stays, and what is wrong
drifts away from the first step on. A statistic fails at `SIGMAS` standard errors of independent
chains. A sampler whose law is exact in the limit of small steps is run with `step_size` LONG and
LONG / 2 for the same time, and 2 m(LONG / 2) - m(LONG) must be the target's: what remains is of the
second order (Talay and Tubaro, "Expansion of the global error for numerical schemes solving
stochastic differential equations", Stochastic Analysis and Applications 8, 1990).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor

from ebmcore.noise import TUNE, CounterNoise
from ebmcore.protocols import HasSamplerSupport
from ebmcore.reference import Reference
from ebmcore.testing.claims import accepts, law_of, step_size_of, with_step_size
from ebmcore.testing.conformance import NotApplicable, name_of, require
from ebmcore.testing.making import energy
from ebmcore.testing.targets import Gaussian, Potts, Spins, Well, probabilities
from ebmcore.testing.walking import ensemble_of, support_of, walk, whole_ensembles

CHAINS: Final = 32_768
SIGMAS: Final = 5.5
"""A right sampler fails a statistic by chance once in 25 million times; a check looks at about ten."""
LONG: Final = 0.2
STEPS: Final = 24
TEMPERATURE: Final = 1.5
RATE: Final = 0.85
"""Where a method with rejections is looked at: nearly no rejection would hide a wrong rule for them."""


def check_gaussian_moments(sampler: Any, seed: int) -> None:
    """On a Gaussian at temperature 1.5 mean and variance are the target's."""
    target = Gaussian((4,))

    def moments(x: Tensor) -> dict[str, Tensor]:
        z = (x - target.mean(x)) * (target.stiffness(x) / TEMPERATURE).sqrt()
        found = {f"mean of coordinate {i}, in standard deviations": z[:, i] for i in range(4)}
        found |= {f"variance of coordinate {i}, over the target's": z[:, i].square() for i in range(4)}
        return {**found, "mean of 2 U/T a coordinate": z.square().mean(1), "product of two": z[:, 0] * z[:, 3]}

    expected = {name: float("variance" in name or "2 U/T" in name) for name in moments(torch.zeros(1, 4))}
    n = _chains(sampler)
    start = target.exact(torch.empty(n, 4), _draws(seed, n), TEMPERATURE)
    _hold(sampler, target, start, moments, expected, seed, TEMPERATURE)


def check_double_well_moments(sampler: Any, seed: int) -> None:
    """On a double well the moments are those of quadrature."""
    target = Well()
    exact = target.moments()
    powers: Mapping[str, Callable[[Tensor], Tensor]] = {
        "E |x|": torch.abs,
        "E x^2": torch.square,
        "E x^4": lambda x: x.square().square(),
    }

    def moments(x: Tensor) -> dict[str, Tensor]:
        return {f"{name} over that of quadrature": f(x).mean(1) / exact[name] for name, f in powers.items()}

    expected = dict.fromkeys(moments(torch.zeros(1, 2)), 1.0)
    n = _chains(sampler)
    _hold(sampler, target, target.exact(torch.empty(n, 2), _draws(seed, n)), moments, expected, seed, 1.0)


def check_detailed_balance(sampler: Any, seed: int) -> None:
    """A sampler that claims to be reversible is: a step from exact draws looks the same backwards."""
    if law_of(sampler) != "reversible":
        raise NotApplicable('it does not say law = "reversible"')
    target = Well()
    for each in _exact_settings(sampler, target, seed):
        n = _chains(sampler)
        start = target.exact(torch.empty(n, 2), _draws(seed, n))
        end = walk(each, energy(target, (2,)), range(n), steps=1, seed=seed, position=start).last
        pairs = {
            "x^2 and x^4": start**2 * end**4 - start**4 * end**2,
            "|x| and x^2": start.abs() * end**2 - start**2 * end.abs(),
            "x and x^3": start * end**3 - start**3 * end,
        }
        for name, values in pairs.items():
            score = _score(values.double().mean(1), 0.0)
            require(
                abs(score) < SIGMAS,
                f"a step of {_called(each)} must be in detailed balance on the double well",
                f"forward and backward averages of {name} that differ by {score:.1f} standard errors",
                "Look at the acceptance ratio, q(x | x') / q(x' | x) and all; or drop law = \"reversible\"",
            )


def check_forgets_its_start(sampler: Any, seed: int) -> None:
    """Chains that begin far out, all at one point, move towards the target."""
    if law_of(sampler) == "other":
        raise NotApplicable('it says law = "other": where it goes is its own affair')
    support = support_of(sampler)
    if support != "real":
        _forgets_discrete(sampler, seed, Spins() if support == "binary" else Potts())
        return
    target, shape = Gaussian((4,)), (4,)
    n = whole_ensembles(sampler, 4096)
    like = torch.empty((n, *shape))
    away = target.mean(like) + 3.0 / target.stiffness(like).sqrt() + 0.01 * _draws(seed, n).normal(like)
    last = walk(sampler, energy(target, shape), range(n), steps=2 * STEPS, seed=seed, position=away).last
    distance = [((x - target.mean(x)) * target.stiffness(x).sqrt()).mean(1).double() for x in (away, last)]
    require(
        bool(last.isfinite().all()) and _score(distance[1] - distance[0], 0.0) < -SIGMAS,
        f"{_called(sampler)} must move chains towards the target from 3 standard deviations out",
        f"a mean distance of {distance[1].mean():.3f} after {2 * STEPS} steps, from {distance[0].mean():.3f}",
        "Check the gradient's sign, and that proposals are accepted",
    )


def _forgets_discrete(sampler: Any, seed: int, target: Spins | Potts) -> None:
    n = whole_ensembles(sampler, 4096)
    states = target.states(torch.empty(0))
    away = states[:1].expand(n, *target.shape).contiguous()
    last = walk(sampler, energy(target, target.shape), range(n), steps=2 * STEPS, seed=seed, position=away).last
    left = float((last != away).reshape(n, -1).any(1).double().mean())
    exact = 1.0 - float(probabilities(target, states)[0])
    require(
        left > 0.25 * exact,
        f"{_called(sampler)} must leave the state where all chains began",
        f"a fraction of {left:.3f} elsewhere after {2 * STEPS} steps, of {exact:.3f} under the target",
        "Check that proposals are made and accepted",
    )


def check_binary_frequencies(sampler: Any, seed: int) -> None:
    """On binary sites the frequency of each state is that of enumeration."""
    _frequencies(sampler, seed, Spins(), "binary")


def check_categorical_frequencies(sampler: Any, seed: int) -> None:
    """On categorical sites the frequency of each state is that of enumeration."""
    _frequencies(sampler, seed, Potts(), "categorical")


def _frequencies(sampler: Any, seed: int, target: Spins | Potts, support: str) -> None:
    if support not in (sampler.support if isinstance(sampler, HasSamplerSupport) else ()):
        raise NotApplicable(f"its support is not {support}")
    _refuse_other(sampler)
    n = _chains(sampler)
    states = target.states(torch.empty(0)).reshape(-1, math.prod(target.shape))
    start = target.exact(torch.empty((n, *target.shape)), _draws(seed, n))
    last = walk(sampler, energy(target, target.shape), range(n), steps=STEPS, seed=seed, position=start).last
    hits = (last.reshape(n, 1, -1) == states).all(2)
    require(
        bool(hits.any(1).all()),
        f"positions of {name_of(sampler)} must stay {support} states",
        f"{last[~hits.any(1)][0].tolist()}" if not bool(hits.any(1).all()) else "",
        "Give 0.0 and 1.0" if support == "binary" else "Give one-hot rows of 0.0 and 1.0",
    )
    for state, found, exact in zip(
        states, hits.double().mean(0), probabilities(target, states.reshape(-1, *target.shape)), strict=True
    ):
        score = float((found - exact) / (exact * (1 - exact) / n).sqrt())
        require(
            abs(score) < SIGMAS,
            f"{_called(sampler)} must visit each state with its probability under exp(-U)",
            f"{state.tolist()} with {found:.4f} in place of {exact:.4f}, {score:+.1f} standard errors",
            "Check the rule of acceptance, or the conditional probabilities",
        )


def _hold(
    sampler: Any,
    target: Any,
    start: Tensor,
    moments: Callable[[Tensor], dict[str, Tensor]],
    expected: Mapping[str, float],
    seed: int,
    temperature: float,
) -> None:
    """Hold the law after some steps from exact draws against the target's moments."""
    if support_of(sampler) != "real":
        raise NotApplicable("it does not sample the reals")
    _refuse_other(sampler)
    bound = energy(target, target.shape, temperature=temperature)

    def after(each: Any, steps: int, seed: int) -> dict[str, Tensor]:
        last = walk(each, bound, range(len(start)), steps=steps, seed=seed, position=start).last
        lost = int((~last.isfinite()).reshape(len(last), -1).any(1).sum())
        require(
            not lost,
            f"{_called(each)} must stay finite from exact draws of {type(target).__name__} on",
            f"{lost} of {len(last)} chains that are not, after {steps} steps",
            "Check the gradient's sign",
        )
        return {name: value.double() for name, value in moments(last).items()}

    if law_of(sampler) != "limit":
        for each in _exact_settings(sampler, target, seed):
            for name, values in after(each, STEPS, seed).items():
                score = _score(values, expected[name])
                require(
                    abs(score) < SIGMAS,
                    f"{_called(each)} must keep exp(-U/T) as it is",
                    f"{name} = {values.mean():.4f} in place of {expected[name]:g}, {score:+.1f} standard errors, "
                    f"after {STEPS} steps from exact draws of {type(target).__name__}",
                    _MEND,
                )
        return
    one, two = with_step_size(sampler, LONG), with_step_size(sampler, LONG / 2)
    coarse, fine = after(one, STEPS, seed), after(two, 2 * STEPS, seed + 1)
    for name in coarse:
        a, b = coarse[name], fine[name]
        limit = float(2 * b.mean() - a.mean())
        error = math.sqrt(float(4 * b.var() + a.var()) / len(start))
        require(
            abs(limit - expected[name]) < SIGMAS * error + LONG**2 / 2,
            f"the law of {name_of(sampler)} must tend to exp(-U/T) as step_size goes to 0",
            f"{name} = {a.mean():.4f} with step_size {LONG}, {b.mean():.4f} with {LONG / 2}, so {limit:.4f} at 0 in "
            f"place of {expected[name]:g} ({type(target).__name__}, error {error:.4f})",
            "Check the factors of gradient and noise: sqrt(2 * step_size) on the noise for step_size on the gradient "
            'of U/T; a sampler of another law says law = "other"',
        )


_MEND = (
    "Check the acceptance ratio and its sign, and the gradient's factor; a sampler without rejections names its step "
    '`step_size` or says law = "limit", one of another law says law = "other"'
)


def _refuse_other(sampler: Any) -> None:
    if law_of(sampler) == "other":
        raise NotApplicable('it says law = "other": it does not claim exp(-U/T)')


def _exact_settings(sampler: Any, target: Any, seed: int) -> Iterator[Any]:
    """Yield a sampler whose law is exact as it is, and with steps so long that proposals are rejected."""
    yield sampler
    size = step_size_of(sampler)
    if size is None or not accepts(sampler):
        return
    n = whole_ensembles(sampler, 1024)
    bound = energy(target, target.shape)
    start = target.exact(torch.empty((n, *target.shape)), _draws(seed, n))
    longer = sampler
    while size < 4.0:
        size *= 1.5
        try:
            longer = with_step_size(sampler, size)
        except NotApplicable:
            break
        info = walk(longer, bound, range(n), steps=1, seed=seed, position=start).infos[0]
        if float(info.acceptance_rate.double().mean()) < RATE:  # type: ignore[union-attr]
            break
    if longer is not sampler:
        yield longer


def _score(values: Tensor, exact: float) -> float:
    """Return how many standard errors a mean of independent chains is off."""
    error = float(values.std()) / math.sqrt(len(values))
    return (float(values.mean()) - exact) / error if error > 0 else (0.0 if float(values.mean()) == exact else math.inf)


def _chains(sampler: Any) -> int:
    """Return how many chains a law is looked at with: whole ensembles."""
    return CHAINS // ensemble_of(sampler) * ensemble_of(sampler)


def _draws(seed: int, n: int) -> CounterNoise:
    """Return noise for exact draws, in a stream that no sampler sees here."""
    return CounterNoise(
        Reference(), seed, range(n), dtype=torch.float32, device=torch.device("cpu"), stream=TUNE, t=0, step=0, steps=1
    )


def _called(sampler: Any) -> str:
    size = step_size_of(sampler)
    return name_of(sampler) if size is None else f"{name_of(sampler)} with step_size {size:g}"


CHECKS = (
    check_gaussian_moments,
    check_double_well_moments,
    check_detailed_balance,
    check_forgets_its_start,
    check_binary_frequencies,
    check_categorical_frequencies,
)
