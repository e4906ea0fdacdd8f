"""What pydantic says of a plugin's settings -> one line for the first problem: `subject must rule; got value. fix.`."""

from __future__ import annotations

import difflib
import reprlib
import types
from collections.abc import Mapping, Sequence
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

_RULES: Mapping[str, str] = {
    "greater_than": "must be > {gt}",
    "greater_than_equal": "must be >= {ge}",
    "less_than": "must be < {lt}",
    "less_than_equal": "must be <= {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "finite_number": "must be finite",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be a string",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a table",
    "is_instance_of": "must be of class {class}",
    "literal_error": "must be {expected}",
    "part_type": "must be {what}",
    "part_object_type": "must be {what} object",
    "missing": "must be set",
    "too_short": "must have {min_length} or more elements",
    "too_long": "must have {max_length} or fewer elements",
    "string_too_short": "must have {min_length} or more characters",
    "string_too_long": "must have {max_length} or fewer characters",
    "string_pattern_mismatch": "must match the pattern '{pattern}'",
}
_NUMBERS = ("int_type", "int_from_float", "float_type")
_EXAMPLES = (0.01, 1, 0.5, 10, 100, -1, True)
"""Tried in this order where a message could do with a value that would be right."""

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80
_repr.maxlong = 60


def first_problem(model: type[BaseModel], error: ValidationError, values: Mapping[str, Any], subject: str) -> str:
    """Return the message for the first problem, and how many more there are.

    A misspelt setting comes first, and a required one that it stands for is not counted.

    Args:
        model: The settings model; its fields' aliases are the settings.
        error: What validating `values` raised.
        values: The settings as given.
        subject: What to call the plugin: "sampler 'ula'".
    """
    by_setting: dict[str, list[Any]] = {}
    for problem in error.errors(include_url=False):
        by_setting.setdefault(str(problem["loc"][0]), []).append(problem)
    names = sorted(str(field.alias) for field in model.model_fields.values())
    unknown = [name for name, problems in by_setting.items() if problems[0]["type"] == "extra_forbidden"]
    for name in unknown:
        meant = _near(name, [one for one in names if one not in values])
        if meant in by_setting and by_setting[str(meant)][0]["type"] == "missing":
            del by_setting[str(meant)]
    first = unknown[0] if unknown else next(iter(by_setting))
    message = _unknown(first, names, subject) if unknown else _wrong(model, first, by_setting[first], values, subject)
    more = len(by_setting) - 1
    return f"{message} (and {more} more)" if more else message


def shown(value: Any) -> str:
    """Return a value as a message shows it: its kind where that helps, and its repr, cut at 60 characters."""
    kinds: tuple[tuple[type, str], ...] = (
        (bool, "the boolean "),
        (str, "the string "),
        (list, "the list "),
        (tuple, "the tuple "),
        (Mapping, "the table "),
    )
    kind = next((words for classes, words in kinds if isinstance(value, classes)), "")
    text = " ".join(_repr.repr(value).split())
    return kind + (text if len(text) <= 60 else f"{text[:57]}...")


def _unknown(name: str, names: Sequence[str], subject: str) -> str:
    close = _near(name, names)
    hint = f" Did you mean `{close}`?" if close else ""
    settings = f"Settings: {', '.join(names)}." if names else "It has no settings."
    written = repr(name)[1:-1]
    return (
        f"`{written if len(written) <= 60 else f'{written[:57]}...'}` is not a setting of {subject}.{hint} {settings}"
    )


def _near(name: str, names: Sequence[str]) -> str | None:
    folded = {one.casefold(): one for one in names}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    return folded[close[0]] if close else None


def _wrong(model: type[BaseModel], name: str, problems: list[Any], values: Mapping[str, Any], subject: str) -> str:
    field = next(field for field in model.model_fields.values() if field.alias == name)
    if name not in values:
        example = _example(model, name)
        return f"`{name}` must be set for {subject}; got nothing. Add it{example and f', such as {name} = {example}'}."
    # Of a union every member complains. If none has the value's type, all of them are what it may be.
    problem = next((one for one in problems if not _is_about_type(one)), problems[0])
    if _has_union(field.annotation) and _is_about_type(problem):
        place, value = name, values[name]
        rule = " or ".join(dict.fromkeys(_rule(one, value) for one in problems)).replace(" or must be ", " or ")
    else:
        place, value = _place(name, problem["loc"][1:], values[name])
        rule = _rule(problem, value)
    default = None if field.is_required() or field.default_factory else field.default
    fix = _rewrite(problem["type"], value)
    if not fix and default is not None:
        fix = f"The default of {subject} is {shown(default)}."
    if not fix:
        example = _example(model, name)
        fix = f"Give {subject} {f'one such as {example}' if example else 'another'}."
    return f"`{place}` {rule}; got {shown(value)}. {fix}"


def _is_about_type(problem: Mapping[str, Any]) -> bool:
    return problem["type"].endswith("_type") or problem["type"] in ("is_instance_of", "literal_error", "int_from_float")


def _has_union(annotation: Any) -> bool:
    members = [part for part in get_args(annotation) if part is not type(None)]
    alternatives = get_origin(annotation) in (Union, types.UnionType) and len(members) > 1
    return alternatives or any(_has_union(part) for part in members)


def _rule(problem: Mapping[str, Any], value: Any) -> str:
    kind = problem["type"]
    if kind == "tuple_type" and isinstance(value, list):
        return "must be a tuple"
    if kind == "is_instance_of" and problem["ctx"]["class"] == "Path":
        return "must be a path"
    if kind in _RULES:
        context = {
            key: int(bound) if isinstance(bound, float) and bound.is_integer() else bound
            for key, bound in problem.get("ctx", {}).items()
        }
        return _RULES[kind].format(**context)
    if kind == "value_error":
        return f"must suit the plugin ({problem['ctx']['error']})"
    return str(problem["msg"]).replace("Input should", "must")


def _place(name: str, path: Sequence[int | str], value: Any) -> tuple[str, Any]:
    """Follow pydantic's path into a value; what is no index or key there is the name of a union's member."""
    for part in path:
        if isinstance(part, int) and isinstance(value, list | tuple) and part < len(value):
            name, value = f"{name}[{part}]", value[part]
        elif isinstance(value, Mapping) and part in value:
            name, value = f"{name}.{part}", value[part]
    return name, value


def _rewrite(kind: str, value: Any) -> str:
    """Say how to write a value that is right but for its form, or of what form it is."""
    if kind in _NUMBERS and isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return ""
        return "Write it without quotes."
    if kind in _NUMBERS and isinstance(value, float) and value.is_integer():
        return f"Write {int(value)}."
    if kind == "string_type" and isinstance(value, int | float):
        return "Write it in quotes."
    if kind == "part_type":
        return 'Write a name, or a table such as {use = "NAME"} with its settings.'
    if kind == "part_object_type":
        return 'Make it in Python, or name all of it: ebm.use("NAME", ...).'
    return ""


def _example(model: type[BaseModel], name: str) -> str:
    """Return a number (or `true`) that a setting would take; nothing if it takes none, or just anything."""

    def suits(value: Any) -> bool:
        try:
            model.model_validate({name: value})
        except ValidationError as error:
            return all(problem["loc"][0] != name for problem in error.errors(include_url=False))
        return True

    # Just anything, that is: no number, and no plugin or path either.
    if suits(b""):
        return ""
    return next((str(value).lower() for value in _EXAMPLES if suits(value)), "")
