"""`gateway serve`: a gateway for what the directory and the documents of its configuration say."""

import argparse
import json
from typing import TYPE_CHECKING

from gateway.commands.apply import applied, tell
from gateway.commands.arguments import Commands, Parser, add_doors
from gateway.commands.files import documents
from gateway.commands.printing import doors, over_grpc, program, progress
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.app import Addresses


def add(commands: Commands, common: Parser) -> None:
    parser = commands.add_parser("serve", parents=[common], help="serve the models of a configuration")
    parser.set_defaults(run=_serve)
    add_doors(parser)
    parser.add_argument(
        "--workers", type=_workers, default=1, metavar="N", help="processes; only 1 is built yet"
    )


async def _serve(settings: Settings, given: argparse.Namespace) -> int:
    from gateway.app import opened, serve

    if settings.documents is not None:
        tell(await applied(settings, documents(settings.documents)))
    async with opened(settings, progress=progress) as gateway:
        await serve(gateway, lambda found: _announce(found, settings, given))
    return 0


def _announce(found: "Addresses", settings: Settings, given: argparse.Namespace) -> None:
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
    if text != "1":
        raise argparse.ArgumentTypeError(
            f"{text!r} workers are not built yet, only 1; more gateways may serve one state directory, each with limits of its own"
        )
    return 1
