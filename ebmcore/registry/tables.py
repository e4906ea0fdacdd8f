"""What the registry knows before it looks: the kinds of plugins, and where first-party names come from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "sampler": "ebmcore.samplers",
        "model": "ebmcore.models",
        "schedule": "ebmcore.schedules",
        "writer": "ebmcore.writers",
        "reducer": "ebmcore.reducers",
        "executor": "ebmcore.executors",
        "noise": "ebmcore.noise",
        "gradient": "ebmcore.gradients",
        "observer": "ebmcore.observers",
    }
)
"""Kind -> entry-point group, in the order in which kinds are listed."""

FIRST_PARTY: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "sampler": {
            "mala": "ebmcore-langevin",
            "projected": "ebmcore-wrappers",
            "ula": "ebmcore-langevin",
            **dict.fromkeys(("torchebm_gradient_descent", "torchebm_hmc", "torchebm_langevin"), "ebmcore-torchebm"),
        },
        "model": {"torchebm": "ebmcore-torchebm"}
        | dict.fromkeys(
            (
                "ackley",
                "conv",
                "double_well",
                "gaussian",
                "harmonic",
                "mixture",
                "mlp",
                "rastrigin",
                "rosenbrock",
            ),
            "ebmcore-models",
        ),
        "schedule": dict.fromkeys(("constant", "cosine", "exponential", "linear"), "ebmcore-schedules"),
        "writer": {"memory": "ebmcore-writers", "npy": "ebmcore-writers"},
        "reducer": {"moments": "ebmcore-reducers"},
        "noise": {"numba": "ebmcore-kernels", "triton": "ebmcore-kernels"},
        "gradient": {"inductor": "ebmcore-kernels", "mlp": "ebmcore-kernels"},
        "observer": dict.fromkeys(("early_stop", "jsonl", "tensorboard"), "ebmcore-observers"),
    }
)
"""Kind -> name -> the distribution of ours that gives it, to say what to install."""
