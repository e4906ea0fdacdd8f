"""Sphinx: MyST pages, and a reference generated from the docstrings."""

from __future__ import annotations

import contextlib
import io
import os
import re
from typing import Any

import importlib_metadata
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from ebmcore.cli import main

project = "ebmcore"
author = "the ebmcore authors"
release = importlib_metadata.version("ebmcore")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"ebmcore {release}"

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False

_SECTION = re.compile(r"\s*(Args|Attributes|Raises|Returns|Yields|Note|Example|Examples|Warning):$")

# *emphasis*, which stays, or a character that means something to reStructuredText alone.
_MARKUP = re.compile(r"(\*\w[\w -]*\*)|[\\*|]")


def _plain_to_rst(lines: list[str]) -> list[str]:
    """Docstrings are plain text with `code`: turn backticks into literals, escape `*`, mark indented code."""
    out: list[str] = []
    code: int | None = None
    for index, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if code is not None and (not line.strip() or indent >= code):
            out.append(line)
            continue
        code = None
        parts = line.split("`")
        if len(parts) % 2 == 1:
            parts[::2] = [_MARKUP.sub(lambda match: match[1] or "\\" + match[0], part) for part in parts[::2]]
            line = "``".join(parts)
        following = next((later for later in lines[index + 1 :] if later.strip()), "")
        deeper = len(following) - len(following.lstrip()) > indent
        if line.endswith(":") and deeper and not _SECTION.fullmatch(line) and not lines[index + 1].strip():
            line += ":"
            code = indent + 1
        out.append(line)
    return out


_attributes: dict[str, list[str]] = {}


def _before_napoleon(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = _plain_to_rst(lines)
    if what in {"attribute", "data", "property"}:
        _attributes[name] = list(lines)


def _after_napoleon(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    # napoleon takes what precedes a colon in an attribute's first line for its type.
    lines[:] = _attributes.pop(name, lines)


class CommandOutput(SphinxDirective):
    """`.. ebmcore:: WORDS` shows what the command prints, without files of the machine that built the page."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        printed = io.StringIO()
        os.environ["COLUMNS"] = "100"
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = main(self.arguments[0].split())
        if code:
            raise self.error(printed.getvalue())
        lines = [line for line in printed.getvalue().splitlines() if not re.match(r"  file  ", line)]
        text = f"$ ebmcore {self.arguments[0]}\n\n" + "\n".join(lines)
        block = nodes.literal_block(text, text)
        block["language"] = "text"
        return [block]


def setup(app: Any) -> None:
    app.add_directive("ebmcore", CommandOutput)
    app.connect("autodoc-process-docstring", _before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", _after_napoleon, priority=600)
