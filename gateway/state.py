"""The composition root's other half, which every command needs: a state directory with what is in it, clocks and ids."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway import __version__
from gateway.audit.verify import Report, verify
from gateway.auth.key_sets import Fetcher
from gateway.envelope.keyring import Keyring
from gateway.loops import jobs
from gateway.settings import Settings
from gateway.stores import backup
from gateway.stores.blobs import FileBlobs
from gateway.stores.files import FileSegments, SegmentBytes
from gateway.stores.sqlite import SqliteTable
from tenants.directory import Directory

if TYPE_CHECKING:
    from gateway.audit.ledger import Ledger
    from gateway.kept.once import Once

log = logging.getLogger(__name__)

ONCE: Final = "once.sqlite"
"""Of a state: the claims of Idempotency-Keys."""
LIVE: Final = "live.sqlite"
"""Of a state: what its processes tell one another, and is worth nothing once all of them have ended."""
_LIVE_BUSY_SECONDS: Final = 1.0  # nobody waits for longer, and the next write stands in line behind it

RUN: Final = "run"
"""Of a state: the sockets that its processes reach one another by."""
TRITON: Final = "triton"
"""Of a state: the servers of this host, who lives here and who has charge of them."""


def now_us() -> int:
    """Microseconds since the Unix epoch, UTC."""
    return time.time_ns() // 1_000


# Seconds on a clock that never runs backwards.
clock: Callable[[], float] = time.monotonic  # noqa: TID251 - the composition root hands it out

# The same, and it counts while the machine sleeps: for what must not be older than it looks.
boot_clock: Callable[[], float] = partial(time.clock_gettime, time.CLOCK_BOOTTIME)


def boot_us() -> int:
    """The same in whole microseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000


def _ids() -> Iterator[str]:
    """One system call gives random bytes for 256 ids: a request needs three, and each is never given twice."""
    while True:
        block = secrets.token_bytes(16 * 256).hex()
        for start in range(0, len(block), 32):
            yield block[start : start + 32]


# 32 lower hex characters that nobody can guess.
new_id: Callable[[], str] = _ids().__next__


def state_folder(settings: Settings) -> Path:
    """The state directory, made for its owner alone. Raises PermissionError for one that others may enter."""
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = settings.state.resolve()
    if state.stat().st_mode & 0o077:
        raise PermissionError(
            f"others may enter {state}, and it is to hold keys: chmod 700 it, or name another --state"
        )
    return state


def has_directory(settings: Settings) -> bool:
    """Whether there is a tenants' directory in this state already."""
    return (settings.state / backup.TABLE).exists()


@asynccontextmanager
async def opened_directory(settings: Settings) -> AsyncIterator[Directory]:
    """The tenants' directory over this state."""
    async with SqliteTable(state_folder(settings) / backup.TABLE) as table:
        directory = Directory(table, secrets.token_bytes, has_kms=bool(settings.keys.kms_key))
        await directory.repair()
        yield directory


def opened_segments(settings: Settings) -> FileSegments:
    """The audit log's segments of this state; to be entered."""
    return FileSegments(state_folder(settings) / backup.AUDIT, size_bytes=settings.audit.segment_bytes)


def opened_blobs(settings: Settings) -> FileBlobs:
    """What is kept in this state of requests and replies; to be entered."""
    return FileBlobs(state_folder(settings) / backup.BLOBS)


def opened_live(settings: Settings) -> SqliteTable:
    """Who is here, who leads, what is shared out and placed where; to be entered. Not durable, not backed up: without it all begin anew."""
    return SqliteTable(state_folder(settings) / LIVE, busy_seconds=_LIVE_BUSY_SECONDS, durable=False)


def opened_usage(settings: Settings) -> SqliteTable:
    """What was used and what is left of budgets; to be entered. Durable, and backed up."""
    return SqliteTable(state_folder(settings) / backup.USAGE)


def usage_log(settings: Settings) -> Callable[[], SegmentBytes]:
    """What gives the audit log as it is at that moment, to be counted; empty where there is none yet."""
    folder = state_folder(settings) / backup.AUDIT
    return lambda: SegmentBytes(folder, may_lack=True)


def opened_claims(settings: Settings) -> SqliteTable:
    """The claims of this state, as they are stored; to be entered."""
    return SqliteTable(state_folder(settings) / ONCE)


@asynccontextmanager
async def opened_once(settings: Settings, keyring: Keyring) -> "AsyncIterator[Once]":
    """The claims of this state, and the answers that are kept for them. Raises TableUnavailable, UnknownFormat, BlobsUnavailable."""
    from gateway.kept.once import Once  # which loads the ciphers, that few commands need

    async with (
        opened_claims(settings) as table,
        opened_blobs(settings) as blobs,
        jobs() as spawn,
    ):
        yield Once(table, blobs, keyring, now_us, secrets.token_bytes, spawn)


@asynccontextmanager
async def opened_ledger(settings: Settings, keyring: Keyring) -> "AsyncIterator[Ledger]":
    """The audit log of this state, to be written; what is of a tenant is sealed. Raises SinkFailed."""
    from gateway.audit.ledger import Knobs, Ledger  # which loads the ciphers, that few commands need

    knobs = Knobs(stall_seconds=settings.audit.stall_seconds)
    async with (
        opened_segments(settings) as segments,
        Ledger.open(segments, clock=now_us, new_id=new_id, knobs=knobs, keyring=keyring) as ledger,
    ):
        for segment in ledger.damaged:
            log.error(
                "audit segment %s is damaged and was left as it is; `gateway audit verify` says where",
                segment,
            )
        yield ledger


@dataclass(slots=True)
class _Web:
    """What fetches the keys of issuers. It takes a tenth of a second and 10 MiB to load, and many a gateway has no issuer: so the first
    fetch loads it, in a thread, and requests go on meanwhile."""

    answer_seconds: float
    _opened: Fetcher | None = None

    async def get(self, url: str, *, insecure: bool, most_bytes: int) -> bytes:
        if self._opened is None:
            self._opened = await asyncio.to_thread(_loaded_web, self.answer_seconds)
        return await self._opened.get(url, insecure=insecure, most_bytes=most_bytes)


def opened_web(answer_seconds: float) -> Fetcher:
    """What fetches the keys of issuers."""
    return _Web(answer_seconds)


def _loaded_web(answer_seconds: float) -> Fetcher:
    from gateway.stores.web import Web

    return Web(answer_seconds=answer_seconds)


def audit_log(settings: Settings) -> SegmentBytes:
    """The audit log of this state for somebody who only reads, also while it is written. Raises FileNotFoundError without one."""
    folder = settings.state / backup.AUDIT
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no audit log in {settings.state.resolve()}; name its state with --state"
        )
    return SegmentBytes(folder)


def verified(settings: Settings) -> Report:
    """What the audit log of this state amounts to, also while it is written. Changes nothing. Raises FileNotFoundError without one."""
    segments = audit_log(settings)
    return verify(segments, unfinished=segments.owned())


def backed_up(settings: Settings, to: Path, told: Callable[[str], None]) -> backup.Manifest:
    """A whole back-up of this state is at `to`, also while gateways run. Raises OSError, TableUnavailable, UnknownFormat."""
    return backup.back_up(
        settings.state.resolve(), to.absolute(), made_us=now_us(), program=__version__, told=told
    )


def restored(settings: Settings, source: Path, told: Callable[[str], None]) -> backup.Manifest:
    """This state is what was backed up. Raises OSError, and then nothing was changed."""
    return backup.restore(source.absolute(), settings.state.resolve(), told=told)
