"""Every protocol and plain-data type of ebmcore: the one file that a plugin author reads.

Words. An *energy* is a function U(x); the target is the density proportional to exp(-U(x)/T).
A *model* is the plugin kind whose objects are energies. A *position* is one tensor
[n, *shape]; axis 0 of every tensor is the *chain*. A *step* is one transition of a sampler,
a *draw* is a step whose position is kept. All ranges are half-open.

Nothing here imports torch when it runs: a plugin's own module does, when it is loaded.

What a plugin must have is a protocol without an adjective (`Sampler`, `Writer`, ...). What it
may have is a protocol of its own (`HasGradient`, `HasKeep`, ...), looked up on the instance:
leave out what you do not need. Nothing has to be inherited; the shapes of the methods count.

A sampler, whole:

    from dataclasses import dataclass, field
    from typing import NamedTuple
    from torch import Tensor
    from ebmcore.protocols import EnergyFunction, Noise

    class State(NamedTuple):
        position: Tensor

    @dataclass(frozen=True)
    class RandomWalk:
        "x <- x - step_size * gradient + noise: settings are fields, bounds are metadata."
        step_size: float = field(metadata={"gt": 0, "description": "length of a step"})

        def init(self, energy: EnergyFunction, position: Tensor, noise: Noise) -> State:
            return State(position)

        def step(self, energy: EnergyFunction, state: State, noise: Noise) -> tuple[State, None]:
            x, g = state.position, energy.gradient(state.position)
            return State(noise.perturb_(x, (2 * self.step_size) ** 0.5, drift=g, drift_scale=-self.step_size)), None

and one line in its distribution's pyproject.toml:

    [project.entry-points."ebmcore.samplers"]
    random_walk = "my_package.random_walk:RandomWalk"
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

S = TypeVar("S", bound=tuple[Any, ...])

Support = Literal["real", "binary", "categorical"]
Fold = Literal["last", "mean", "any", "sum", "max"]

# ---------------------------------------------------------------------------------- energies


@runtime_checkable
class HasGradient(Protocol):
    """A model that knows the gradient of its energy in closed form, or has nothing else (a score model)."""

    def gradient(self, x: Tensor, /, **condition: Tensor) -> Tensor:
        """Return dU/dx at `x` [n, *shape], as [n, *shape]. It may be a view of what the model keeps."""
        ...


EnergyLike = Callable[..., "Tensor"] | HasGradient
"""What a user may pass as an energy: a callable or nn.Module, [n, *shape] -> [n], or an object with a `gradient`."""


Energy = EnergyLike
"""How a plugin annotates a setting that is an energy: a run file gives it a `use` table."""


@runtime_checkable
class HasValueAndGradient(Protocol):
    """A model that gives U and dU/dx in one pass."""

    def value_and_gradient(self, x: Tensor, /, **condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return (U [n], dU/dx [n, *shape]) at `x` [n, *shape]."""
        ...


@runtime_checkable
class HasShape(Protocol):
    """An energy that fixes the shape of one position; `()` is a scalar."""

    @property
    def shape(self) -> tuple[int, ...]: ...


@runtime_checkable
class HasSupport(Protocol):
    """An energy off the reals: `"binary"` (floats 0/1) or `"categorical"` (one-hot floats, classes last)."""

    @property
    def support(self) -> Support: ...


@runtime_checkable
class HasMinibatch(Protocol):
    """An energy over data that is evaluated on a part of it, once a step, the same part for all chains."""

    def minibatch(self, noise: Noise, /) -> Mapping[str, Tensor]:
        """Return keyword arguments for the energy's calls of this step; randomness from `noise.shared` alone."""
        ...


@runtime_checkable
class HasSlope(Protocol):
    """An energy that is a sum over coordinates, alike and independent, of a polynomial u: U(x) = sum_i u(x_i).

    A gradient backend may make machine code of it, which takes the place of the energy's own gradient where the
    two agree at the first positions of a run.
    """

    @property
    def slope(self) -> tuple[float, ...]:
        """The coefficients of u', lowest power first: u'(x) = slope[0] + slope[1] x + slope[2] x^2 + ..."""
        ...


