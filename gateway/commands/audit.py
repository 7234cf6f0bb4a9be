"""`gateway audit`: who changed what, whether the log of calls is whole, and what it says of one."""

import argparse
import json
import re
from typing import Final

import msgspec

from gateway.commands.command import PAGED, Asked, Command, argument, asked
from gateway.commands.printing import Row, show_all, when
from gateway.settings import Settings
from gateway.state import verified
from tenants.directory import Page
from tenants.events import Event


@asked
async def _events(it: Asked) -> int:
    tenant = it.given.tenant

    async def listing(after: str | None, limit: int) -> Page[Event]:
        if tenant is None:
            return await it.directory.values.events(after, limit)
        return await it.directory.tenants.events(tenant, after, limit)

    return await show_all(it.given, listing, _whole if it.given.json else _row)


def _row(event: Event) -> Row:
    return {
        "time": when(event.at_us),
        "actor": event.actor,
        "action": event.action,
        "subject": event.subject,
        "reason": event.reason,
    }


def _whole(event: Event) -> Row:
    images = {"before": json.loads(bytes(event.before)), "after": json.loads(bytes(event.after))}
    return {"id": event.id, "sequence": event.sequence, **_row(event), **images}


async def _verify(settings: Settings, given: argparse.Namespace) -> int:
    report = verified(settings)
    if given.json:
        print(msgspec.json.encode(report).decode())
    elif report.fault is None:
        print(
            f"The log is whole: {report.records} records in {report.segments} segments, {report.intents} intents, "
            f"{report.outcomes} outcomes, {report.open} open; {report.forgotten} bodies are forgotten."
        )
    else:
        fault = report.fault
        print(
            f"The log is damaged. First bad record: segment {fault.segment}, commit {fault.commit}, "
            f"record {fault.record_id or fault.record}: {fault.reason}. {report.records} records before it are good."
        )
    return 1 if report.fault else 0


async def _show(settings: Settings, given: argparse.Namespace) -> int:
    from gateway.commands.audit_show import (
        show,
    )  # what opens a body is long to load, and the others need it not

    return await show(settings, given)


def _request(text: str) -> str:
    if not _REQUEST.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no request's id, as x-request-id has it")
    return text


_REQUEST: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")
_TENANT: Final = argument(
    "--tenant", metavar="T", help="what was changed of this tenant (default: what is of no tenant)"
)

COMMANDS: Final = (
    Command(
        "events",
        "who changed what, when and why, oldest first",
        _events,
        (_TENANT, *PAGED),
        "--tenant acme --limit 20",
    ),
    Command(
        "show",
        "all that the log of calls says of one request, its sealed bodies opened",
        _show,
        (
            argument(
                "request", type=_request, metavar="REQUEST", help="its id, the x-request-id of its reply"
            ),
        ),
        "0f8fad5bd9cb469fa16570867728950e",
    ),
    Command(
        "verify", "prove the log of calls whole, or name its first bad record", _verify, example="--json"
    ),
)
