"""JAX by hand: the whole run as one compiled scan, its own generator (Threefry), gradients by jax.grad."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from tests.benchmarks.peers import Missing, Peer
from tests.benchmarks.problems import Problem, covariance, layers


def scan(problem: Problem) -> Peer:
    """Return the scan."""
    gradient = jax.grad(lambda x: energy(problem)(x).sum())
    eps, scale = problem.step_size, (2 * problem.step_size) ** 0.5

    def step(x: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        return x - eps * gradient(x) + scale * jax.random.normal(key, x.shape), None

    @jax.jit
    def run(key: jax.Array, start: jax.Array) -> jax.Array:
        return jax.lax.scan(step, start, jax.random.split(key, problem.steps))[0]

    def sample(n: int) -> np.ndarray:
        first, rest = jax.random.split(jax.random.key(0))
        return np.asarray(run(rest, jax.random.normal(first, (n, *problem.shape))))

    return Peer(sample)


def energy(problem: Problem) -> Callable[[jax.Array], jax.Array]:
    """Return U: [..., d] -> [...].

    Raises:
        Missing: The energy is not written in JAX here.
    """
    if problem.energy == "double_well":
        return lambda x: 2 * ((x**2 - 1) ** 2).sum(-1)
    if problem.energy == "gaussian":
        precision = jnp.asarray(np.linalg.inv(covariance(problem)), jnp.float32)
        return lambda x: 0.5 * (x * (x @ precision)).sum(-1)
    if problem.energy == "mlp":
        return _mlp(problem)
    raise Missing(f"{problem.energy} is not written in JAX here")


def _mlp(problem: Problem) -> Callable[[jax.Array], jax.Array]:
    *hidden, (last, constant) = [(jnp.asarray(weight).T, jnp.asarray(bias)) for weight, bias in layers(problem)]

    def u(x: jax.Array) -> jax.Array:
        h = x
        for weight, bias in hidden:
            h = jax.nn.selu(h @ weight + bias)
        return (h @ last + constant)[..., 0] + 0.5 * (x * x).sum(-1)

    return u