class EnergyFunction(Protocol):
    """What a sampler is handed: U/T with device, dtype, precision and conditions settled.

    What it returns is fresh, detached, and the caller's to overwrite. `over` replaces a
    condition for one call (the sigma of an annealed score model). A sampler may hand an inner
    sampler any object with these methods.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one position, without the chain axis."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of positions, values and gradients: float32 or float64."""
        ...

    @property
    def device(self) -> torch.device: ...

    @property
    def support(self) -> Support: ...

    @property
    def model(self) -> Any:
        """The user's object, for abilities of its own."""
        ...

    def value(self, x: Tensor, /, **over: Tensor) -> Tensor:
        """Return U(x)/T [n] at `x` [n, *shape]."""
        ...

    def gradient(self, x: Tensor, /, **over: Tensor) -> Tensor:
        """Return dU/dx / T [n, *shape] at `x` [n, *shape]."""
        ...

    def value_and_gradient(self, x: Tensor, /, **over: Tensor) -> tuple[Tensor, Tensor]:
        """Return both, for one evaluation's price where the model allows it."""
        ...

    def select(self, index: Tensor, /) -> EnergyFunction:
        """Return the energy of the chains in rows `index` [m] (repeats allowed): their conditions follow them."""
        ...


# ---------------------------------------------------------------------------------- samplers


class Sampler(Protocol[S]):
    """An MCMC method: a frozen dataclass whose fields are its settings.

    `S` is a NamedTuple of tensors, or of such NamedTuples (inner kernels), `position` first,
    every field with n rows. A step may overwrite its own state (the engine hands it a copy of
    what the user passed). Outside `tune` a sampler never loops over steps, makes random
    numbers of its own, or moves devices; its sequence of calls of `noise` must not depend on
    which chains share its batch.
    """

    def init(self, energy: EnergyFunction, position: Tensor, noise: Noise, /) -> S:
        """Return the state of n chains that begin at `position` [n, *shape]."""
        ...

    def step(self, energy: EnergyFunction, state: S, noise: Noise, /) -> tuple[S, tuple[Any, ...] | None]:
        """Advance every chain by one transition; return the state and a NamedTuple of per-chain statistics, or None.

        Statistics are tensors [n] under ArviZ's names (`acceptance_rate`, `diverging`, `lp`,
        `energy` is the Hamiltonian, `potential` is U).
        """
        ...


@runtime_checkable
class HasEnsembleSize(Protocol):
    """A sampler that steps chains together, in groups of `ensemble_size` consecutive chains."""

    @property
    def ensemble_size(self) -> int:
        """The number of chains of a group; the number of chains of a run is a multiple of it."""
        ...


@runtime_checkable
class HasSamplerSupport(Protocol):
    """A sampler that works on other supports than the reals alone."""

    @property
    def support(self) -> frozenset[Support]: ...


@runtime_checkable
class HasNeeds(Protocol):
    """A sampler that says what it calls of its energy: a subset of {"value", "gradient"}. Checked before a run."""

    @property
    def needs(self) -> frozenset[Literal["value", "gradient"]]: ...


@runtime_checkable
class HasKeep(Protocol):
    """A sampler some of whose state fields are stored with every draw, as `state.NAME`."""

    @property
    def keep(self) -> tuple[str, ...]: ...


@runtime_checkable
class HasReduce(Protocol):
    """A sampler that says how a statistic is folded over the steps between two draws.

    By default floats are averaged, bools are any-ed and integers summed; `lp`, `potential`,
    `energy`, `step_size` and `log_weight` keep the last value, `tree_depth` the largest.
    """

    @property
    def reduce(self) -> Mapping[str, Fold]: ...


@runtime_checkable
class HasLaw(Protocol):
    """A sampler that says what law its chains converge to; `ebmcore.testing` holds it to that.

    `"exact"`: exp(-U/T) at any settings; `"reversible"`: exact, and every step in detailed balance;
    `"limit"`: exp(-U/T) as `step_size` goes to 0; `"other"`: another one, on purpose. Where it is left
    out, `"limit"` for a sampler with a `step_size` whose statistics have no `acceptance_rate`, else `"exact"`.
    """

    @property
    def law(self) -> Literal["exact", "reversible", "limit", "other"]: ...


