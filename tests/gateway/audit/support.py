"""A ledger over the world of segments, with a clock and ids that tests can foresee."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count

import msgspec
import pytest

from gateway.audit.ledger import Denial, Intent, IntentBody, Knobs, Ledger, Outcome
from gateway.audit.ports import SegmentStore
from gateway.audit.record import Entry, Record, digest
from gateway.audit.segment import StoredRecord, scan
from tests.worlds.segments import SegmentWorld

NOW_US = 1_700_000_000_000_000
DONE = Outcome(status="done", http_status=200, requests=1, bytes=7)
DEEP = b"[" * 100_000 + b"]" * 100_000
bad_openings = pytest.mark.parametrize(
    "body",
    [b"", b"null", b'{"previous":[{"segment":"\xff","commits":1,"chain":""}]}', b'{"later":' + DEEP + b"}"],
    ids=["empty", "null", "no UTF-8", "too deep"],
)
QUICK = Knobs(stall_seconds=30, retry_seconds=0, ride_seconds=0, count_seconds=30)
_ids = count()


def new_id() -> str:
    """Ascending, so that segments sort by age, and unique across the processes of one test."""
    return f"{next(_ids):08d}"


@asynccontextmanager
async def opened(store: SegmentStore, knobs: Knobs = QUICK) -> AsyncIterator[Ledger]:
    """Without a committer: what waits goes on waiting until the end."""
    async with Ledger.open(store, clock=lambda: NOW_US, new_id=new_id, knobs=knobs) as ledger:
        yield ledger


@asynccontextmanager
async def running(store: SegmentStore, knobs: Knobs = QUICK) -> AsyncIterator[Ledger]:
    async with opened(store, knobs) as ledger, asyncio.TaskGroup() as group:
        committer = group.create_task(ledger.run())
        yield ledger
        committer.cancel()


def intend(ledger: Ledger, request: str) -> Intent:
    body = IntentBody(tenant_name="acme", key_name="ci", address="192.0.2.7", action="infer", protocol="oip")
    return ledger.intend(
        request=request, tenant="t_a", key="k_a", model="m_a", model_version="1", now_us=NOW_US, body=body
    )


def denial(*, tenant: str | None = None, address: str = "192.0.2.7", reason: str = "rate") -> Denial:
    return Denial(request="q", reason=reason, status=429, address=address, tenant=tenant, key="k_a")


def opening_of(body: bytes) -> Record:
    """A first record with this body, right in every other way."""
    entry = Entry(v=1, kind="segment", record="o1", at_us=NOW_US, body_sha256=digest(body))
    return Record(msgspec.json.encode(entry), body)


def records(world: SegmentWorld) -> list[StoredRecord]:
    """All that can be read, oldest segment first."""
    return [
        record
        for segment, data in sorted(world.everything().items())
        for commit in scan(segment, data).commits
        for record in commit.records
    ]


def entries(world: SegmentWorld, *kinds: str) -> list[Entry]:
    return [record.entry for record in records(world) if record.entry.kind in kinds]


def told(world: SegmentWorld, kind: str) -> Iterator[bytes]:
    return (record.body for record in records(world) if record.body is not None and record.entry.kind == kind)


async def spin(ticks: int = 20) -> None:
    """Lets everything that is ready run; no time passes."""
    for _ in range(ticks):
        await asyncio.sleep(0)


async def until(is_true: Callable[[], bool]) -> None:
    for _ in range(1_000_000):
        if is_true():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came true")


async def until_open(ledger: Ledger) -> None:
    await until(lambda: ledger.is_open)
