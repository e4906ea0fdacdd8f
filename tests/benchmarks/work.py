"""The pieces of work that are done side by side: for each its problem and who does it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.benchmarks.problems import Problem

OURS, OURS_SAMPLE = "ebmcore", "ebmcore, ebm.sample"
TORCHEBM, BLACKJAX, JAX = "TorchEBM", "BlackJAX", "JAX by hand"
CLOSED, AUTOGRAD, LIMIT = "torch loop, gradient by hand", "torch loop, autograd", "limit (C)"

PEERS = {
    TORCHEBM: "torchebm:langevin",
    BLACKJAX: "blackjax:sgld",
    JAX: "jax_loop:scan",
    CLOSED: "torch_loop:closed_form",
    AUTOGRAD: "torch_loop:autograd",
    LIMIT: "limit:c",
}


@dataclass(frozen=True)
class Work:
    """One piece of work.

    Attributes:
        name: What `--only` and the targets call it.
        title: What the tables call it.
        problem: What is computed.
        contenders: Name to `module:function` of tests.benchmarks.peers; others are divided by the first.
        rounds: Most rounds.
    """

    name: str
    title: str
    problem: Problem
    contenders: dict[str, str]
    rounds: int = 7


def all_work() -> list[Work]:
    """Return every piece of work."""
    return [*_in_memory(), *_sessions(), *_on_disk()]


def scaled(problem: Problem, scale: float) -> Problem:
    """Return a problem with `scale` times its chains, but not fewer than 64, and batches no larger."""
    chains = max(min(problem.chains, 64), round(problem.chains * scale))
    return replace(problem, chains=chains, batch=min(problem.batch, chains))


def _in_memory() -> list[Work]:
    well = Problem("double_well", 50_000, (2,), 1000, 0.01)
    small = Problem("mlp", 10_000, (2,), 1000, 0.01, hidden=(32, 32))
    wide = replace(small, hidden=(64, 64))
    normal = Problem("gaussian", 10_000, (100,), 200, 0.1)
    return [
        Work("double_well", "double well, 50,000 x 2, 1000 steps", well, _ours("sample") | PEERS),
        Work("mlp32", "a user's MLP 2-32-32-1, 10,000 x 2, 1000 steps", small, _ours("own") | PEERS, 5),
        Work("mlp64", "a user's MLP 2-64-64-1, 10,000 x 2, 1000 steps", wide, _ours("own") | PEERS, 3),
        Work("gaussian", "correlated Gaussian, 10,000 x 100, 200 steps", normal, _ours("sample") | _without(LIMIT), 3),
    ]


def _sessions() -> list[Work]:
    image = Problem("conv", 128, (1, 28, 28), 60, 0.01, mode="calls")
    few = Problem("mlp", 64, (2,), 20, 0.01, hidden=(32, 32), mode="calls", calls=100)
    torch_alone = _without(LIMIT, JAX, BLACKJAX, CLOSED)
    by_sample = {OURS_SAMPLE: "ebmcore:own"}
    return [
        Work(
            "images", "a conv net in training, 128 images x 60 steps", image, _ours("session") | by_sample | torch_alone
        ),
        Work("small", "an MLP in training, 64 x 2, 20 steps, 100 calls", few, _ours("session") | torch_alone),
    ]


def _on_disk() -> list[Work]:
    # Half the guide's step, which costs the same: at 0.01 a start beyond 5.1 diverges, and of some millions a few are.
    well = Problem("double_well", 1_000_000, (2,), 1000, 0.005, mode="disk")
    wide = replace(well, energy="mlp", step_size=0.01, hidden=(64, 64), measured=1)
    return [
        Work(
            "million", "double well, 1,000,000 x 2, 1000 steps, to disk", well, _ours("sample") | _without(BLACKJAX), 3
        ),
        Work(
            "million_mlp64",
            "the guide's MLP 2-64-64-1, 1,000,000 x 2, 1000 steps, to disk",
            wide,
            _ours("own") | _without(BLACKJAX, CLOSED, LIMIT),
            1,
        ),
    ]


def _ours(maker: str) -> dict[str, str]:
    return {OURS: f"ebmcore:{maker}"}


def _without(*names: str) -> dict[str, str]:
    return {name: who for name, who in PEERS.items() if name not in names}