@runtime_checkable
class HasStride(Protocol[S]):
    """A sampler without statistics that can take several steps in one call, where energy and noise allow it."""

    def stride(self, energy: EnergyFunction, noise: Noise, /) -> Callable[[S, int], S] | None:
        """Return (state, count) -> the state after the `count` steps from `noise.t` on, or None: one by one.

        It is asked once for the chains of a chunk, and makes of them what `step` does, apart from rounding, whatever
        the counts; `noise.t` is that of the last step afterwards. See `Noise.stride`. A class that inherits it and
        has a `step` of its own is stepped one by one.
        """
        ...


# ---------------------------------------------------------------------------------- randomness


class Key(NamedTuple):
    """What a batch of random numbers is for: who needs which of them does not matter."""

    seed: tuple[int, int]
    """The run's seed as two 32-bit words, low first."""
    t: int | Tensor
    """Index of the step since the chains began, below 2**32; a tensor on the device for graph capture."""
    call: int
    """Index of the call within the step, below 2**24, plus the stream in the top byte."""


class Noise(Protocol):
    """A sampler's only source of randomness: counter-based, so that a number depends on its chain, step and call alone.

    Each method counts as one call. Every `like` and every result is float32 or float64.
    """

    @property
    def t(self) -> int:
        """Index of the step since the chains began; for randomness only."""
        ...

    @property
    def step(self) -> int:
        """Index of the step in this stage, for schedules: -warmup ... -1, then 0 ... steps - 1."""
        ...

    @property
    def steps(self) -> int:
        """Number of steps of this stage, without its warmup."""
        ...

    def perturb_(
        self,
        x: Tensor,
        scale: float | Tensor,
        /,
        *,
        decay: float | Tensor = 1.0,
        drift: Tensor | None = None,
        drift_scale: float | Tensor = 0.0,
    ) -> Tensor:
        """Overwrite `x` [n, *any] with decay*x + drift_scale*drift + scale*z, z ~ N(0, 1), in one pass; return `x`.

        A factor is a float, a tensor [n] (one a chain), or a tensor of `x`'s rank that broadcasts to it.
        `drift` has `x`'s shape and must not share its memory.
        """
        ...

    def stride(
        self, energy: EnergyFunction, scale: float, /, *, decay: float = 1.0, drift_scale: float = 0.0
    ) -> Callable[[Tensor, int], Tensor] | None:
        """Return (x, count) -> `x` after `count` steps of decay*x + drift_scale*dU/dx/T + scale*z, or None: one by one.

        It overwrites `x` [n, *any] as `count` times `perturb_` with the energy's gradient as drift, each as the first
        call of its step, from `t` on; then `t` is that of the last. It is there where the noise backend has it for
        the run's gradient (`HasStridingNoise`).
        """
        ...

    def normal(self, like: Tensor, /) -> Tensor:
        """Return standard normals of the shape [n, *any], dtype and device of `like`."""
        ...

    def uniform(self, like: Tensor, /) -> Tensor:
        """Return uniforms on [0, 1), multiples of 2**-24, of the shape [n, *any], dtype and device of `like`."""
        ...

    def uniform_per_chain(self) -> Tensor:
        """Return one uniform a chain, [n], in the positions' dtype."""
        ...

    def shared(self, k: int, /) -> Tensor:
        """Return [k] uniforms that are the same for every chain of the run."""
        ...

    def select(self, index: Tensor, /) -> Noise:
        """Return the noise of the chains in rows `index` [m]; a repeated row repeats it. Calls are counted together."""
        ...

    def expand(self, k: int, /) -> Noise:
        """Return noise for k replicas a chain, in rows c*k + j, as `repeat_interleave`. Calls are counted together."""
        ...


