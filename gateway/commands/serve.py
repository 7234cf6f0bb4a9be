"""`gateway serve`: a gateway for what the directory and the documents of its configuration say."""

import argparse
import json
import secrets
from typing import Final

import msgspec

from gateway.commands.apply import applied, tell
from gateway.commands.arguments import Commands, Parser, add_doors
from gateway.commands.files import documents
from gateway.commands.printing import doors, over_grpc, program, progress
from gateway.frontends.sockets import Addresses
from gateway.settings import Settings
from gateway.supervision.plan import Part, Ready

_MOST_WORKERS: Final = 64


def add(commands: Commands, common: Parser) -> None:
    parser = commands.add_parser("serve", parents=[common], help="serve the models of a configuration")
    parser.set_defaults(run=_serve)
    add_doors(parser)
    parser.add_argument(
        "--workers",
        type=_workers,
        default=1,
        metavar="N",
        help="processes that serve clients (default: 1, without another one beside it)",
    )
    parser.add_argument(
        "--part", type=_part, help=argparse.SUPPRESS
    )  # what a process of several is told by the one that starts it


async def _serve(settings: Settings, given: argparse.Namespace) -> int:
    if given.part is not None:
        from gateway.supervision.member import serve_part

        await serve_part(settings, given.part)
        return 0
    if settings.documents is not None:
        tell(await applied(settings, documents(settings.documents)))
    if given.workers > 1:
        return await _supervise(settings, given)
    from gateway.app import opened, serve

    async with opened(settings, progress=progress) as gateway:
        await serve(gateway, lambda found: _announce(found, settings, given))
    return 0


async def _supervise(settings: Settings, given: argparse.Namespace) -> int:
    from gateway.scaling.scalers.process import free_port
    from gateway.supervision.host import supervise
    from gateway.supervision.supervisor import StartFailed

    def started(said: list[Ready]) -> None:
        side, worker, *_ = said
        _announce(Addresses(worker.address, side.address, worker.grpc), settings, given)

    try:
        await supervise(settings, given.workers, free_port=lambda: free_port(secrets.choice), started=started)
    except StartFailed as fault:
        return fault.code
    return 0


def _announce(found: Addresses, settings: Settings, given: argparse.Namespace) -> None:
    if given.json:
        print(json.dumps(doors(found)), flush=True)
        return
    gateway = program()
    where = f"--config {given.config}" if given.config else f"--state {settings.state}"
    print(
        f"The gateway is at {found.http}, for operators at {found.operator}.\n{over_grpc(found)}"
        f"A tenant and a key for it:\n\n  {gateway} tenants create NAME {where}\n  {gateway} keys create --tenant NAME {where}\n\n"
        "Ctrl-C ends the gateway and every Triton that it started.",
        flush=True,
    )


def _workers(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= _MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of workers; write 1 to {_MOST_WORKERS}")
    return int(text)


def _part(text: str) -> Part:
    try:
        return msgspec.json.decode(text, type=Part)
    except (msgspec.DecodeError, UnicodeEncodeError) as fault:
        raise argparse.ArgumentTypeError("is for processes that gateway serve starts") from fault
