"""The composition root's other half, which every command needs: a state directory with what is in it, clocks and ids."""

import asyncio
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway import __version__
from gateway.audit.verify import Report, verify
from gateway.auth.key_sets import Fetcher
from gateway.envelope import trying
from gateway.envelope.caretaker import Caretaker, missing
from gateway.envelope.keyring import Keyring
from gateway.envelope.keyring import Knobs as Keeping
from gateway.envelope.keys import KEY_BYTES
from gateway.envelope.ports import KeyService
from gateway.envelope.restoring import PutBack, put_back
from gateway.loops import jobs
from gateway.settings import Settings
from gateway.stores import backup, key_backup
from gateway.stores.blobs import FileBlobs
from gateway.stores.files import FileSegments, SegmentBytes
from gateway.stores.sqlite import SqliteTable, holds_rows
from tenants.directory import Directory
from tenants.errors import TenantsError
from tenants.ports import Table

if TYPE_CHECKING:
    from gateway.audit.ledger import Ledger
    from gateway.kept.once import Once
    from gateway.stores import key_file

log = logging.getLogger(__name__)

# Of a state: the wrapped data keys, the claims of Idempotency-Keys, the file of the keys that wrap data keys, and what tells that file
# from another one.
WRAPPED: Final = key_backup.TABLE
ONCE: Final = "once.sqlite"
KEY_FILE: Final = "keys.json"
KEY_CHECK: Final = key_backup.CHECK


def now_us() -> int:
    """Microseconds since the Unix epoch, UTC."""
    return time.time_ns() // 1_000


# Seconds on a clock that never runs backwards.
clock: Callable[[], float] = time.monotonic  # noqa: TID251 - the composition root hands it out

# The same, and it counts while the machine sleeps: for what must not be older than it looks.
boot_clock: Callable[[], float] = partial(time.clock_gettime, time.CLOCK_BOOTTIME)


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


@asynccontextmanager
async def opened_key_service(settings: Settings) -> AsyncIterator[KeyService]:
    """What wraps the data keys of this state: AWS KMS where the settings name a key of it, else a key file. Raises OSError, whose text says
    what to do, for a key file that is lost, another one, damaged or not its owner's alone, and without the SDK of AWS; TableUnavailable,
    UnknownFormat when nobody can tell whether there are wrapped keys already. KMS out of reach stops no start.
    """
    keys = settings.keys
    if keys.kms_key:
        async with _kms(settings) as service:
            yield service
        return
    from gateway.stores import key_file  # what it takes is long to load, and most commands need no key

    state_folder(settings)
    yield key_file.opened(_key_file(settings), secrets.token_bytes, now_us)


def key_service_name(settings: Settings) -> str:
    """What wraps the data keys, for people."""
    return (
        f"AWS KMS with {settings.keys.kms_key}"
        if settings.keys.kms_key
        else f"the key file {key_file_path(settings)}"
    )


async def try_key_service(settings: Settings) -> None:
    """What wraps the data keys wraps and unwraps now. Nothing is made. Raises what `opened_key_service` and a KeyService do;
    FileNotFoundError where the first start makes a key file.
    """
    async with _found_key_service(settings) as service:
        await trying.attempt(service, new_id(), secrets.token_bytes(KEY_BYTES))


async def tried_own_keys(settings: Settings) -> Mapping[trying.Own, Exception | None]:
    """The same of each tenant's own KMS key: None, or why it does not wrap and unwrap. Raises OSError, TenantsError."""
    if not has_directory(settings):
        return {}
    async with opened_directory(settings) as directory:
        own = await trying.own_keys(directory.data_keys)
    if not own:
        return {}
    async with _found_key_service(settings) as service:
        return await trying.attempts(service, own, new_id(), secrets.token_bytes(KEY_BYTES))


def create_key_file(settings: Settings) -> str:
    """A new key file is where the settings have it; gives the id of its key. Raises OSError, and then nothing was changed."""
    from gateway.stores import key_file

    path = _wanted_key_file(settings)
    state = state_folder(settings) if settings.keys.file is None else settings.state
    if holds_rows(state / WRAPPED):
        raise key_file.KeyFileUnfit(
            f"data keys of this state are wrapped already, and a new key file opens none of them: restore {path} from its back-up"
        )
    try:
        return key_file.create(path, secrets.token_bytes, now_us()).id
    except FileExistsError:
        raise key_file.KeyFileUnfit(
            f"there is a key file {path} already; `gateway key-file add` gives it a new key"
        ) from None


def add_to_key_file(settings: Settings) -> str:
    """The key file has a new key, which wraps from now on; gives its id. Raises OSError, and then nothing was changed."""
    from gateway.stores import key_file

    return key_file.add(_wanted_key_file(settings), secrets.token_bytes, now_us()).id


def keys_of_file(settings: Settings) -> list[tuple[str, int]]:
    """Id and time (microseconds since 1970) of each; the last one wraps. The file opens this state's data keys. Raises OSError."""
    _wanted_key_file(settings)
    return [(it.id, it.made_us) for it in _found_key_file(settings).keys]


def key_file_path(settings: Settings) -> Path:
    """Where the key file is, or would be."""
    return settings.keys.file or settings.state.resolve() / KEY_FILE


def _wanted_key_file(settings: Settings) -> Path:
    """Raises KeyFileUnfit."""
    from gateway.stores import key_file

    if settings.keys.kms_key:
        raise key_file.KeyFileUnfit(
            "keys.kms_key is set: AWS KMS wraps the data keys, and no key file is used"
        )
    return key_file_path(settings)


def _found_key_file(settings: Settings) -> "key_file.KeyFile":
    from gateway.stores import key_file

    return key_file.found_at(_key_file(settings), secrets.token_bytes)


