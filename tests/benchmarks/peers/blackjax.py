"""BlackJAX: its SGLD kernel with the full gradient, which is ULA; vmap over chains, scan over steps, jit."""

from __future__ import annotations

import blackjax
import jax
import numpy as np

from tests.benchmarks.peers import Peer
from tests.benchmarks.peers.jax_loop import energy
from tests.benchmarks.problems import Problem


def sgld(problem: Problem) -> Peer:
    """Return the kernel in a compiled scan."""
    gradient = jax.grad(lambda x: -energy(problem)(x))
    kernel = blackjax.sgld(lambda position, minibatch: gradient(position))

    def step(x: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        keys = jax.random.split(key, len(x))
        return jax.vmap(lambda k, position: kernel.step(k, position, (), problem.step_size))(keys, x), None

    @jax.jit
    def run(key: jax.Array, start: jax.Array) -> jax.Array:
        return jax.lax.scan(step, start, jax.random.split(key, problem.steps))[0]

    def sample(n: int) -> np.ndarray:
        first, rest = jax.random.split(jax.random.key(0))
        return np.asarray(run(rest, jax.random.normal(first, (n, *problem.shape))))

    return Peer(sample)
