"""`ebmcore new-plugin KIND NAME`: a distribution that is complete, whose tests pass, to be filled with one's own."""

from __future__ import annotations

import keyword
import re
import shlex
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

import click

from ebmcore.cli import common_options
from ebmcore.errors import InputError

KINDS = ("sampler", "model", "writer", "reducer", "observer")

USAGE: Mapping[str, str] = {
    "sampler": '[sampler]\nuse = "{}"',
    "model": '[model]\nuse = "{}"',
    "writer": '[[writer]]\nuse = "{}"',
    "reducer": '[[reducer]]\nuse = "{}"',
    "observer": '[[observer]]\nuse = "{}"',
}

FILES: Mapping[str, str] = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    ".gitignore": "gitignore",
    ".github/workflows/ci.yml": "ci.yml",
    "src/$package/__init__.py": "init.py",
    "src/$package/$module.py": "$kind.py",
    "tests/test_$module.py": "test_$kind.py",
}
"""File of the distribution -> its template."""


@click.command()
@click.argument("kind")
@click.argument("name")
@click.option("--path", type=click.Path(path_type=Path), default=Path(), help="Where its folder is made.")
@common_options
def new_plugin(kind: str, name: str, path: Path) -> None:
    """Write a distribution with one plugin that works: KIND is sampler, model, writer, reducer or observer.

    Its folder is ebmcore-NAME. It has the entry point, one documented class, tests that run the conformance kit, a
    README and a CI file. Nothing that exists is overwritten.
    """
    folder = write_plugin(kind, name, path)
    for file in sorted(each.relative_to(folder.parent) for each in folder.rglob("*") if each.is_file()):
        click.echo(f"  {file}")
    where = shlex.quote(str(folder) if folder.is_absolute() else f"./{folder}")
    click.echo(f"next: python -m pip install -e {where}, then ebmcore plugins check {kind}:{_plugin(name)}")


def write_plugin(kind: str, name: str, path: Path) -> Path:
    """Write the files of a distribution and return its folder.

    Args:
        kind: One of `KINDS`.
        name: The plugin's name: lower-case words of letters and digits, joined by `_` or `-`.
        path: Folder in which its own is made.

    Raises:
        InputError: There is no such kind, the name does not suit, or something of that name exists.
    """
    values = _values(kind, name)
    folder = path / values["distribution"]
    if folder.exists():
        raise InputError(f"{folder} must not exist; got one. Remove it, or choose another NAME or --path.")
    templates = files("ebmcore.cli") / "templates"
    texts = {
        Template(file).substitute(values): Template(
            (templates / f"{Template(template).substitute(values)}.template").read_text("utf-8")
        ).substitute(values)
        for file, template in FILES.items()
    }
    texts[f"src/{values['package']}/py.typed"] = ""
    try:
        for file, text in texts.items():
            place = folder / file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, "utf-8")
    except OSError as error:
        raise InputError(f"{folder} must be a folder that can be written; got: {error.strerror}. Set --path.") from None
    return folder


def _values(kind: str, name: str) -> dict[str, str]:
    from importlib_metadata import version

    if kind not in KINDS:
        near = get_close_matches(kind, KINDS, n=1)
        hint = f"Did you mean '{near[0]}'?" if near else "Choose one."
        raise InputError(f"KIND must be one of {', '.join(KINDS)}; got {kind!r}. {hint}")
    _check_name(kind, name)
    plugin = _plugin(name)
    words = plugin.split("_")
    major, minor = version("ebmcore").split(".")[:2]
    return {
        "kind": kind,
        "name": plugin,
        "distribution": f"ebmcore-{plugin.replace('_', '-')}",
        "package": f"ebmcore_{plugin}",
        "module": plugin,
        "class_name": "".join(word.capitalize() for word in words),
        "minor": f"{major}.{minor}",
        "next_minor": f"{major}.{int(minor) + 1}",
        "usage": USAGE[kind].format(plugin),
    }


def _plugin(name: str) -> str:
    return name.replace("-", "_")


def _check_name(kind: str, name: str) -> None:
    from ebmcore.registry import FIRST_PARTY, default

    plugin = _plugin(name)
    if not re.fullmatch(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*", name) or len(name) > 40 or keyword.iskeyword(plugin):
        raise InputError(
            f"NAME must be lower-case words of letters and digits joined by `_`, at most 40 characters; got {name!r}. "
            "Choose one such as tempered_walk."
        )
    homes = {home for names in FIRST_PARTY.values() for home in names.values()}
    there = {record.name: record.distribution for record in default().records(kind)}
    taken = next((home for home in (FIRST_PARTY.get(kind, {}).get(plugin), there.get(plugin)) if home), None)
    if f"ebmcore-{plugin.replace('_', '-')}" in homes or find_spec(f"ebmcore_{plugin}") is not None:
        taken = taken or f"ebmcore-{plugin.replace('_', '-')}"
    if taken is not None:
        raise InputError(f"NAME must be a new one; got {name!r}, which {taken} has already. Choose another.")
