"""`gateway doctor`: what this machine, this state and this configuration lack, and what to do about it."""

import argparse
import json

from gateway.commands.arguments import Commands, Parser
from gateway.settings import Settings


def add(commands: Commands, common: Parser) -> None:
    parser = commands.add_parser(
        "doctor", parents=[common], help="what is missing here, and what installs it"
    )
    parser.set_defaults(run=_doctor)


async def _doctor(settings: Settings, given: argparse.Namespace) -> int:
    from gateway.commands.examination import examined  # what it looks at takes long to import

    findings = await examined(settings)
    if given.json:
        print(json.dumps([{"what": it.what, "ok": it.ok, "advice": it.advice} for it in findings]))
    else:
        for it in findings:
            print(f"{'ok  ' if it.ok else 'FAIL'}  {it.what}")
            if not it.ok:
                print("".join(f"      {line}\n" for line in it.advice.splitlines()), end="")
    return 0 if all(it.ok for it in findings) else 1
