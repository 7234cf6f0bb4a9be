"""Back-ups of the wrapped data keys: apart from those of the state, and good for a few days only, so that a destroyed key runs out.

    TO/20261127T090600Z/       one back-up: its name is when it was made, by UTC
        manifest.json          KeysManifest, written last
        keys.sqlite            the table of wrapped keys as it was at one instant
        keys.check             what tells the key file from another one; none where AWS KMS wraps

Whoever has one opens nothing without what wraps the keys; whoever has that too opens all that is sealed. What is older than it may be is
refused, and there is no way around: a destruction has told its people that nobody has the key any more. It goes with the next back-up.
"""

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct

from gateway.stores import backup, schema
from gateway.stores.backup import MANIFEST, File, Told, Unfit, aside, damaged, look, pieces, write
from gateway.stores.files import SegmentBytes, sync
from gateway.stores.sqlite import copy, holds_rows, rows
from tenants.data_keys import DAY_US
from tenants.ports import Row

FORMAT: Final = 1
TABLE: Final = "keys.sqlite"
CHECK: Final = "keys.check"
_AHEAD_US: Final = 5 * 60 * 1_000_000
"""So much clocks of hosts may differ."""
_MOMENT: Final = "%Y%m%dT%H%M%SZ"
_NAME: Final = re.compile(r"\d{8}T\d{6}Z")
_OURS: Final = re.compile(rf"\.?({_NAME.pattern})(?:\.[^.]*\.partial)?")
"""Also what a crash has left."""


class KeysManifest(Struct, frozen=True, tag_field="v", tag=FORMAT):
    """What a back-up of keys holds, and for how many days it is good. Stored as JSON, version 1; readers refuse any other."""

    made_us: int
    program: str
    table_version: int
    backup_days: Annotated[int, Meta(ge=0)]
    files: tuple[File, ...]

    def ends_us(self, backup_days: int) -> int:
        """From when on it is good for nothing, where the settings say so many days now."""
        return self.made_us + min(self.backup_days, backup_days) * DAY_US


class KeysBackup(NamedTuple):
    place: Path
    manifest: KeysManifest


class Prepared(NamedTuple):
    """The back-up that is meant, and the wrapped keys in it."""

    place: Path
    rows: list[Row]


def back_up(state: Path, to: Path, *, made_us: int, backup_days: int, program: str, told: Told) -> KeysBackup:
    """There is one more back-up in `to`, durably, also while gateways run. `told` hears of each step. Raises Unfit, OSError,
    TableUnavailable, UnknownFormat, and then leaves nothing.
    """
    if not (state / TABLE).exists():
        raise Unfit(f"there are no wrapped data keys in {state}; name its state with --state")
    to.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = to / datetime.fromtimestamp(made_us / 1e6, UTC).strftime(_MOMENT)
    if place.exists():
        raise Unfit(f"{place} was made in this very second; ask again")
    with aside(place) as folder:
        files = []
        if (
            state / CHECK
        ).exists():  # first: what it tells of has wrapped no key that is not in the table yet
            files.append(write(folder, CHECK, [(state / CHECK).read_bytes()]))
            told(f"copied {CHECK}")
        version = copy(state / TABLE, folder / TABLE)
        (folder / TABLE).chmod(0o600)
        sync(folder / TABLE)
        files.append(look(folder, TABLE))
        told(f"copied {TABLE}")
        made = KeysManifest(made_us, program, version, backup_days, tuple(files))
        write(folder, MANIFEST, [msgspec.json.format(msgspec.json.encode(made))])
        told(f"wrote {MANIFEST}")
    told("done")
    return KeysBackup(place, made)


def pruned(to: Path, *, now_us: int, backup_days: int) -> list[Path]:
    """Those that were in `to` and were good for nothing any more, whole or not; they are gone. What is none of ours stays."""
    old = []
    for place in sorted(to.iterdir()):
        if (ends_us := _ends_us(place, backup_days)) is not None and now_us >= ends_us:
            shutil.rmtree(place)
            old.append(place)
    return old


