"""The work of `gateway audit show`, which loads what opens a body."""

import argparse
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Final

import msgspec

from gateway.audit.reading import Body, Found, Keys, body_of, of_request
from gateway.commands.printing import card, progress, remark, when
from gateway.envelope.keys import DataKey
from gateway.envelope.ports import KeysUnavailable
from gateway.settings import Settings
from gateway.state import audit_log, clock
from gateway.state_keys import opened_openers
from tenants.errors import NotFound, TenantsError

_TOLD_SECONDS: Final = 2.0


class _NoKeys:
    """Stands for a keyring that cannot be had; entries are shown all the same."""

    def __init__(self, why: str) -> None:
        self._why = why

    async def opening(self, tenant_id: str, key_id: str) -> DataKey:
        raise KeysUnavailable(self._why)


async def show(settings: Settings, given: argparse.Namespace) -> int:
    """1 where a body could not be opened for now. Raises NotFound, FileNotFoundError."""
    log = audit_log(settings)
    search = of_request(log, given.request, _progress(len(log)))
    for segment in search.damaged:
        remark(f"segment {segment} is damaged, and more may be in it: gateway audit verify says where")
    if not search.found:
        raise NotFound("record of request", given.request)
    async with AsyncExitStack() as stack:
        keys: Keys = _NoKeys("")
        if any(it.record.entry.sealed_with for it in search.found):
            try:
                keys = await stack.enter_async_context(opened_openers(settings))
            except (OSError, TenantsError) as fault:
                keys = _NoKeys(str(fault))
        bodies = [await body_of(it.record, keys) for it in search.found]
    if given.json:
        rows = [_whole(*each) for each in zip(search.found, bodies, strict=True)]
        print(json.dumps(rows))
    else:
        for number, (found, body) in enumerate(zip(search.found, bodies, strict=True)):
            print(end="\n" if number else "")
            card(_lines(found, body), given)
    return 1 if any(body.may_change for body in bodies) else 0


def _progress(total: int) -> Callable[[int], None]:
    last = clock()

    def told(number: int) -> None:
        nonlocal last
        if clock() - last >= _TOLD_SECONDS:
            last = clock()
            progress(f"read {number} of {total} segments")

    return told


def _whole(found: Found, body: Body) -> dict[str, Any]:
    return {
        "segment": found.segment,
        "entry": msgspec.to_builtins(found.record.entry),
        "body": body.value,
        "not_opened": body.why or None,
    }


def _lines(found: Found, body: Body) -> dict[str, Any]:
    """The entry with its time as people read it, then the body."""
    entry = msgspec.to_builtins(found.record.entry)
    said = {name: value for name, value in entry.items() if name not in ("v", "at_us")}
    told = body.why if body.why else body.value
    lines = {"time": when(found.record.entry.at_us), **said, "segment": found.segment, "body": told}
    shown: dict[str, Any] = _printable(lines)
    return shown


def _printable(value: Any) -> Any:
    """What a client sent moves no cursor."""
    if isinstance(value, dict):
        return {name: _printable(it) for name, it in value.items()}
    return json.dumps(value) if isinstance(value, str) and not value.isprintable() else value
