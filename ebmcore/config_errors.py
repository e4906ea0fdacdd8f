"""One line for what pydantic found in a run file: place, key, rule, value, and the near key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from ebmcore.config_source import Key, Source

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_RULES = {
    "dict_type": "a table",
    "finite_number": "finite",
    "float_type": "a number",
    "greater_than": "> {gt:g}",
    "greater_than_equal": ">= {ge}",
    "int_type": "an integer",
    "less_than": "< {lt}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "model_type": "a table",
    "string_too_short": "longer than nothing",
    "string_type": "a string",
}
"""What a value must be, by pydantic's name of the error."""

_FIXES = {
    "finite_number": "Choose a finite number.",
    "float_type": "Write a number such as 1.0.",
    "greater_than": "Choose a positive number such as 1.0.",
    "greater_than_equal": "Choose {ge} or more.",
    "int_type": "Write a whole number such as 1000.",
    "less_than": "Choose a smaller number.",
    "string_too_short": "Name one, or leave it out.",
}
"""How to mend it, where the rule alone does not say it."""


def explain(error: ValidationError, model: type[BaseModel], source: Source) -> str:
    """Return one line on the problem to mend first: an unknown key (it may be the one that is missing), else the first.

    Args:
        error: What the validation of `source.data` raised.
        model: The class that it was validated against.
        source: The run file.
    """
    found = error.errors(include_url=False)
    unknown = [detail for detail in found if detail["type"] == "extra_forbidden"]
    if unknown:
        return _unknown(_key(unknown[0], source.data), model, source)
    key = _key(found[0], source.data)
    if found[0]["type"] == "missing":
        return _missing(key, source)
    return _wrong(key, [detail for detail in found if _key(detail, source.data)[: len(key)] == key], source)


def beside_stages(source: Source) -> str | None:
    """Return what is wrong with a run file of stages that also says something for a run without them, if anything."""
    if "sampler" in source.data:
        return (
            f"{source.where(('sampler',))}: [sampler] must be left out beside [[stage]]; got both. "
            "Move it into a stage: sampler = {use = ...}."
        )
    for name in ("steps", "draws", "warmup"):
        if name in source.data["run"]:
            return (
                f"{source.where(('run', name))}: `run.{name}` must be left out beside [[stage]]; "
                f"got {_shown(source.data['run'][name])}. Give each [[stage]] its own."
            )
    return None


def without_stages(source: Source) -> str | None:
    """Return what a run file without stages lacks, if anything."""
    if "sampler" not in source.data:
        return _missing(("sampler",), source)
    return None if "steps" in source.data["run"] else _missing(("run", "steps"), source)


def _key(detail: ErrorDetails, data: Any) -> Key:
    """Return where a problem is, without the steps by which pydantic names the branch of a union."""
    key: Key = ()
    last = len(detail["loc"]) - 1
    for depth, part in enumerate(detail["loc"]):
        if (isinstance(data, dict) and part in data) or (isinstance(data, list) and isinstance(part, int)):
            inner: Any = data
            data = inner[part]
            key += (part,)
        elif depth == last and detail["type"] == "missing":
            key += (part,)
    return key


def _unknown(key: Key, model: type[BaseModel], source: Source) -> str:
    known = list(_model_at(model, key[:-1]).model_fields)
    near = get_close_matches(str(key[-1]), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    if len(key) == 1:
        return f"{source.where(key)}: a run file has no table named {key[0]!r}.{hint} Tables: {', '.join(known)}."
    return f"{source.where(key)}: {_header(key[:-1])} has no key named {key[-1]!r}.{hint} Keys: {', '.join(known)}."


def _model_at(model: type[BaseModel], key: Key) -> type[BaseModel]:
    """Return the class of the table at `key`, which is not the key of a plugin's table: those take any key."""
    for part in key:
        if isinstance(part, str):
            model = next(_models_in(model.model_fields[part].annotation))
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _missing(key: Key, source: Source) -> str:
    if len(key) == 1:
        have = f"only {', '.join(f'[{name}]' for name in source.data)}" if source.data else "an empty file"
        other = " or [[stage]]" if key[0] == "sampler" else ""
        return f"{source.path}: a run file must have [{key[0]}]{other}; got {have}. Add a table [{key[0]}]."
    table: Any = source.data
    for part in key[:-1]:
        table = table[part]
    near = get_close_matches(str(key[-1]), list(table), n=1)
    if near:
        fix = f"Is {near[0]!r} a misspelling of it?"
    elif key[-1] == "use":
        fix = "Name a plugin: see `ebmcore plugins`."
    else:
        fix = f"Add {key[-1]} = ... to {_header(key[:-1])}."
    return f"{source.where(key)}: `{_dotted(key)}` must be given; got nothing. {fix}"


def _wrong(key: Key, details: list[ErrorDetails], source: Source) -> str:
    """Join the rules of a union's branches, or keep those of the branch that came furthest into the value."""
    deepest = max(len(_key(detail, source.data)) for detail in details)
    details = [detail for detail in details if len(_key(detail, source.data)) == deepest]
    key = _key(details[0], source.data)
    if details[0]["type"] == "missing":
        return _missing(key, source)
    value: Any = source.data
    for part in key:
        value = value[part]
    rules = " or ".join(dict.fromkeys(_rule(detail) for detail in details))
    return f"{source.where(key)}: `{_dotted(key)}` must be {rules}; got {_shown(value)}. {_fix(key, details, value)}"


def _rule(detail: ErrorDetails) -> str:
    rule = _RULES.get(detail["type"])
    return detail["msg"] if rule is None else rule.format(**detail.get("ctx", {}))


def _fix(key: Key, details: list[ErrorDetails], value: object) -> str:
    kinds = {detail["type"] for detail in details}
    if len(key) == 1:
        return f"Write [[{key[0]}]]." if "list_type" in kinds else f"Write [{key[0]}]."
    if kinds & {"int_type", "float_type"} and isinstance(value, str) and _is_number(value):
        return "Write it without quotes."
    if "string_type" in kinds and isinstance(value, int | float):
        return "Write it in quotes."
    for detail in details:
        context = detail.get("ctx", {})
        if detail["type"] == "literal_error" and isinstance(value, str):
            near = get_close_matches(value, re.findall(r"'(\w+)'", context["expected"]), n=1)
            return f"Did you mean {near[0]!r}?" if near else "Choose one of them."
        if detail["type"] in _FIXES:
            return _FIXES[detail["type"]].format(**context)
    return "Mend it, or leave it out for the default."


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _header(key: Key) -> str:
    """Return a table as a run file writes it: [run], [[stage]]."""
    name = ".".join(part for part in key if isinstance(part, str))
    return f"[{name}]" if isinstance(key[-1], str) else f"[[{name}]]"


def _dotted(key: Key) -> str:
    return ".".join(str(part) for part in key)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return "a list of tables"
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