def prepared(source: Path, state: Path, *, now_us: int, backup_days: int) -> Prepared:
    """All of it may go into the table of wrapped keys of this state, which tells the key file now as the back-up has it, unless it has keys
    already. Raises Unfit, OSError, TableUnavailable, UnknownFormat.
    """
    place = chosen(source.absolute())
    found = checked(place, now_us=now_us, backup_days=backup_days)
    if not (state / backup.TABLE).exists():
        raise Unfit(f"there is no table in {state}, which tells what is destroyed: restore the state first")
    audit = state / backup.AUDIT
    if audit.is_dir() and SegmentBytes(audit).owned():
        raise Unfit(f"a gateway runs over {state}: stop it, and ask again")
    if not holds_rows(state / TABLE):
        put_check(place, state)
    return Prepared(place, found)


def chosen(source: Path) -> Path:
    """The back-up that is meant: this one, or the newest in this folder. Raises Unfit."""
    if (source / MANIFEST).exists():
        return source
    if not (found := [place for place in _all(source) if (place / MANIFEST).exists()]):
        raise Unfit(f"{source} is no back-up of data keys, and there is none in it")
    return max(found)


def checked(place: Path, *, now_us: int, backup_days: int) -> list[Row]:
    """The wrapped keys of a back-up that is whole and not too old. Raises Unfit, TableUnavailable, UnknownFormat."""
    manifest = read(place)
    if now_us >= manifest.ends_us(backup_days):
        days = min(manifest.backup_days, backup_days)
        raise Unfit(
            f"{place} was made at {_moment(manifest.made_us)}, which is more than {days} days ago (keys.backup_days): what was destroyed "
            "since must not come back, so nobody may use it any more; remove it"
        )
    if manifest.made_us > now_us + _AHEAD_US:
        raise Unfit(
            f"{place} was made at {_moment(manifest.made_us)}, which is still to come: set this host's clock"
        )
    for file in manifest.files:
        if look(place, file.path) != file:
            raise damaged(place, file.path)
    return rows(place / TABLE)


def put_check(place: Path, state: Path) -> None:
    """The state's check is that of the back-up, durably, if that has one."""
    if not (place / CHECK).exists():
        return
    made = f".{CHECK}.partial"
    (state / made).unlink(missing_ok=True)
    with (place / CHECK).open("rb") as file:
        write(state, made, pieces(file))
    (state / made).rename(state / CHECK)
    sync(state)


def read(place: Path) -> KeysManifest:
    """What a folder says that it holds. Raises Unfit for what is no back-up of keys that this program can restore."""
    try:
        manifest = msgspec.json.decode((place / MANIFEST).read_bytes(), type=KeysManifest)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unfit(f"{place} is no back-up of data keys: it has no {MANIFEST}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unfit(
            f"{place / MANIFEST} is none of a back-up of data keys, damaged, or a newer program's; nothing was restored"
        ) from error
    if manifest.table_version > schema.VERSION:
        raise Unfit(
            f"the table in {place} has schema version {manifest.table_version}, and this program knows versions up to "
            f"{schema.VERSION}: restore it with the program that wrote it or a newer one"
        )
    paths = [file.path for file in manifest.files]
    if TABLE not in paths or len(set(paths)) < len(paths) or not {TABLE, CHECK} >= set(paths):
        raise damaged(place, MANIFEST)
    return manifest


def _ends_us(place: Path, backup_days: int) -> int | None:
    """From when on it is good for nothing; None for what is none of ours."""
    if (found := _OURS.fullmatch(place.name)) is None:
        return None
    try:
        made = datetime.strptime(found[1], _MOMENT).replace(tzinfo=UTC)
        return read(place).ends_us(backup_days)
    except Unfit:
        return int(made.timestamp()) * 1_000_000 + backup_days * DAY_US if _may_be_ours(place) else None
    except ValueError:
        return None


def _may_be_ours(place: Path) -> bool:
    """Whether a folder that does not say what it is holds nothing but what a back-up of keys has: a back-up of a state may be called by
    its time, too.
    """
    return (
        place.is_dir()
        and not place.is_symlink()
        and all(it.name.startswith((TABLE, CHECK, MANIFEST)) for it in place.iterdir())
    )


def _all(to: Path) -> list[Path]:
    return [it for it in to.iterdir() if _NAME.fullmatch(it.name)] if to.is_dir() else []


def _moment(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
