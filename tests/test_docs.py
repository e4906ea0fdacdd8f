"""Every block of every page of the documentation does what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ebmcore as ebm
from tests.documents import ROOT, Reader, check_install, codes, is_install, is_own

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
REFERENCE = sorted((DOCS / "reference").glob("*.md"))
JOURNEYS = [
    "sample",
    "run-a-file",
    "first-plugin",
    "write-a-plugin",
    "promises",
    "mutations",
    "train",
    "coming-from-torchebm",
    "random-numbers",
]


@pytest.mark.parametrize("page", [*PAGES, *(DOCS / "reference" / f"{name}.md" for name in ("observers",))], ids=str)
def test_the_blocks_run_in_order_and_print_what_the_page_shows(page, tmp_path):
    site = tmp_path / "site"
    folder = tmp_path / "folder"
    folder.mkdir()

    def install(command):
        """Check the command's form; a page's own package goes into a folder of the test, not into this environment."""
        check_install(command, folder)
        if is_own(command):
            own = command.split()[-1]
            words = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(site), own]
            subprocess.run([sys.executable, "-m", "pip", "install", *words], cwd=folder, check=True)
        return ""

    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    Reader(folder, Path(sys.executable), install, {"PYTHONPATH": path}).read(page)


def test_every_journey_has_a_page_and_every_page_is_linked():
    assert {page.stem for page in PAGES} == {*JOURNEYS, "index"}
    index = (DOCS / "index.md").read_text()
    for name in JOURNEYS:
        assert f"({name}.md)" in index


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_are_ebmcore_or_pip(page):
    for code in codes(page):
        for command in code.commands:
            assert is_install(command) or command.startswith(("ebmcore ", "python -m pytest ")), (
                f"{page.name}:{code.line}"
            )


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_toml_block_is_a_file_and_every_run_file_is_run(page):
    commands = [command for code in codes(page) for command in code.commands]
    for code in codes(page):
        if code.language == "toml":
            assert code.file, f"{page.name}:{code.line} begins with the name of its file"
            if "run" in tomllib.loads(code.text):
                assert any(command.startswith(f"ebmcore run {code.file}") for command in commands)


@pytest.mark.parametrize("page", REFERENCE, ids=str)
def test_fragments_of_the_reference_are_toml(page):
    for code in codes(page):
        if code.language == "toml":
            tomllib.loads(code.text)


def test_links_lead_somewhere():
    for page in [*PAGES, *REFERENCE]:
        for link in re.findall(r"\]\(([^):]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_every_public_name_is_in_the_reference():
    python, errors = (DOCS / "reference" / "python.md").read_text(), (DOCS / "reference" / "errors.md").read_text()
    assert "automodule:: ebmcore.errors" in errors
    for name in ebm.__all__:
        value = getattr(ebm, name)
        if not (isinstance(value, type) and issubclass(value, BaseException | Warning)):
            assert f"ebmcore.{name}" in python, name


def test_every_first_party_plugin_is_in_the_reference():
    page = (DOCS / "reference" / "plugins.md").read_text()
    for project in [ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")]:
        for group, entries in tomllib.loads(project.read_text())["project"].get("entry-points", {}).items():
            kind = group.removeprefix("ebmcore.").removesuffix("s")
            for name in entries:
                assert f".. ebmcore:: plugins show {kind}:{name}\n" in page, f"{kind} {name}"
