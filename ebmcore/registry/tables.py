"""What the registry knows before it looks: the kinds of plugins, and where first-party names come from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "sampler": "ebmcore.samplers",
        "model": "ebmcore.models",
        "writer": "ebmcore.writers",
        "reducer": "ebmcore.reducers",
        "executor": "ebmcore.executors",
        "noise": "ebmcore.noise",
        "observer": "ebmcore.observers",
    }
)
"""Kind -> entry-point group, in the order in which kinds are listed."""

FIRST_PARTY: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "sampler": {"ula": "ebmcore-langevin"},
        "model": {"double_well": "ebmcore-models", "gaussian": "ebmcore-models", "mlp": "ebmcore-models"},
        "writer": {"memory": "ebmcore-writers", "npy": "ebmcore-writers"},
    }
)
"""Kind -> name -> the distribution of ours that gives it, to say what to install."""
