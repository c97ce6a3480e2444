"""``python -m cli.reference``: write ``docs/commands.md`` from the commands. ``--check`` compares it instead."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer.main
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from api.generated import write_or_compare
from cli.app import app

PAGE = Path(__file__).parent.parent / "docs" / "commands.md"
HEAD = """\
# Commands

After this page you know every command of `outlast` with its options. It is generated from `cli/app.py` by
`python -m cli.reference`. [The command line](cli.md) says when to use which, and what the exit codes mean.

These options come before the command's name:
"""


def page() -> str:
    """Write the whole page."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    parts = [HEAD, *_table(group.params)]
    for name, command in group.commands.items():
        assert isinstance(command, TyperCommand)
        parts += [f"## `outlast {name}`\n", f"{_sentence(command.help)}\n", f"    outlast {_usage(name, command)}\n"]
        parts += _table(command.params)
    return "\n".join(parts).rstrip() + "\n"


def _usage(name: str, command: TyperCommand) -> str:
    arguments = [param for param in command.params if isinstance(param, TyperArgument)]
    places = [_place(param) if param.required else f"[{_place(param)}]" for param in arguments]
    return " ".join([name, *places, *(["[OPTIONS]"] if len(places) < len(command.params) else [])])


def _table(params: Sequence[object]) -> Iterator[str]:
    shown = [param for param in params if isinstance(param, (TyperArgument, TyperOption)) and not param.hidden]
    if not shown:
        return
    yield "| option | default | what it is |"
    yield "|---|---|---|"
    for param in shown:
        yield f"| {_names(param)} | {_default(param)} | {_sentence(param.help)} |"
    yield ""


def _names(param: TyperArgument | TyperOption) -> str:
    if isinstance(param, TyperArgument):
        return f"`{_place(param)}`"
    return ", ".join(f"`{name}`" for name in [*param.opts, *param.secondary_opts])


def _place(param: TyperArgument) -> str:
    return str(param.metavar or param.name or "").upper()


def _default(param: TyperArgument | TyperOption) -> str:
    return "" if param.default in (None, False, "") or callable(param.default) else f"`{param.default}`"


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def main(words: list[str] | None = None) -> int:
    """Write the page, or compare it; return the exit code."""
    return write_or_compare("cli.reference", {PAGE: page()}, words)


if __name__ == "__main__":
    sys.exit(main())
