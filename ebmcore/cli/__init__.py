"""The command line: finds the command, and turns what it raises into one line and an exit code.

Exit codes: 0 done, 1 the run failed, 2 the input is wrong, 130 stopped by the user. Commands
are imported when they are called, so that listing and help cost no torch.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn, final

import click

from ebmcore.errors import EbmcoreError, EbmcoreWarning, InputError, RunStopped

JOURNEYS = """\
Sample an energy:  python -c "import ebmcore as ebm; help(ebm.sample)"
Run a file:        ebmcore plan FILE.toml, then ebmcore run FILE.toml      (what is installed: ebmcore plugins)
Write a plugin:    ebmcore new-plugin sampler NAME, then ebmcore plugins check NAME"""

NO_PLUGIN = "EBMCORE_NO_PLUGIN"
"""What blocks plugins, in this process and in those that it starts; --no-plugin adds to it."""

_COMMANDS = {
    **{name: f"ebmcore.cli.{name}:{name}" for name in ("plan", "plugins", "run", "schema", "show", "verify")},
    "new-plugin": "ebmcore.cli.new_plugin:new_plugin",
}


def main(args: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        args: The words after `ebmcore`; those of the process if left out.
    """
    wanted = {"debug": False, "blocked": ()}
    before = os.environ.get(NO_PLUGIN)
    with warnings.catch_warnings():
        warnings.showwarning = _one_line_warning(warnings.showwarning)
        try:
            code = _root.main(args, prog_name="ebmcore", standalone_mode=False, obj=wanted)
        except (Exception, KeyboardInterrupt) as error:
            if wanted["debug"]:
                traceback.print_exc()
            message, code = _message_and_code(error)
            click.echo(f"error: {' '.join(message.splitlines())}", err=True)
    if wanted["blocked"]:
        _set_blocked(before)
    return code if isinstance(code, int) else 0


def _message_and_code(error: BaseException) -> tuple[str, int]:
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        see = f" See: {context.command_path} --help" if context else ""
        return f"{error.format_message()}{see}", error.exit_code
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return "stopped by the user; what was committed stays.", 130
    if isinstance(error, RunStopped):
        return str(error), 130
    if isinstance(error, EbmcoreError):
        return str(error), 2 if isinstance(error, InputError) else 1
    fix = "This is a bug in ebmcore or a plugin: rerun with --debug to see where."
    return f"{type(error).__name__}: {error}. {fix}", 1


def common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --debug and --no-plugin, which work before and after the command's name."""
    debug = click.option(
        "--debug",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_set_debug,
        help="Show the traceback of an error.",
    )
    no_plugin = click.option(
        "--no-plugin",
        metavar="NAME",
        multiple=True,
        is_eager=True,
        expose_value=False,
        callback=_block,
        help="Block a plugin (NAME or KIND:NAME) or a distribution; may be repeated.",
    )
    return debug(no_plugin(command))


def _set_debug(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.obj["debug"] |= value


def _block(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> None:
    if value:
        context.obj["blocked"] += value
        _set_blocked(",".join([*filter(None, [os.environ.get(NO_PLUGIN)]), *value]))


def _set_blocked(names: str | None) -> None:
    from ebmcore.registry import renew

    if names is None:
        os.environ.pop(NO_PLUGIN, None)
    else:
        os.environ[NO_PLUGIN] = names
    renew()


@final
class _Commands(click.Group):
    """The commands of the host, then any program named `ebmcore-NAME` on PATH, as git and cargo do."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _COMMANDS:
            _become_program(args[0], args[1:])
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, help="Print the version and leave.")
@common_options
@click.pass_context
def _root(context: click.Context, version: bool) -> None:
    """Run any sampler on any energy, for any number of chains.

    A command that is not listed here is the program `ebmcore-COMMAND` on PATH.
    """
    if version:
        from importlib_metadata import version as version_of

        click.echo(f"ebmcore {version_of('ebmcore')}")
        context.exit()
    if context.invoked_subcommand is None:
        click.echo(JOURNEYS)


def _become_program(name: str, args: list[str]) -> NoReturn:
    # A name with a slash would be looked up as a path.
    program = shutil.which(f"ebmcore-{name}") if re.fullmatch(r"[\w.-]+", name) else None
    if program is None:
        raise InputError(_unknown(name))
    sys.stdout.flush()
    os.execv(program, [program, *args])


def _unknown(name: str) -> str:
    near = get_close_matches(name, _COMMANDS, n=1)
    if near:
        hint = f"Did you mean 'ebmcore {near[0]}'?"
    elif name.endswith(".toml"):
        hint = f"Did you mean 'ebmcore run {name}'?"
    else:
        hint = f"No program named 'ebmcore-{name}' is on PATH either."
    return f"ebmcore has no command named '{name}'. {hint} Commands: {', '.join(sorted(_COMMANDS))}."


def _one_line_warning(show: Callable[..., None]) -> Callable[..., None]:
    """Return a `warnings.showwarning` that prints ebmcore's own warnings without the line of code that gave them."""

    def one_line(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
        if issubclass(category, EbmcoreWarning):
            click.echo(f"warning: {message}", err=True)
        else:
            show(message, category, *rest, **named)

    return one_line
