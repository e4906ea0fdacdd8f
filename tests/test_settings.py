"""Settings: from plain values to a plugin's own, strictly; from an object back to plain values."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import pytest
import tomli_w
from annotated_types import Ge, Gt, MinLen
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, Field
from typing_extensions import Doc

from ebmcore import settings, settings_plain
from ebmcore.errors import PluginError, SettingsError
from ebmcore.settings import settings_model, validate
from ebmcore.settings_objects import check_instance
from ebmcore.settings_plain import dump

SUBJECT = "sampler 'ula'"


def no_plugin(part, path):
    raise AssertionError(f"{path} is no plugin")


construct = partial(settings.construct, make=no_plugin)
plain = partial(settings_plain.plain, written=no_plugin)


@dataclass(frozen=True)
class ULA:
    step_size: float = field(metadata={"gt": 0, "description": "length of a step"})
    noise_scale: float = field(default=1.0, metadata={"ge": 0, "le": 2})
    noise_std: float | None = field(default=None, metadata={"gt": 0})
    made: float = field(init=False, default=0.0)


@dataclass(frozen=True)
class Every:
    flag: bool = False
    count: int = field(default=1, metadata={"ge": 1, "multiple_of": 1})
    rate: float = 0.5
    word: str = field(default="a", metadata={"min_length": 1, "max_length": 9, "pattern": "^[a-z]+$"})
    choice: Literal["x", "y"] = "x"
    sizes: tuple[int, ...] = field(default=(32, 32), metadata={"ge": 1, "min_length": 1})
    box: tuple[float, float] = (0.0, 1.0)
    several: list[float] = field(default_factory=list)
    file: Path | None = None
    either: int | str = 3
    table: Mapping[str, float] = field(default_factory=dict)


def model_of_parameters(
    dim: Annotated[int, Ge(1), Doc("number of coordinates")],
    *,
    hidden: Annotated[Sequence[Annotated[int, Ge(1)]], MinLen(1)] = (32,),
    scale: Annotated[float, Field(gt=0, description="width")] = 1.0,
    plain_number=1,
    anything=None,
    **rest: Any,
): ...


class Network:
    def __init__(self, width: int = 8, depth: int = 2):
        self.width = width

    def __call__(self, x): ...


def refused(target, values, *parts, subject=SUBJECT):
    with pytest.raises(SettingsError) as raised:
        validate(target, values, subject=subject)
    message = str(raised.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message
    return message


# --------------------------------------------------------------------------- what is accepted


def test_values_come_back_with_defaults_and_with_the_plugins_types():
    assert validate(ULA, {"step_size": 1}, subject=SUBJECT) == {"step_size": 1.0, "noise_scale": 1.0, "noise_std": None}
    assert type(validate(ULA, {"step_size": 1}, subject=SUBJECT)["step_size"]) is float


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("count", 1e6, 1_000_000),
        ("count", np.int64(4), 4),
        ("rate", 2, 2.0),
        ("rate", np.float32(0.5), 0.5),
        ("sizes", [64, 1e2], (64, 100)),
        ("box", [0, 1], (0.0, 1.0)),
        ("several", (1, 2.5), [1.0, 2.5]),
        ("file", "a/b.npy", Path("a/b.npy")),
        ("file", None, None),
        ("choice", "y", "y"),
        ("either", "b", "b"),
        ("either", 1e3, 1000),
        ("flag", True, True),
        ("table", {"a": 1}, {"a": 1.0}),
    ],
)
def test_what_toml_cannot_say_is_converted_and_nothing_else(name, given, wanted):
    value = validate(Every, {name: given}, subject="x")[name]
    assert value == wanted
    assert type(value) is type(wanted)


def test_parameters_of_a_function_and_of_a_class_are_settings():
    values = validate(model_of_parameters, {"dim": 3, "plain_number": 2.5, "anything": [1]}, subject="m")
    assert values == {"dim": 3, "hidden": (32,), "scale": 1.0, "plain_number": 2.5, "anything": [1]}
    assert validate(Network, {"width": 4.0}, subject="m") == {"width": 4, "depth": 2}


@pytest.mark.parametrize("name", ["copy", "json", "schema", "model_config", "_private", "setting_x", "validate"])
def test_any_name_may_be_a_settings_name(name):
    namespace = {}
    exec(f"def target({name}: int = 1): return {name}", namespace)
    assert construct(namespace["target"], {name: 5}, subject="m") == 5


def test_the_schema_has_names_bounds_and_descriptions():
    properties = settings_model(ULA).model_json_schema()["properties"]
    assert properties["step_size"]["exclusiveMinimum"] == 0
    assert properties["step_size"]["description"] == "length of a step"
    assert set(properties) == {"step_size", "noise_scale", "noise_std"}
    properties = settings_model(model_of_parameters).model_json_schema()["properties"]
    assert (properties["dim"]["minimum"], properties["dim"]["description"]) == (1, "number of coordinates")
    assert properties["scale"]["description"] == "width"


def test_the_model_is_made_once():
    assert settings_model(ULA) is settings_model(ULA)


# --------------------------------------------------------------------------- what is refused


def test_an_unknown_key_gets_the_near_one_and_all_of_them():
    assert refused(ULA, {"step_sise": 0.1}) == (
        "`step_sise` is not a setting of sampler 'ula'. Did you mean `step_size`? "
        "Settings: noise_scale, noise_std, step_size."
    )
    refused(ULA, {"step_size": 1.0, "made": 1.0}, "`made` is not a setting")
    refused(type("None_", (), {}), {"a": 1}, "It has no settings.")


def test_a_missing_setting_is_named_with_an_example_that_would_do():
    message = refused(ULA, {})
    assert message == "`step_size` must be set for sampler 'ula'; got nothing. Add it, such as step_size = 0.01."
    refused(model_of_parameters, {}, "`dim` must be set for m; got nothing. Add it, such as dim = 1.", subject="m")


@pytest.mark.parametrize(
    ("target", "values", "beginning"),
    [
        (ULA, {"step_size": -0.1}, "`step_size` must be > 0; got -0.1. Give sampler 'ula' one such as 0.01."),
        (
            ULA,
            {"step_size": 1, "noise_scale": 3},
            "`noise_scale` must be <= 2; got 3. The default of sampler 'ula' is 1.0.",
        ),
        (ULA, {"step_size": 1, "noise_std": 0.0}, "`noise_std` must be > 0; got 0.0."),
        (ULA, {"step_size": "0.1"}, "`step_size` must be a number; got the string '0.1'. Write it without quotes."),
        (ULA, {"step_size": "fast"}, "`step_size` must be a number; got the string 'fast'. Give"),
        (ULA, {"step_size": True}, "`step_size` must be a number; got the boolean True."),
        (ULA, {"step_size": math.nan}, "`step_size` must be finite; got nan."),
        (ULA, {"step_size": math.inf}, "`step_size` must be finite; got inf."),
        (ULA, {"step_size": None}, "`step_size` must be a number; got None."),
        (ULA, {"step_size": [0.1]}, "`step_size` must be a number; got the list [0.1]."),
        (ULA, {"step_size": np.bool_(True)}, "`step_size` must be a number; got "),
        (Every, {"count": True}, "`count` must be a whole number; got the boolean True."),
        (Every, {"count": 1.5}, "`count` must be a whole number; got 1.5. The default"),
        (Every, {"count": math.inf}, "`count` must be a whole number; got inf."),
        (Every, {"count": 0.0}, "`count` must be >= 1; got 0.0."),
        (Every, {"flag": 1}, "`flag` must be true or false; got 1."),
        (Every, {"flag": "yes"}, "`flag` must be true or false; got the string 'yes'."),
        (Every, {"word": 3}, "`word` must be a string; got 3. Write it in quotes."),
        (Every, {"word": ""}, "`word` must have 1 or more characters; got the string ''."),
        (Every, {"word": "A"}, "`word` must match the pattern '^[a-z]+$'; got the string 'A'."),
        (Every, {"choice": "z"}, "`choice` must be 'x' or 'y'; got the string 'z'."),
        (Every, {"sizes": []}, "`sizes` must have 1 or more elements; got the list []."),
        (Every, {"sizes": [32, 0]}, "`sizes[1]` must be >= 1; got 0."),
        (Every, {"sizes": [32, "a"]}, "`sizes[1]` must be a whole number; got the string 'a'."),
        (Every, {"sizes": 32}, "`sizes` must be a list; got 32."),
        (Every, {"box": [1, 2, 3]}, "`box` must have 2 or fewer elements; got the list [1, 2, 3]."),
        (Every, {"either": [1]}, "`either` must be a whole number or a string; got the list [1]."),
        (Every, {"table": {"a": "b"}}, "`table.a` must be a number; got the string 'b'."),
        (Every, {"table": 3}, "`table` must be a table; got 3."),
        (Every, {"file": 3}, "`file` must be a path; got 3."),
    ],
)
def test_a_wrong_value_gets_its_rule_its_value_and_a_fix(target, values, beginning):
    assert refused(target, values).startswith(beginning)


def test_several_problems_are_counted():
    assert refused(Every, {"count": 0, "flag": 1, "sizes": [0, 0]}).endswith("(and 2 more)")
    assert refused(ULA, {"step_sise": 1.0, "noise_scale": "1"}).endswith("(and 1 more)")


def test_a_value_is_cut_in_a_message():
    assert len(refused(ULA, {"step_size": "x" * 10_000})) < 200
    assert len(refused(ULA, {"step_size": list(range(10_000))})) < 200


def test_an_annotations_own_validator_speaks():
    def even(value):
        if value % 2:
            raise ValueError("it must be even")
        return value

    def target(n: Annotated[int, Gt(0), AfterValidator(even)] = 2): ...

    target.__annotations__["n"] = Annotated[int, Gt(0), AfterValidator(even)]
    refused(target, {"n": 3}, "`n` must suit the plugin (it must be even); got 3.")
    refused(target, {"n": -2.0}, "`n` must be > 0; got -2.0.")


@given(
    st.dictionaries(
        st.text(max_size=8) | st.sampled_from(["step_size", "noise_std"]),
        st.none() | st.booleans() | st.floats() | st.text(),
    )
)
def test_any_values_are_accepted_or_refused_in_a_line(values):
    message = ""
    try:
        accepted = validate(ULA, values, subject=SUBJECT)
    except SettingsError as error:
        message = str(error)
    if message:
        assert len(message.splitlines()) == 1
        assert len(message) < 250
    else:
        assert accepted["step_size"] > 0


# ------------------------------------------------------------------- plugins that are refused


@dataclass(frozen=True)
class WithInitVar:
    a: InitVar[int]


class Kernel(Protocol):
    def step(self): ...


@pytest.mark.parametrize(
    ("annotation", "default", "part"),
    [
        ("Nowhere", 1, "`a` a type that can be resolved; got 'Nowhere' (NameError"),
        ("Kernel", None, "a run file cannot write a protocol"),
        ("int", 1.5, "defaults that suit their types and bounds; got 1.5 for `a`"),
        ("float", math.inf, "defaults that suit their types and bounds; got inf for `a`"),
    ],
)
def test_a_type_or_default_that_no_setting_can_have_is_refused(annotation, default, part):
    def target(a=default): ...

    target.__annotations__["a"] = annotation
    with pytest.raises(PluginError, match=r"^model 'm' must ") as raised:
        settings_model(target, subject="model 'm'")
    assert part in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_default_of_none_allows_none():
    def target(a: int = None): ...  # noqa: RUF013 - as people write it

    assert validate(target, {"a": None}, subject="m") == {"a": None}
    assert validate(target, {"a": 3.0}, subject="m") == {"a": 3}


def test_an_init_var_is_refused():
    with pytest.raises(PluginError, match="InitVar"):
        settings_model(WithInitVar)


# ------------------------------------------------------------------------------- construction


def test_construct_calls_the_plugin_with_what_was_given():
    got = {}

    def target(a: int, b: float = 1.0):
        got.update(locals())
        return "made"

    assert construct(target, {"a": 2.0}, subject="m") == "made"
    assert got["a"] == 2
    assert type(got["a"]) is int
    assert construct(ULA, {"step_size": 1}, subject=SUBJECT) == ULA(1.0)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("a must\nbe odd"), SettingsError, "model 'm' refuses its settings: a must be odd"),
        (TypeError("no"), SettingsError, "model 'm' refuses its settings: no"),
        (RuntimeError("boom"), PluginError, "model 'm' failed while it was made: RuntimeError: boom"),
        (SystemExit(2), PluginError, "model 'm' failed while it was made: SystemExit: 2"),
        (SettingsError("its own line"), SettingsError, "its own line"),
    ],
)
def test_what_a_plugin_raises_when_it_is_made_becomes_a_line(error, kind, message):
    def target():
        raise error

    with pytest.raises(kind) as raised:
        construct(target, {}, subject="model 'm'")
    assert str(raised.value) == message


def test_a_keyboard_interrupt_passes():
    def target():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        construct(target, {}, subject="m")


# ---------------------------------------------------------------------------------- instances


@pytest.mark.parametrize(
    ("instance", "beginning"),
    [
        (ULA(-1.0), "`step_size` must be > 0; got -1.0."),
        (ULA("0.1"), "`step_size` must be a number; got the string '0.1'."),
        (ULA(True), "`step_size` must be a number; got the boolean True."),
        (ULA(math.nan), "`step_size` must be finite; got nan."),
        (Every(count=1000.0), "`count` must be a whole number; got 1000.0. Write 1000."),
        (Every(sizes=[1, 2]), "`sizes` must be a tuple; got the list [1, 2]."),
        (Every(sizes=(1, 0)), "`sizes[1]` must be >= 1; got 0."),
        (Every(file="a"), "`file` must be a path; got the string 'a'."),
    ],
)
def test_settings_made_in_python_are_validated_without_any_conversion(instance, beginning):
    with pytest.raises(SettingsError) as raised:
        check_instance(instance, subject=SUBJECT)
    assert str(raised.value).startswith(beginning)


@pytest.mark.parametrize(
    "instance", [ULA(1), ULA(0.1, noise_std=2.0), Every(), Every(file=Path("a")), object(), Network()]
)
def test_a_right_instance_passes(instance):
    check_instance(instance, subject="x")


def test_dump_gives_toml_without_none():
    assert dump(ULA(0.1)) == {"step_size": 0.1, "noise_scale": 1.0}
    assert dump(Every(file=Path("a/b"), sizes=(1, 2)))["file"] == "a/b"
    assert dump(Every(sizes=(1, 2)))["sizes"] == [1, 2]
    with pytest.raises(SettingsError, match="must be a dataclass"):
        dump(Network())


@given(
    st.builds(
        Every,
        flag=st.booleans(),
        count=st.integers(1, 2**40),
        rate=st.floats(allow_nan=False, allow_infinity=False),
        word=st.from_regex("[a-z]{1,9}", fullmatch=True),
        choice=st.sampled_from(["x", "y"]),
        sizes=st.lists(st.integers(1, 99), min_size=1, max_size=4).map(tuple),
        box=st.tuples(*[st.floats(-1e9, 1e9)] * 2),
        several=st.lists(st.floats(-1, 1), max_size=3),
        file=st.none() | st.just(Path("x") / "y.npy"),
        either=st.integers() | st.from_regex("[a-z]{0,5}", fullmatch=True),
        table=st.dictionaries(st.from_regex("[a-z]{1,3}", fullmatch=True), st.floats(-1, 1), max_size=2),
    )
)
def test_settings_survive_the_way_through_toml(instance):
    text = tomli_w.dumps(dump(instance))
    assert construct(Every, tomllib.loads(text), subject="x") == instance


def test_a_value_that_toml_cannot_hold_is_left_out_if_it_is_the_default_and_refused_if_not():
    def target(act: Any = len, n: int = 1): ...

    target.__annotations__.update(act=Any, n=int)
    assert plain(target, {}, subject="m") == {"n": 1}
    with pytest.raises(SettingsError, match=r"`act` of m must be a value that a run file can hold; got <built-in"):
        plain(target, {"act": sum}, subject="m")