class NoiseBackend(Protocol):
    """Plugin kind `noise`: what makes the numbers on some kind of device. Stateless."""

    devices: ClassVar[tuple[str, ...]]
    """Device types it works on, as torch names them: ("cpu",)."""

    def fill_(self, out: Tensor, kind: Literal["normal", "uniform"], key: Key, chains: range | Tensor, /) -> Tensor:
        """Overwrite `out` [n, *any] with the numbers of `key` for the n ids in `chains`; return `out`."""
        ...

    def perturb_(
        self,
        x: Tensor,
        scale: float | Tensor,
        key: Key,
        chains: range | Tensor,
        /,
        *,
        decay: float | Tensor = 1.0,
        drift: Tensor | None = None,
        drift_scale: float | Tensor = 0.0,
    ) -> Tensor:
        """As `Noise.perturb_`, with the key and the chains given."""
        ...


@runtime_checkable
class HasStridingNoise(Protocol):
    """A noise backend that can take several steps in one call with some gradients."""

    def stride(
        self,
        gradient: Callable[[Tensor], tuple[Tensor, Tensor]],
        chains: range | Tensor,
        scale: float,
        /,
        *,
        decay: float = 1.0,
        drift_scale: float = 0.0,
    ) -> Callable[[Tensor, Key, int], Tensor] | None:
        """Return (x, key, count) -> `x`, overwritten as by `count` times `perturb_` with t = key.t, key.t + 1, ...

        The drift of each is the gradient of a `GradientBackend` at that step's x. None where that cannot be. What it
        returns is called by one thread, and its bits do not depend on how steps are cut into calls.
        """
        ...


class GradientBackend(Protocol):
    """Plugin kind `gradient`: a faster way to the value and gradient of some energies."""

    def build(
        self, energy: EnergyLike, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, /
    ) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
        """Return x [n, *shape] -> (U [n], dU/dx [n, *shape]), or None: not an energy that it can prove it handles.

        What it returns sees the energy's weights as they are at each call, and may be called by several threads.
        """
        ...


@runtime_checkable
class HasCompileTime(Protocol):
    """A gradient backend that says whether it compiles anew for an energy: such a one is only used when it is named."""

    @property
    def compiles(self) -> bool: ...


@runtime_checkable
class HasClosedForms(Protocol):
    """A gradient backend that is asked about energies with a closed form too, where a sampler takes strides."""

    @property
    def closed_forms(self) -> bool: ...


# ---------------------------------------------------------------------------------- writers


class ArraySpec(NamedTuple):
    """One array of a run: its whole shape, its dtype under numpy's name, the names of its dimensions."""

    shape: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """Everything that a run stores: known before its first step."""

    chains: int
    draws: int
    grain: int
    """Blocks begin at multiples of this many chains, and end there or at the last chain."""
    arrays: Mapping[str, ArraySpec]
    """`draws` [chains, draws, *shape], `stats.NAME` [chains, draws], `state.NAME` [chains, draws, ...]."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """What a file may carry to describe itself; JSON values."""

    def to_json(self) -> dict[str, Any]:
        return {
            "chains": self.chains,
            "draws": self.draws,
            "grain": self.grain,
            "arrays": {name: [list(spec.shape), spec.dtype, list(spec.dims)] for name, spec in self.arrays.items()},
            "attrs": dict(self.attrs),
        }

    def first(self, chains: int) -> Layout:
        """Return the layout of the first `chains` chains alone."""
        arrays = {name: spec._replace(shape=(chains, *spec.shape[1:])) for name, spec in self.arrays.items()}
        return replace(self, chains=chains, arrays=arrays)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Layout:
        arrays = {
            name: ArraySpec(tuple(shape), dtype, tuple(dims)) for name, (shape, dtype, dims) in data["arrays"].items()
        }
        return cls(int(data["chains"]), int(data["draws"]), int(data["grain"]), arrays, dict(data["attrs"]))


class Span(NamedTuple):
    """A rectangle of chains [lo, hi) and draws [first, last)."""

    lo: int
    hi: int
    first: int
    last: int


class Block(NamedTuple):
    """The draws [first, last) of the chains [lo, hi): arrays [hi - lo, last - first, ...] on the CPU, contiguous."""

    lo: int
    hi: int
    first: int
    last: int
    arrays: Mapping[str, Tensor]


class Sink(Protocol):
    """An open writer: one a worker where the writer is `parallel`, else one a run; used by one thread at a time."""

    def write(self, block: Block, /) -> None:
        """Store a block: durable on return; the same block again changes nothing."""
        ...

    def close(self) -> None: ...


class Writer(Protocol):
    """Plugin kind `writer`: a frozen dataclass, settings only."""

    parallel: ClassVar[bool]
    """May several workers write disjoint blocks at once, each through a sink of its own?"""

    def prepare(self, path: Path, layout: Layout, committed: Sequence[Span], /) -> None:
        """Create what the run writes to under the folder `path`, or drop what is not committed. Once, in the host.

        A run that goes on says what is there as `committed`: it has to stay, and `layout` may have more chains than
        before. It may be called again with less.
        """
        ...

    def open(self, path: Path, layout: Layout, /) -> Sink: ...

    def finish(self, path: Path, layout: Layout, summary: Mapping[str, Any], /) -> None:
        """Close the run's files for good. Once, in the host."""
        ...


