"""The keys of a state: what wraps its data keys, the file of that or KMS, and the data keys themselves, opened for whoever needs them."""

import logging
import math
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway import __version__
from gateway.envelope import trying
from gateway.envelope.caretaker import Caretaker, missing
from gateway.envelope.keyring import Keyring
from gateway.envelope.keyring import Knobs as Keeping
from gateway.envelope.keys import KEY_BYTES
from gateway.envelope.ports import KeyService
from gateway.envelope.restoring import PutBack, put_back
from gateway.loops import jobs
from gateway.settings import Settings
from gateway.state import boot_clock, clock, has_directory, new_id, now_us, opened_directory, state_folder
from gateway.stores import key_backup
from gateway.stores.sqlite import SqliteTable, holds_rows
from tenants.directory import Directory
from tenants.errors import TenantsError
from tenants.ports import Table

if TYPE_CHECKING:
    from gateway.stores import key_file

log = logging.getLogger(__name__)

# Of a state: the wrapped data keys, the file of the keys that wrap them, and what tells that file from another one.
WRAPPED: Final = key_backup.TABLE
KEY_FILE: Final = "keys.json"
KEY_CHECK: Final = key_backup.CHECK


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
