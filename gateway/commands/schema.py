"""`gateway schema`: what documents may say, as editors want it."""

import argparse
import json

from gateway.commands.arguments import Commands
from gateway.settings import Settings
from tenants.documents import KINDS
from tenants.schema import schema


def add(commands: Commands) -> None:
    parser = commands.add_parser("schema", help="a JSON Schema of documents, for editors")
    parser.set_defaults(run=_schema)
    parser.add_argument("--kind", choices=KINDS, help="of this kind alone (default: of any)")


async def _schema(_: Settings, given: argparse.Namespace) -> int:
    print(json.dumps(schema([given.kind] if given.kind else KINDS), indent=2))
    return 0
