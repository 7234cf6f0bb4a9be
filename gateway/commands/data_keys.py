"""`gateway data-keys`: the keys that a tenant's data is sealed with. No key itself is ever printed."""

import argparse
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, get_args

from gateway.commands.arguments import duration, key_id
from gateway.commands.command import PAGED, REASON, TENANT, Asked, Command, Run, argument, asked, one_of
from gateway.commands.printing import Row, Sheet, card, program, progress, remark, short, show, show_all, when
from gateway.settings import Settings
from gateway.state_keys import backed_up_keys, restored_keys
from tenants import data_keys
from tenants.data_keys import WAIT_SECONDS, DataKeyRecord, Purpose
from tenants.directory import Page

_WOULD: Final = 2
"""The exit code of what would be done, as of `apply --dry-run`."""


@asked
async def _list(it: Asked) -> int:
    async def listing(after: str | None, limit: int) -> Page[DataKeyRecord]:
        return await it.directory.data_keys.list(it.given.tenant, after, limit)

    return await show_all(it.given, listing, lambda key: _row(key, it), first=lambda key: key.made_us)


@asked
async def _show(it: Asked) -> int:
    key = await it.directory.data_keys.show(it.given.tenant, it.given.key)
    more = {
        "kms_key": key.wrapped_with,
        "wrapped": when(key.wrapped_us or key.made_us),
        "rewrap_asked": when(key.rewrap_us),
    }
    return card({**_row(key, it), **more}, it.given)


@asked
async def _rotate(it: Asked) -> int:
    key = await it.directory.data_keys.rotate(it.given.tenant, it.act, purpose=it.given.purpose)
    return show(_row(key, it), it.given)


async def _rewrapped(it: Asked, key: DataKeyRecord) -> DataKeyRecord:
    return await it.directory.data_keys.rewrap(it.given.tenant, key.id, it.act)


async def _kept(it: Asked, key: DataKeyRecord) -> DataKeyRecord:
    return await it.directory.data_keys.keep(it.given.tenant, key.id, it.act)


async def _destroyed(it: Asked, key: DataKeyRecord) -> DataKeyRecord:
    return await it.directory.data_keys.destroy(
        it.given.tenant,
        key.id,
        it.act,
        wait_seconds=it.given.wait,
        backup_days=it.settings.keys.backup_days,
    )


@asked
async def _destroy(it: Asked) -> int:
    """What cannot be undone says why; who does not is told what it would be, and nothing is done."""
    if it.given.reason.strip():
        return await _each(it, _destroyed)
    keys = [
        data_keys.done(
            key,
            "destroy",
            it.now_us,
            wait_seconds=it.given.wait,
            backup_days=it.settings.keys.backup_days,
        )
        for key in await _meant(it)
    ]
    _told(it, keys)
    if not keys:
        return 0
    sys.stdout.flush()  # it goes behind the list, also where both go to one place
    remark(
        "nothing is done: what these sealed would be read by nobody from then on. Say why with --reason, and it is done; "
        f"until then it can be taken back: {program()} data-keys keep"
    )
    return _WOULD


def _do(deed: Callable[[Asked, DataKeyRecord], Awaitable[DataKeyRecord]]) -> Run:
    @asked
    async def run(it: Asked) -> int:
        return await _each(it, deed)

    return run


async def _each(it: Asked, deed: Callable[[Asked, DataKeyRecord], Awaitable[DataKeyRecord]]) -> int:
    return _told(it, [await deed(it, key) for key in await _meant(it)])


async def _meant(it: Asked) -> list[DataKeyRecord]:
    """The one that is named, or all that are not destroyed, oldest first."""
    given, keys = it.given, it.directory.data_keys
    if given.key is not None:
        return [await keys.show(given.tenant, given.key)]
    owner = await it.directory.tenants.show(given.tenant)
    there = (await keys.of(owner.id)).values()
    left = [key for key in there if data_keys.state(key, it.now_us) != "destroyed"]
    return sorted(left, key=lambda key: (key.made_us, key.id))


def _told(it: Asked, keys: list[DataKeyRecord]) -> int:
    """One thing, or a list of them."""
    if it.given.key is not None:
        return show(_row(keys[0], it), it.given)
    sheet = Sheet(as_json=it.given.json)
    sheet.add([_row(key, it) for key in keys])
    return sheet.end()


