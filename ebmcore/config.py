"""The run file: TOML to a validated `RunConfig`, and from there to the arguments of `ebmcore.sampling.sample`.

A plugin's own settings are only carried: the registry validates them against the plugin. Every
problem is a `ConfigError` of one line that names the file, its line, the key, the rule and the value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError

from ebmcore.config_errors import beside_stages, explain, without_stages
from ebmcore.config_places import located
from ebmcore.config_source import Source
from ebmcore.errors import ConfigError, InputError
from ebmcore.protocols import Stage


def _integral(value: object) -> object:
    """Take 1e6 for 1000000: TOML writes powers of ten as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, Field(ge=1), BeforeValidator(_integral)]
CountOrZero = Annotated[int, Field(ge=0), BeforeValidator(_integral)]
Seed = Annotated[int, Field(ge=0, lt=2**63), BeforeValidator(_integral)]
Name = Annotated[str, Field(min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Use(_Table):
    """A plugin by name or direct reference, and its settings beside."""

    model_config = ConfigDict(extra="allow")

    use: Name


class UseModel(Use):
    """`[model]`: `weights`, a file beside the run file, is the host's word."""

    weights: Name | None = None


class UseNamed(Use):
    """`[[writer]]`, `[[reducer]]`: `name`, which tells two of one kind apart, is the host's word."""

    name: Name | None = None


class InitTable(_Table):
    """`run.init` as a table: where chains begin, times `scale`, and `repeat` chains from each point."""

    use: Name
    scale: Annotated[float, Field(gt=0)] | None = None
    repeat: Count | None = None


class StageTable(_Table):
    """`[[stage]]`: one part of a run, in place of `[sampler]` and of `steps`, `draws` and `warmup` in `[run]`."""

    sampler: Use
    steps: Count
    draws: CountOrZero | None = None
    warmup: CountOrZero | None = None

    def stage(self) -> Stage:
        """Return the stage; what the file leaves out has the default of `ebmcore.Stage`."""
        return Stage(**{**_table(self), "sampler": _table(self.sampler)})


class RunTable(_Table):
    """`[run]`: what is sampled. A key that is left out has the default of `ebmcore.sample`."""

    chains: Count
    shape: list[Count] | None = None
    init: Name | InitTable | None = None
    steps: Count | None = None
    draws: Count | None = None
    warmup: CountOrZero | None = None
    temperature: Annotated[float, Field(gt=0)] | None = None
    seed: Seed | None = None
    on_nonfinite: Literal["raise", "freeze"] | None = None


class EngineTable(_Table):
    """`[engine]`: how it is run."""

    devices: Name | list[Name] | None = None
    executor: Name | Use | None = None
    chunk_size: Literal["auto"] | Count | None = None
    precision: Literal["float32", "float64", "bfloat16", "float16"] | None = None
    noise: Name | None = None
    gradient: Name | None = None


class RunConfig(_Table):
    """A run file, validated as far as it goes without its plugins."""

    model: UseModel
    sampler: Use | None = None
    stage: list[StageTable] = []
    run: RunTable
    engine: EngineTable = EngineTable()
    condition: dict[str, Name] = {}
    shared: dict[str, Name] = {}
    writer: list[UseNamed] = []
    reducer: list[UseNamed] = []
    observer: list[Use] = []

    _source: Source = PrivateAttr()

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Self:
        """Read a run file.

        Args:
            path: The file.
            overrides: `TABLE.KEY=VALUE` each, laid over the file in their order; the value is TOML, else a
                string. A list of tables is addressed by index (`writer.0.use=npy`); the next index adds a table.

        Raises:
            ConfigError: The file cannot be read, is not TOML, or breaks a rule; or an override does.
        """
        source = Source.read(Path(path))
        for override in overrides:
            source.override(override)
        try:
            config = cls.model_validate(source.data)
        except ValidationError as error:
            raise ConfigError(explain(error, cls, source)) from None
        wrong = beside_stages(source) if config.stage else without_stages(source)
        if wrong is not None:
            raise ConfigError(wrong)
        config._source = source
        return config

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `ebmcore.sampling.sample`; what the file leaves out is left out."""
        given: dict[str, Any] = {
            "energy": _table(self.model),
            "sampler": [stage.stage() for stage in self.stage] if self.sampler is None else _table(self.sampler),
            "base": self._source.path.parent,
            "writers": tuple(_table(table) for table in self.writer),
            "reducers": tuple(_table(table) for table in self.reducer),
            "observers": tuple(_table(table) for table in self.observer),
            **_table(self.run),
            **_table(self.engine),
        }
        given |= {name: tensors for name in ("condition", "shared") if (tensors := getattr(self, name))}
        if "shape" in given:
            given["shape"] = tuple(given["shape"])
        return given

    @contextmanager
    def located(self) -> Iterator[None]:
        """Begin the message of an `InputError` that is raised inside with the file and line that it is about, if any.

        What is found when a run is prepared (a plugin's settings, a shape, a file) is found without its file.
        """
        try:
            yield
        except InputError as error:
            tables = {
                **dict.fromkeys(RunTable.model_fields, "run"),
                **dict.fromkeys(EngineTable.model_fields, "engine"),
            }
            error.args = (located(error, tables, self._source),)
            raise


def _table(table: BaseModel) -> dict[str, Any]:
    return table.model_dump(exclude_unset=True)