def _key_file(settings: Settings) -> "key_file.Place":
    from gateway.stores import key_file

    state, named = settings.state.resolve(), settings.keys.file
    return key_file.Place(
        key_file_path(settings), state / KEY_CHECK, named is not None, holds_rows(state / WRAPPED)
    )


class DataKeys(NamedTuple):
    """Of a gateway: the keys that it has, and who looks after those that are stored."""

    keyring: Keyring
    caretaker: Caretaker


@asynccontextmanager
async def opened_data_keys(
    settings: Settings, directory: Directory, confirmed_at: Callable[[], float]
) -> AsyncIterator[DataKeys]:
    """The data keys of this state. `confirmed_at`: since when, on the boot clock, all that the directory told is known. Raises what
    `opened_key_service` does.
    """
    keys = settings.keys
    async with (
        opened_key_service(settings) as service,
        SqliteTable(state_folder(settings) / WRAPPED, erases=True) as wrapped,
        jobs() as spawn,
    ):
        spawn("missing data keys", _tell_missing(directory, wrapped))
        yield DataKeys(
            Keyring(
                directory.data_keys,
                wrapped,
                service,
                clock=boot_clock,
                confirmed_at=confirmed_at,
                now_us=now_us,
                entropy=secrets.token_bytes,
                spawn=spawn,
                knobs=Keeping(keys.cache_seconds, keys.refresh_seconds, keys.retry_seconds),
            ),
            Caretaker(directory.data_keys, wrapped, service, now_us),
        )


async def _tell_missing(directory: Directory, wrapped: Table) -> None:
    """A line of the log, beside the requests: what those keys sealed cannot be read, all else is served."""
    try:
        found = await missing(directory.data_keys, wrapped)
    except TenantsError as fault:
        log.warning("whether all data keys have their wrapped bytes cannot be told: %s", fault)
        return
    if found:
        log.error(
            "%d data keys lack their wrapped bytes, as after a restore without %s: what they sealed cannot be read until its back-up is "
            "in the state again",
            found,
            WRAPPED,
        )


def _found_key_service(settings: Settings) -> AbstractAsyncContextManager[KeyService]:
    """What wraps the data keys, for a command: nothing is made."""
    return _kms(settings) if settings.keys.kms_key else nullcontext(_found_key_file(settings))


def _kms(settings: Settings) -> AbstractAsyncContextManager[KeyService]:
    from gateway.stores.kms_aws import AwsKms  # it loads an SDK

    keys = settings.keys
    return AwsKms(keys.kms_key, keys.answer_seconds, keys.kms_endpoint)


def opened_segments(settings: Settings) -> FileSegments:
    """The audit log's segments of this state; to be entered."""
    return FileSegments(state_folder(settings) / backup.AUDIT, size_bytes=settings.audit.segment_bytes)


def opened_blobs(settings: Settings) -> FileBlobs:
    """What is kept in this state of requests and replies; to be entered."""
    return FileBlobs(state_folder(settings) / backup.BLOBS)


@asynccontextmanager
async def opened_once(settings: Settings, keyring: Keyring) -> "AsyncIterator[Once]":
    """The claims of this state, and the answers that are kept for them. Raises TableUnavailable, UnknownFormat, BlobsUnavailable."""
    from gateway.kept.once import Once  # which loads the ciphers, that few commands need

    async with (
        SqliteTable(state_folder(settings) / ONCE) as table,
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


@asynccontextmanager
async def opened_openers(settings: Settings) -> AsyncIterator[Keyring]:
    """What opens what is sealed in this state, for a command: no feed tells it anything, so it asks the directory. No key file is made.
    Raises as `opened_key_service`, also where that would make one.
    """
    from gateway.stores import key_file

    try:
        found = _found_key_service(settings)
    except FileNotFoundError:
        raise key_file.KeyFileUnfit(
            f"there is no key file {key_file_path(settings)} and no wrapped data key: restore it and {WRAPPED} from their back-ups, as "
            "nothing that is sealed can be opened without them"
        ) from None
    async with (
        opened_directory(settings) as directory,
        SqliteTable(state_folder(settings) / WRAPPED, erases=True) as wrapped,
        found as service,
        jobs() as spawn,
    ):
        yield Keyring(
            directory.data_keys,
            wrapped,
            service,
            clock=clock,
            confirmed_at=lambda: -math.inf,
            now_us=now_us,
            entropy=secrets.token_bytes,
            spawn=spawn,
        )


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


def backed_up_keys(
    settings: Settings, to: Path, told: Callable[[str], None]
) -> tuple[key_backup.KeysBackup, list[Path]]:
    """There is one more back-up of this state's wrapped data keys in `to`, and those that were too old are gone. Raises as `backed_up`."""
    days, at_us, state = settings.keys.backup_days, now_us(), settings.state.resolve()
    made = key_backup.back_up(
        state, to.absolute(), made_us=at_us, backup_days=days, program=__version__, told=told
    )
    return made, key_backup.pruned(to.absolute(), now_us=at_us, backup_days=days)


async def restored_keys(settings: Settings, source: Path) -> tuple[Path, PutBack]:
    """What a back-up has of wrapped data keys is in this state, but for what is destroyed; what is there stays as it is. Repeating it does
    the rest. Raises OSError, TableUnavailable, UnknownFormat, Unreadable.
    """
    state, at_us, days = settings.state.resolve(), now_us(), settings.keys.backup_days
    place, found = key_backup.prepared(source, state, now_us=at_us, backup_days=days)
    async with opened_directory(settings) as directory, SqliteTable(state / WRAPPED, erases=True) as table:
        return place, await put_back(directory.data_keys, table, found, at_us)
