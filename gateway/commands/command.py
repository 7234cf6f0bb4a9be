"""How a command is declared and what it is given: each noun has a table of its commands, a row for each."""

import argparse
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from gateway.commands.arguments import Commands, Parser, actor, count, cursor, example
from gateway.settings import Settings
from gateway.state import now_us, opened_directory
from tenants.acts import Act
from tenants.directory import Directory

Run: TypeAlias = Callable[[Settings, argparse.Namespace], Coroutine[Any, Any, int]]
Argument: TypeAlias = "Callable[[argparse._ActionsContainer], object]"  # noqa: SLF001 - argparse has no public name for it


@dataclass(frozen=True, slots=True)
class Command:
    """`gateway NOUN NAME`; `example` is what may stand behind that."""

    name: str
    help: str
    run: Run
    arguments: tuple[Argument, ...] = ()
    example: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command over the directory is given: what was said, and who says it when and why."""

    directory: Directory
    settings: Settings
    given: argparse.Namespace
    act: Act

    @property
    def now_us(self) -> int:
        """The one time of this command."""
        return self.act.at_us


def asked(command: Callable[[Asked], Awaitable[int]]) -> Run:
    """The command, over the directory of the state that it is asked for."""

    async def run(settings: Settings, given: argparse.Namespace) -> int:
        act = Act(actor(), now_us(), getattr(given, "reason", ""))
        async with opened_directory(settings) as directory:
            return await command(Asked(directory, settings, given, act))

    return run


def argument(*names: str, **how: Any) -> Argument:
    """One, as argparse takes it."""
    return lambda parser: parser.add_argument(*names, **how)


def one_of(*arguments: Argument) -> Argument:
    """Exactly one of these."""

    def add(parser: "argparse._ActionsContainer") -> None:
        group = parser.add_mutually_exclusive_group(required=True)
        for each in arguments:
            each(group)

    return add


TENANT: Final = argument("--tenant", required=True, metavar="T", help="the tenant's name")
REASON: Final = argument("--reason", default="", metavar="TEXT", help="why; it is kept with the change")
PAGED: Final = (
    argument("--limit", type=count, metavar="N", help="at most so many (default: all)"),
    argument(
        "--after",
        type=cursor,
        metavar="C",
        help="only what comes behind this one, as a list with --limit says it",
    ),
)


def add_noun(commands: Commands, common: Parser, noun: str, about: str, table: Iterable[Command]) -> None:
    nouns = commands.add_parser(noun, help=about, description=about)
    under = nouns.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for it in table:
        parser = under.add_parser(it.name, parents=[common], help=it.help, description=it.help)
        parser.epilog = example(f"{noun} {it.name} {it.example}")
        parser.set_defaults(run=it.run)
        for add in it.arguments:
            add(parser)