@runtime_checkable
class HasRead(Protocol):
    """A writer whose arrays can be read back."""

    def read(self, path: Path, layout: Layout, name: str, chains: slice, /) -> np.ndarray[Any, Any]:
        """Return rows `chains` (step 1) of array `name`; it may be a read-only view of the file.

        What was written has to be readable before `finish` too: a run that goes on compares it with its checksums.
        """
        ...


@runtime_checkable
class HasTruncate(Protocol):
    """A writer that a run may end early with: see `ebmcore_should_stop` of `ebmcore.observers`."""

    def truncate(self, path: Path, layout: Layout, chains: int, /) -> None:
        """Drop all chains but the first `chains`, durably; once, in the host, after the last block.

        What is left is what a run of `layout.first(chains)` had written. `finish` follows, with that layout.
        """
        ...


@runtime_checkable
class HasAlign(Protocol):
    """A writer that needs its blocks to begin at multiples of `align` chains (a file's own chunks)."""

    @property
    def align(self) -> int: ...


# ---------------------------------------------------------------------------------- reducers


class Reducer(Protocol):
    """Plugin kind `reducer`: a statistic of all draws, in one pass and bounded memory.

    The accumulator is a mapping of tensors. Reducers are fed fixed groups of blocks (`grain`
    chains by a fixed number of draws), and the groups are merged as a left fold in chain
    order: the same bits whatever the chunks and workers.
    """

    def start(self, layout: Layout, /) -> Mapping[str, Tensor]: ...

    def update(self, acc: Mapping[str, Tensor], block: Block, /) -> Mapping[str, Tensor]: ...

    def merge(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor], /) -> Mapping[str, Tensor]:
        """Join the accumulators of two groups, `a` before `b` in chain order."""
        ...

    def finish(self, acc: Mapping[str, Tensor], /) -> Mapping[str, Tensor]:
        """Return the statistics by name."""
        ...


@runtime_checkable
class HasGroups(Protocol):
    """A reducer that takes many groups in one call: the results of one at a time, to the bit, in less time."""

    def update_groups(self, accs: Mapping[str, Tensor], block: Block, /) -> Mapping[str, Tensor]:
        """As `update` for G groups: accumulators stacked [G, ...], the block's arrays [G, grain, draws, ...]."""
        ...

    def merge_groups(self, acc: Mapping[str, Tensor], accs: Mapping[str, Tensor], /) -> Mapping[str, Tensor]:
        """As a left fold of `merge`, from `acc` over stacked accumulators [G, ...]."""
        ...


# ---------------------------------------------------------------------------------- schedules


class Schedule(Protocol):
    """Plugin kind `schedule`: a setting that changes with the step. A plain number is one."""

    def __call__(self, step: int, steps: int, /) -> float:
        """Return the value at a step of the stage: -warmup ... -1 in its warmup, then 0 ... steps - 1."""
        ...


def at(setting: float | Schedule, step: int, steps: int) -> float:
    """Return what a setting that may be a schedule is worth at a step; a plain number is worth itself."""
    return float(setting) if isinstance(setting, int | float) else setting(step, steps)


