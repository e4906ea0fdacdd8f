"""`ebmcore new-plugin`: what it writes is a distribution that works, and nothing that exists is touched."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib

import pytest

from ebmcore.cli import main
from ebmcore.cli.new_plugin import KINDS, write_plugin


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_whole_and_say_the_name_alone(kind, tmp_path):
    folder = write_plugin(kind, "fresh-thing", tmp_path)
    assert folder.name == "ebmcore-fresh-thing"
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["entry-points"] == {
        f"ebmcore.{kind}s": {"fresh_thing": "ebmcore_fresh_thing.fresh_thing:FreshThing"}
    }
    assert project["project"]["dependencies"][0] == "ebmcore>=0.1,<0.2"
    for file in folder.rglob("*"):
        if file.is_file():
            text = file.read_text()
            assert "$" not in text.replace("${{ matrix.python }}", "")
            if file.suffix == ".py":
                compile(text, str(file), "exec")
    assert (folder / "src" / "ebmcore_fresh_thing" / "py.typed").exists()


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_it_installs_is_listed_and_its_tests_pass(kind, tmp_path):
    folder, site = write_plugin(kind, "fresh_thing", tmp_path), tmp_path / "site"
    words = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(site), str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *words], check=True)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))}

    def run(*words):
        command = [sys.executable, "-m", *words]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    code, printed = run("pytest", "-q", "-p", "no:cacheprovider")
    assert code == 0, printed
    shell = "import sys; from ebmcore.cli import main; sys.exit(main(sys.argv[1:]))"
    listed = subprocess.run(
        [sys.executable, "-c", shell, "plugins", "list"], env=env, capture_output=True, text=True, check=True
    ).stdout
    (line,) = [line for line in listed.splitlines() if "fresh_thing" in line]
    assert line.split() == [kind, "fresh_thing", "available", "ebmcore-fresh-thing", "0.1.0"]
    typed, printed = run("mypy", "--strict", "--cache-dir", os.devnull, str(folder / "src"))
    assert typed == 0, printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["samplr", "x"], "KIND must be one of sampler, model, writer, reducer, observer; got 'samplr'. Did you mean"),
        (
            ["executor", "x"],
            "KIND must be one of sampler, model, writer, reducer, observer; got 'executor'. Choose one.",
        ),
        (["sampler", "My-Walk"], "NAME must be lower-case words of letters and digits joined by `_`"),
        (["sampler", "../walk"], "NAME must be lower-case words"),
        (["sampler", "class"], "NAME must be lower-case words"),
        (["sampler", "9lives"], "NAME must be lower-case words"),
        (["sampler", "ula"], "NAME must be a new one; got 'ula', which ebmcore-langevin has already."),
        (["model", "langevin"], "NAME must be a new one; got 'langevin', which ebmcore-langevin has already."),
    ],
)
def test_what_does_not_suit_is_a_line_and_writes_nothing(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new-plugin", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path, capsys):
    assert main(["new-plugin", "model", "fresh_thing", "--path", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == "  ebmcore-fresh-thing/.github/workflows/ci.yml"
    assert printed.endswith(
        f"next: python -m pip install -e {tmp_path}/ebmcore-fresh-thing, then ebmcore plugins check model:fresh_thing\n"
    )
    file = tmp_path / "ebmcore-fresh-thing" / "README.md"
    file.write_text("mine")
    assert main(["new-plugin", "sampler", "fresh_thing", "--path", str(tmp_path)]) == 2
    assert "must not exist; got one" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert main(["new-plugin", "model", "other", "--path", str(file)]) == 2
    assert "must be a folder that can be written" in capsys.readouterr().err
