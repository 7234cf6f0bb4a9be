"""`gateway audit`: the audit log."""

import argparse

import msgspec

from gateway.commands.arguments import Parser
from gateway.settings import Settings
from gateway.state import verified


def add(parser: Parser, common: Parser) -> None:
    check = parser.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "verify", parents=[common], help="prove the log whole, or name its first bad record"
    )
    check.set_defaults(run=_verify)


async def _verify(settings: Settings, given: argparse.Namespace) -> int:
    report = verified(settings)
    if given.json:
        print(msgspec.json.encode(report).decode())
    elif report.fault is None:
        print(
            f"The log is whole: {report.records} records in {report.segments} segments, {report.intents} intents, "
            f"{report.outcomes} outcomes, {report.open} open."
        )
    else:
        fault = report.fault
        print(
            f"The log is damaged. First bad record: segment {fault.segment}, commit {fault.commit}, "
            f"record {fault.record_id or fault.record}: {fault.reason}. {report.records} records before it are good."
        )
    return 1 if report.fault else 0