def _row(key: DataKeyRecord, it: Asked) -> Row:
    return {
        "id": key.id,
        "purpose": key.purpose,
        "state": data_keys.state(key, it.now_us),
        "created": when(key.made_us),
        "destroys": when(key.destroys_us),
        "backups_end": when(data_keys.backups_end_us(key)),
    }


async def _back_up(settings: Settings, given: argparse.Namespace) -> int:
    (place, made), old = backed_up_keys(settings, given.backup, (lambda _: None) if given.json else progress)
    ends = when(made.ends_us(settings.keys.backup_days))
    if given.json:
        said = {
            "backup": str(place),
            "made": when(made.made_us),
            "ends": ends,
            "removed": list(map(str, old)),
        }
        print(json.dumps(said))
        return 0
    print(
        f"{short(place)} holds the wrapped data keys as they were at {when(made.made_us)}. It can be restored until {ends} and no longer: "
        f"then what was destroyed since is in no back-up. Keep it apart from what wraps the keys."
    )
    if old:
        print(f"{len(old)} that were older are removed.")
    print(
        f"To put them into a restored state:\n\n  {program()} data-keys restore {given.backup} --state NEW_DIR"
    )
    return 0


async def _restore(settings: Settings, given: argparse.Namespace) -> int:
    place, done = await restored_keys(settings, given.backup)
    if given.json:
        print(json.dumps({"backup": str(place), **done._asdict()}))
        return 0
    print(
        f"{done.restored} wrapped data keys of {short(place)} are in {short(settings.state.absolute())}; {done.there} were there already, "
        f"and {done.destroyed} are destroyed and stay so."
    )
    return 0


def _wait(text: str) -> int:
    """A duration in seconds, or none."""
    try:
        return 0 if text == "0" else duration(text)
    except argparse.ArgumentTypeError as fault:
        raise argparse.ArgumentTypeError(f"{fault}, or 0") from fault


_KEY: Final = argument("key", type=key_id, metavar="KEY", help="the data key's id (d_...)")
_WHICH: Final = one_of(
    argument("key", type=key_id, nargs="?", metavar="KEY", help="the data key's id (d_...)"),
    argument("--all", action="store_true", help="every data key of the tenant, for whatever purpose"),
)
_PURPOSE: Final = argument(
    "--purpose", required=True, choices=get_args(Purpose), help="what the key is for that seals no more"
)
_WAIT: Final = argument(
    "--wait",
    type=_wait,
    default=WAIT_SECONDS,
    metavar="7d",
    help="how long it can be taken back, 30d at most (default: 7d; 0: not at all)",
)
_OF: Final = "--tenant acme"

COMMANDS: Final = (
    Command(
        "list",
        "all data keys, oldest first; more than 1,000 by their ids",
        _list,
        (TENANT, *PAGED),
        _OF,
    ),
    Command(
        "show", "one data key: what it is for and what becomes of it", _show, (TENANT, _KEY), f"{_OF} d_..."
    ),
    Command(
        "rotate",
        "retire the data key for a purpose; what is sealed next has another",
        _rotate,
        (TENANT, _PURPOSE, REASON),
        f"{_OF} --purpose audit",
    ),
    Command(
        "rewrap",
        "have it wrapped anew, with the tenant's present KMS key or the deployment's",
        _do(_rewrapped),
        (TENANT, _WHICH, REASON),
        f"{_OF} d_...",
    ),
    Command(
        "destroy",
        "destroy it, and with it all that it sealed; without --reason: what would be destroyed, and when",
        _destroy,
        (TENANT, _WHICH, _WAIT, REASON),
        f"{_OF} --all --wait 7d --reason 'they asked to be forgotten'",
    ),
    Command(
        "keep",
        "keep one that was to be destroyed: it opens what it sealed",
        _do(_kept),
        (TENANT, _WHICH, REASON),
        f"{_OF} d_...",
    ),
    Command(
        "backup",
        "copy the wrapped data keys to a new folder in TO; gateways may go on, and older ones than keys.backup_days are removed",
        _back_up,
        (argument("backup", type=Path, metavar="TO", help="the folder with all back-ups of data keys"),),
        "/mnt/keys",
    ),
    Command(
        "restore",
        "put the wrapped data keys of a back-up into a state, but for those that are destroyed",
        _restore,
        (
            argument(
                "backup", type=Path, metavar="FROM", help="one back-up, or a folder whose newest is meant"
            ),
        ),
        "/mnt/keys",
    ),
)
