"""`ebm.sample`: draws from an energy, in chunks, on any devices, in memory or on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ebmcore.blame import blamed
from ebmcore.executing import execute
from ebmcore.prepare import prepare
from ebmcore.request import Request
from ebmcore.result import Result
from ebmcore.stopping import StopHandler


def sample(
    energy: Any,
    sampler: Any,
    *,
    chains: int | None = None,
    shape: Sequence[int] | int | None = None,
    init: Any = "auto",
    steps: int | None = None,
    draws: int = 1,
    warmup: int = 0,
    temperature: float = 1.0,
    seed: int | None = None,
    devices: str | Sequence[str] = "auto",
    executor: Any = "auto",
    chunk_size: int | str = "auto",
    precision: str = "float32",
    noise: str = "auto",
    gradient: str = "auto",
    on_nonfinite: str = "raise",
    condition: Mapping[str, Tensor | str | Path] | None = None,
    shared: Mapping[str, Tensor | str | Path] | None = None,
    writers: Any = (),
    reducers: Any = (),
    observers: Any = (),
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    accept_changes: bool = False,
    progress: bool | None = None,
    base: str | Path = ".",
) -> Result:
    """Run `chains` Markov chains of `steps` transitions towards exp(-U(x)/T), and keep `draws` of each.

    By default only the last draw of each chain is kept (`draws=1`); `draws=steps` keeps all.
    The same seed gives the same draws, whatever the chunks, workers and devices of one kind.

    Args:
        energy: U: a function or nn.Module [n, *shape] -> [n], an object with `gradient` alone, a model's name, or a
            table such as `ebm.use("double_well")`.
        sampler: A sampler, its name, or a table such as `ebm.use("ula", step_size=0.01)`; or a list of
            `ebm.Stage`, which the same chains go through one after the other, each with its own `steps` and `draws`.
        chains: Number of chains; by default those of an `init` tensor.
        shape: Shape of one position; by default the energy's, else that of an `init` tensor.
        init: A tensor [chains, *shape]; `"normal"`; `"uniform"` on [-1, 1); `"auto"`: normal on the reals, uniform
            states on a discrete support; a function (chain ids, noise) -> positions, or a reference to one
            (`"module:function"`, `"./file.py:function"`); a .npy or .safetensors file; a run directory (its final
            positions); or a table `{"use": one of these, "scale": 2.0, "repeat": K}`, with K chains from each point.
        steps: Transitions a chain, after `warmup`.
        draws: Draws kept a chain, evenly spaced; it divides `steps`.
        warmup: Transitions before the first that counts.
        temperature: T > 0.
        seed: 0 <= seed < 2**63; by default a random one, which the result names.
        devices: `"auto"`, a label (`"cpu"`, `"cuda:0"`), or a list: one worker an entry.
        executor: `"auto"`, a name or a table: how chunks are brought to workers.
        chunk_size: Chains that a worker runs at a time, rounded up to the grid of 64; scheduling only.
        precision: `"float32"` or `"float64"`, of positions and noise; `"bfloat16"` or `"float16"`: the energy alone is
            evaluated in half precision, and all else stays float32.
        noise: Name of the noise backend.
        gradient: `"auto"`: the energy's closed form, else an installed backend that takes the energy, else autograd;
            or `"closed_form"`, `"autograd"`, the name of a backend.
        on_nonfinite: `"raise"` ends the run at a chain that leaves the finite numbers, and names it; `"freeze"` holds
            it at the last state that was looked through (every 128 steps), marks it in `stats["frozen"]`, and goes on.
        condition: Keyword arguments of the energy with one row a chain: tensors, or .npy or .safetensors files.
        shared: Keyword arguments of the energy that are the same for all chains.
        writers: Names or tables; by default `npy` with `out`, else draws stay in memory.
        reducers: Names or tables of statistics to take of all draws.
        observers: Objects with `ebm.hookimpl` methods, names or tables.
        out: Directory of the run, which must not exist yet; by default nothing is written.
        overwrite: Replace an older run in `out`.
        resume: Go on with the run in `out`: only what is missing runs, and it ends with the bytes of an undisturbed
            run; where there is none, begin it. What it is must be the same, but for devices, executor and more chains.
        accept_changes: Go on with what has changed, for the chunks that are missing.
        progress: Show a progress bar; by default on a terminal.
        base: Folder that references such as `"./file.py:Name"` are relative to.

    Returns:
        The result: draws as CPU tensors, read when touched.

    Raises:
        InputError: An argument is wrong; nothing was written.
        EnergyError: The energy breaks its contract.
        SamplerError: The sampler breaks its contract.
        NonFiniteError: A chain left the finite numbers; the message names it.
        RunError: The run could not finish.
        KeyboardInterrupt: Ctrl-C, or SIGTERM; what was committed, and how far the chunks in flight came, stays in
            `out`. A second Ctrl-C does not wait for the steps in flight.
    """
    request = Request(
        energy=energy,
        sampler=sampler,
        chains=chains,
        shape=shape,
        init=init,
        steps=steps,
        draws=draws,
        warmup=warmup,
        temperature=temperature,
        seed=seed,
        devices=devices,
        executor=executor,
        chunk_size=chunk_size,
        precision=precision,
        noise=noise,
        gradient=gradient,
        on_nonfinite=on_nonfinite,
        condition=condition,
        shared=shared,
        writers=writers,
        reducers=reducers,
        observers=observers,
        out=out,
        overwrite=overwrite,
        resume=resume,
        accept_changes=accept_changes,
        base=base,
    )
    return run(request, progress=progress)


def run(request: Request, *, progress: bool | None = None, again: StopHandler | None = None) -> Result:
    """Run what is asked for; see `sample`.

    Args:
        request: What.
        progress: As in `sample`.
        again: What a second Ctrl-C does; by default what it does without a run.
    """
    prepared = prepare(request)
    with blamed(prepared.records):
        return execute(prepared, progress=progress, again=again)