# ---------------------------------------------------------------------------------- execution


@dataclass(frozen=True)
class Chunk:
    """What one worker runs at a time: chains [lo, hi) through the steps [start, stop) of the run, warmup included."""

    lo: int
    hi: int
    start: int
    stop: int

    def to_json(self) -> dict[str, Any]:
        return {"lo": self.lo, "hi": self.hi, "start": self.start, "stop": self.stop}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Chunk:
        return cls(int(data["lo"]), int(data["hi"]), int(data["start"]), int(data["stop"]))


@dataclass(frozen=True)
class Stage:
    """One part of a run: `steps` transitions of a sampler after `warmup`, of which `draws` are kept, evenly spaced."""

    sampler: Any
    """A sampler, a name, or a mapping as in a run file; in a `JobSpec` always a mapping."""
    steps: int
    draws: int = 0
    warmup: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"sampler": dict(self.sampler), "steps": self.steps, "draws": self.draws, "warmup": self.warmup}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Stage:
        return cls(dict(data["sampler"]), int(data["steps"]), int(data["draws"]), int(data["warmup"]))


@dataclass(frozen=True)
class JobSpec:
    """A run as plain data: what a worker needs to compute any chunk of it, in any process.

    A plugin is its `use` table. A live object of the process that made the job (a closure, a
    tensor) is `{"live": NAME}`: it can be had in that process alone.
    """

    id: str
    base: str
    """Folder that direct references (`./file.py:Attr`) are relative to."""
    path: str | None
    """Run directory, or None for a run in memory."""
    energy: Mapping[str, Any]
    stages: tuple[Stage, ...]
    chains: int
    first_chain: int
    """Id of the run's first chain, for its random numbers."""
    shape: tuple[int, ...]
    init: Mapping[str, Any]
    temperature: float
    seed: int
    on_nonfinite: str
    """What becomes of a chain that leaves the finite numbers: `"raise"` or `"freeze"`."""
    precision: str
    noise: str
    """Name of the noise backend."""
    gradient: str
    """Where gradients come from: `"closed_form"`, `"autograd"`, or the name of a gradient backend."""
    condition: Mapping[str, Mapping[str, Any]]
    shared: Mapping[str, Mapping[str, Any]]
    writers: tuple[Mapping[str, Any], ...]
    reducers: tuple[Mapping[str, Any], ...]
    grain: int
    layouts: tuple[Layout | None, ...]
    """For each stage what it stores; None for a stage that keeps no draw."""

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "base": self.base,
            "path": self.path,
            "energy": dict(self.energy),
            "stages": [stage.to_json() for stage in self.stages],
            "chains": self.chains,
            "first_chain": self.first_chain,
            "shape": list(self.shape),
            "init": dict(self.init),
            "temperature": self.temperature,
            "seed": self.seed,
            "on_nonfinite": self.on_nonfinite,
            "precision": self.precision,
            "noise": self.noise,
            "gradient": self.gradient,
            "condition": {name: dict(value) for name, value in self.condition.items()},
            "shared": {name: dict(value) for name, value in self.shared.items()},
            "writers": [dict(table) for table in self.writers],
            "reducers": [dict(table) for table in self.reducers],
            "grain": self.grain,
            "layouts": [None if layout is None else layout.to_json() for layout in self.layouts],
        }

    def first(self, chains: int) -> JobSpec:
        """Return the job of the first `chains` chains alone: what is left of a run that an observer ended early."""
        layouts = tuple(None if layout is None else layout.first(chains) for layout in self.layouts)
        return replace(self, chains=chains, layouts=layouts)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> JobSpec:
        return cls(
            **{
                **data,
                "stages": tuple(Stage.from_json(stage) for stage in data["stages"]),
                "shape": tuple(data["shape"]),
                "writers": tuple(data["writers"]),
                "reducers": tuple(data["reducers"]),
                "layouts": tuple(None if layout is None else Layout.from_json(layout) for layout in data["layouts"]),
            }
        )


