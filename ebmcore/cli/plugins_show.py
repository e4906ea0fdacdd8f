"""What `ebmcore plugins show NAME` prints: where a plugin comes from, what it is, its settings, how to name it."""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ebmcore.cli.plugins import columns
from ebmcore.registry import Registry
from ebmcore.registry.finding import Plugin, example
from ebmcore.settings_help import settings_help, toml

_WIDTH = 100
_SOURCE = re.compile(r"\((19|20)\d\d|\b(19|20)\d\d[),]|arXiv|doi\.org|\bdoi:", re.IGNORECASE)
"""A year as citations have it, or an identifier: what tells a sentence that names a paper."""

_ABBREVIATED = re.compile(r"\W*[A-Z]\w{0,6}\.")
"""A word whose full stop ends no sentence: an initial, or a journal's name cut short."""


def shown(plugin: Plugin, registry: Registry) -> str:
    """Return the text about one plugin.

    Args:
        plugin: What was found.
        registry: Where the plugins of an example come from.
    """
    blocks = [_heading(plugin), _origin(plugin)]
    if plugin.target is not None:
        blocks += [_about(plugin.target), _settings(plugin), _use(plugin, registry)]
    elif plugin.record.traceback is not None:
        blocks.append("traceback\n" + textwrap.indent(plugin.record.traceback.rstrip(), "  "))
    return "\n\n".join(block for block in blocks if block)


def _heading(plugin: Plugin) -> str:
    return f"{plugin.record.kind} {plugin.record.name}"


def _origin(plugin: Plugin) -> str:
    record = plugin.record
    rows = [("state", f"{record.state}: {record.reason}" if record.reason else record.state)]
    if record.distribution is not None:
        rows.append(("distribution", f"{record.distribution} {record.version or ''}".rstrip()))
    rows.append(("entry point" if record.source == "entry point" else record.source, record.value))
    if file := _file(plugin):
        rows.append(("file", file))
    if plugin.digest is not None:
        rows.append(("sha256", plugin.digest))
    return "\n".join(f"  {line}" for line in columns(rows))


def _file(plugin: Plugin) -> str | None:
    """Return the file of the plugin's module, without importing anything for it."""
    if plugin.target is not None:
        return getattr(sys.modules.get(plugin.target.__module__), "__file__", None)
    top, *inner = plugin.record.value.partition(":")[0].strip().split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or not inner:
        return spec.origin if spec is not None else None
    for folder in spec.submodule_search_locations or ():
        stem = Path(folder, *inner)
        for file in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
            if file.is_file():
                return str(file)
    return None


def _about(target: Any) -> str:
    own, module = _doc(target), _doc(sys.modules.get(target.__module__))
    first = own.partition("\n")[0]
    sources = [sentence for text in (own, module) for sentence in _sentences(text) if _SOURCE.search(sentence)]
    wrapped = [line for source in dict.fromkeys(sources) if source != first for line in textwrap.wrap(source, _WIDTH)]
    return "\n".join(f"  {line}" for line in [first, *wrapped] if line)


def _doc(thing: Any) -> str:
    text = inspect.cleandoc(getattr(thing, "__doc__", None) or "")
    # What `dataclass` writes where there is no docstring.
    return "" if text.startswith(f"{getattr(thing, '__name__', '')}(") else text


def _sentences(text: str) -> Iterator[str]:
    """Yield the sentences of the paragraphs that are prose: what is indented is an equation or an example."""
    for paragraph in re.split(r"\n\s*\n|\n(?=- )", text):
        words = [] if paragraph[:1].isspace() else paragraph.split()
        begin = 0
        for end, word in enumerate(words, 1):
            following = words[end][0] if end < len(words) else "A"
            if word.endswith(".") and following.isupper() and not _ABBREVIATED.fullmatch(word):
                yield " ".join(words[begin:end]).removeprefix("- ")
                begin = end
        if begin < len(words):
            yield " ".join(words[begin:]).removeprefix("- ")


def _settings(plugin: Plugin) -> str:
    rows = settings_help(plugin.target, subject=plugin.record.label)
    if not rows:
        return "settings: none"
    return "settings\n" + "\n".join(f"  {line}" for line in columns(rows))


def _use(plugin: Plugin, registry: Registry) -> str:
    kind = plugin.record.kind
    table = example(plugin, registry)
    lines = [f"{key} = {toml(value)}" for key, value in table.items()]
    if kind in ("sampler", "model"):
        lines.insert(0, f"[{kind}]")
    elif kind in ("writer", "reducer", "observer"):
        lines.insert(0, f"[[{kind}]]")
    elif kind == "schedule":
        lines = ["[sampler]", f"step_size = {toml(table)}    # or any other setting that takes a schedule"]
    else:
        lines = ["[engine]", f"{kind} = {toml(table if kind == 'executor' else table['use'])}"]
    return "in a run file\n" + "\n".join(f"  {line}" for line in lines)
