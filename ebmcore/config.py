"""The run file: TOML to a validated `RunConfig`, and from there to the arguments of `ebmcore.sampling.sample`.

A plugin's own settings are only carried: the registry validates them against the plugin. Every
problem is a `ConfigError` of one line that names the file, its line, the key, the rule and the value.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError

from ebmcore.config_errors import explain
from ebmcore.config_source import Source
from ebmcore.errors import ConfigError


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


class RunTable(_Table):
    """`[run]`: what is sampled. A key that is left out has the default of `ebmcore.sample`."""

    chains: Count
    steps: Count
    shape: list[Count] | None = None
    init: Literal["auto", "normal", "uniform"] | None = None
    draws: Count | None = None
    warmup: CountOrZero | None = None
    temperature: Annotated[float, Field(gt=0)] | None = None
    seed: Seed | None = None


class EngineTable(_Table):
    """`[engine]`: how it is run."""

    devices: Name | list[Name] | None = None
    executor: Name | Use | None = None
    chunk_size: Literal["auto"] | Count | None = None
    precision: Literal["float32", "float64"] | None = None
    noise: Name | None = None


class RunConfig(_Table):
    """A run file, validated as far as it goes without its plugins."""

    model: UseModel
    sampler: Use
    run: RunTable
    engine: EngineTable = EngineTable()
    writer: list[UseNamed] = []
    reducer: list[UseNamed] = []
    observer: list[Use] = []

    _base: Path = PrivateAttr(default=Path())

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
        config._base = source.path.parent
        return config

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `ebmcore.sampling.sample`; what the file leaves out is left out."""
        given: dict[str, Any] = {
            "energy": _table(self.model),
            "sampler": _table(self.sampler),
            "base": self._base,
            "writers": tuple(_table(table) for table in self.writer),
            "reducers": tuple(_table(table) for table in self.reducer),
            "observers": tuple(_table(table) for table in self.observer),
            **_table(self.run),
            **_table(self.engine),
        }
        if "shape" in given:
            given["shape"] = tuple(given["shape"])
        return given


def _table(table: BaseModel) -> dict[str, Any]:
    return table.model_dump(exclude_unset=True)