@dataclass(frozen=True)
class WrittenBlock:
    """A block that every writer was given: the draws [first, last) of a chunk in a stage."""

    stage: int
    first: int
    last: int
    sha256: Mapping[str, str]
    """Of each array's bytes, [hi - lo, last - first, ...] in C order."""

    def to_json(self) -> dict[str, Any]:
        return {"stage": self.stage, "first": self.first, "last": self.last, "sha256": dict(self.sha256)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> WrittenBlock:
        digests = {str(name): str(digest) for name, digest in data["sha256"].items()}
        return cls(int(data["stage"]), int(data["first"]), int(data["last"]), digests)


@dataclass(frozen=True)
class Receipt:
    """What a worker reports of a chunk that it finished: its data is durable."""

    chunk: Chunk
    device: str
    seconds: float
    reduced: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """For each reducer its accumulators, those of the chunk's groups stacked on axis 0 in chain order."""
    blocks: tuple[WrittenBlock, ...] = ()
    """What was written, with checksums."""
    frozen: int = 0
    """Chains that left the finite numbers and were held."""
    spooled: tuple[str, ...] = ()
    """Files with blocks that the host is to give to the writers that are not parallel, in order."""
    parts: tuple[Receipt, ...] = ()
    """Those of its pieces, in chain order, where the chunk did not fit in memory whole; then nothing else is set."""

    def pieces(self) -> tuple[Receipt, ...]:
        """Return the receipts that tell what was done: its parts, or itself."""
        return self.parts or (self,)

    def to_json(self) -> dict[str, Any]:
        """Tensors become their dtype, shape and little-endian bytes in base64."""
        return {
            "chunk": self.chunk.to_json(),
            "device": self.device,
            "seconds": self.seconds,
            "reduced": {
                name: {key: _tensor_to_json(value) for key, value in acc.items()} for name, acc in self.reduced.items()
            },
            "blocks": [block.to_json() for block in self.blocks],
            "frozen": self.frozen,
            **({"spooled": list(self.spooled)} if self.spooled else {}),
            **({"parts": [part.to_json() for part in self.parts]} if self.parts else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Receipt:
        reduced = {
            name: {key: _tensor_from_json(value) for key, value in acc.items()} for name, acc in data["reduced"].items()
        }
        blocks = tuple(WrittenBlock.from_json(block) for block in data["blocks"])
        return cls(
            Chunk.from_json(data["chunk"]),
            str(data["device"]),
            float(data["seconds"]),
            reduced,
            blocks,
            int(data["frozen"]),
            tuple(map(str, data.get("spooled", ()))),
            tuple(cls.from_json(part) for part in data.get("parts", ())),
        )


class Executor(Protocol):
    """Plugin kind `executor`: a frozen dataclass with settings (`workers`, ...), which brings chunks to workers."""

    def run(self, job: JobSpec, chunks: Sequence[Chunk], devices: Sequence[str], /) -> Generator[Receipt, None, None]:
        """Call `ebmcore.run_chunk(job, chunk, device)` once for every chunk; yield the receipts in any order.

        Closing the generator stops the workers and waits for them.
        """
        ...


@runtime_checkable
class HasCheck(Protocol):
    """An executor that cannot run every job, such as one in other processes: it says so before anything is written."""

    def check(self, job: JobSpec, /) -> None:
        """Refuse a job that it cannot run; raise `InputError`."""
        ...


@dataclass(frozen=True)
class RunInfo:
    """What an observer is told of the run: plain data."""

    id: str
    path: Path | None
    chains: int
    draws: int
    steps: int
    """Transitions a chain, warmups and stages together."""
    chunks: int
    devices: tuple[str, ...]
    seed: int
    done: int = 0
    """Chains that an earlier process had finished."""


def _tensor_to_json(value: Tensor) -> dict[str, Any]:
    import base64

    array = value.contiguous().numpy()
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": base64.b64encode(little.tobytes()).decode()}


def _tensor_from_json(data: Mapping[str, Any]) -> Tensor:
    import base64

    import numpy as np
    import torch

    little = np.frombuffer(base64.b64decode(data["data"]), np.dtype(data["dtype"]).newbyteorder("<"))
    return torch.from_numpy(little.astype(data["dtype"]).reshape(data["shape"]))
