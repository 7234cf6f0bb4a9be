"""A back-up of wrapped keys holds all of one instant and runs out; what is destroyed comes back from none."""

import json
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gateway.audit.record import ProbeBody, own_record
from gateway.audit.segment import first_chain, frame
from gateway.envelope import wrapped
from gateway.envelope.restoring import PutBack, put_back
from gateway.envelope.wrapped import Wrapped, wrapped_at
from gateway.stores import backup
from gateway.stores.backup import MANIFEST, Unfit
from gateway.stores.files import FileSegments
from gateway.stores.key_backup import (
    CHECK,
    TABLE,
    KeysBackup,
    back_up,
    checked,
    chosen,
    prepared,
    pruned,
    read,
)
from gateway.stores.sqlite import SqliteTable
from tenants.data_keys import DAY_US, DataKeyRecord
from tenants.directory import Directory
from tenants.ports import MOST_ROWS, Put
from tenants.rows import data_key_at, encoded
from tests.worlds.table import MemoryTable

NOW_US = 1_764_234_360_000_000
DAYS = 7
COUNT = 40


def backed_up(state: Path, to: Path, now_us: int = NOW_US, days: int = DAYS) -> KeysBackup:
    return back_up(state, to, made_us=now_us, backup_days=days, program="test", told=lambda _: None)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(it.relative_to(folder)): it.read_bytes() for it in folder.rglob("*") if it.is_file()}


async def filled(state: Path, count: int = COUNT) -> None:
    state.mkdir(mode=0o700, exist_ok=True)
    async with SqliteTable(state / TABLE, erases=True) as table:
        for number in range(count):
            at = wrapped_at(f"t_{number % 3}", f"d_{number:020d}")
            await table.transact(Put(at, wrapped.encoded(Wrapped(b"%d" % number, number)), 0))
    (state / CHECK).write_bytes(b"of this key file")


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    await filled(tmp_path / "state")
    return tmp_path / "state"


@pytest.fixture
async def empty(tmp_path: Path) -> Path:
    """A state that was restored without its keys."""
    (tmp_path / "empty").mkdir(mode=0o700)
    async with SqliteTable(tmp_path / "empty" / backup.TABLE):
        return tmp_path / "empty"


async def test_it_holds_all_keys_of_one_instant_also_while_a_gateway_writes_them(
    state: Path, tmp_path: Path
) -> None:
    async with SqliteTable(state / TABLE, erases=True) as table:
        made = backed_up(state, tmp_path / "to")
        await table.transact(Put(wrapped_at("t_0", "d_later"), b"{}", 0))
        found = checked(made.place, now_us=NOW_US, backup_days=DAYS)
        assert len(found) == COUNT
        for tenant in range(3):
            page = await table.list(wrapped.of_tenant(f"t_{tenant}"), limit=MOST_ROWS)
            there = [row for row in page.rows if row.key.sort != "d_later"]
            assert [row for row in found if wrapped.tenant_of(row.key) == f"t_{tenant}"] == there
    assert made.place.name == "20251127T090600Z"
    for path in (tmp_path / "to", made.place, *made.place.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


async def test_the_newest_in_a_folder_is_meant_or_the_one_that_is_named(state: Path, tmp_path: Path) -> None:
    first, second = backed_up(state, tmp_path / "to"), backed_up(state, tmp_path / "to", NOW_US + DAY_US)
    assert chosen(tmp_path / "to") == second.place
    assert chosen(first.place) == first.place
    for nothing in (state, tmp_path / "nowhere"):
        with pytest.raises(Unfit, match="is no back-up of data keys, and there is none in it"):
            chosen(nothing)


async def test_after_its_days_it_is_refused_for_ever_and_goes_with_the_next_one(
    state: Path, tmp_path: Path
) -> None:
    made = backed_up(state, tmp_path / "to")
    end_us = NOW_US + DAYS * DAY_US
    assert checked(made.place, now_us=end_us - 1, backup_days=DAYS)
    assert pruned(tmp_path / "to", now_us=end_us - 1, backup_days=DAYS) == []
    for now_us, days in (
        (end_us, DAYS),
        (end_us, 30),
        (NOW_US + 2 * DAY_US, 2),
    ):  # the lesser of then and now
        with pytest.raises(Unfit, match=r"days ago \(keys\.backup_days\)"):
            checked(made.place, now_us=now_us, backup_days=days)
    crashed, other = tmp_path / "to" / f".{made.place.name}.x7.partial", tmp_path / "to" / "other"
    crashed.mkdir()
    other.mkdir()
    (tmp_path / "to" / "99999999T999999Z").mkdir()
    assert pruned(tmp_path / "to", now_us=end_us, backup_days=30) == [made.place]
    assert pruned(tmp_path / "to", now_us=end_us, backup_days=DAYS) == [crashed]
    assert {it.name for it in (tmp_path / "to").iterdir()} == {"other", "99999999T999999Z"}


async def test_what_is_no_back_up_of_keys_stays_also_where_it_is_called_by_its_time(
    state: Path, empty: Path, tmp_path: Path
) -> None:
    to = tmp_path / "to"
    made = backed_up(state, to)
    stays = {f"20251126T1206{second:02}Z" for second in range(4)}
    of_state, own, link, file = (to / name for name in sorted(stays))
    (empty / backup.AUDIT).mkdir()
    backup.back_up(empty, of_state, made_us=NOW_US, program="test", told=lambda _: None)
    own.mkdir()
    (own / "letters.txt").write_bytes(b"")
    link.symlink_to(own)
    file.write_bytes(b"")
    before = everything(of_state)
    (made.place / MANIFEST).write_bytes(b"damaged")
    assert pruned(to, now_us=NOW_US + DAYS * DAY_US, backup_days=DAYS) == [made.place]
    assert {it.name for it in to.iterdir()} == stays
    assert everything(of_state) == before


async def test_one_that_is_still_to_be_made_is_refused(state: Path, tmp_path: Path) -> None:
    made = backed_up(state, tmp_path / "to")
    with pytest.raises(Unfit, match="set this host's clock"):
        checked(made.place, now_us=NOW_US - DAY_US, backup_days=DAYS)


async def test_what_is_damaged_is_refused_with_nothing_written(
    state: Path, empty: Path, tmp_path: Path
) -> None:
    made = backed_up(state, tmp_path / "to")
    before = everything(empty)
    for name, data in everything(made.place).items():
        path = made.place / name
        damages: tuple[Callable[[], object], ...] = (
            path.unlink,
            partial(path.write_bytes, data[:-9]),
            partial(path.write_bytes, b"?" + data[1:]),
        )
        for damage in damages:
            damage()
            with pytest.raises(Unfit):
                prepared(made.place, empty, now_us=NOW_US, backup_days=DAYS)
            path.write_bytes(data)
    assert everything(empty) == before
    assert prepared(made.place, empty, now_us=NOW_US, backup_days=DAYS).rows


async def test_a_manifest_names_no_file_outside_its_folder(state: Path, tmp_path: Path) -> None:
    made = backed_up(state, tmp_path / "to")
    told = json.loads((made.place / MANIFEST).read_text())
    told["files"][0]["path"] = "../../state/keys.check"
    (made.place / MANIFEST).write_text(json.dumps(told))
    with pytest.raises(Unfit, match="damaged"):
        read(made.place)


async def test_the_manifest_is_written_as_it_will_be_read_for_ever(state: Path, tmp_path: Path) -> None:
    made = backed_up(state, tmp_path / "to")
    told = json.loads((made.place / MANIFEST).read_text())
    assert [file.pop("sha256") is not None for file in told["files"]] == [True, True]
    assert [file.pop("bytes") > 0 for file in told["files"]] == [True, True]
    assert told == {
        "v": 1,
        "made_us": NOW_US,
        "program": "test",
        "table_version": made.manifest.table_version,
        "backup_days": 7,
        "files": [{"path": "keys.check"}, {"path": "keys.sqlite"}],
    }


async def test_a_state_that_a_gateway_runs_over_or_without_a_directory_gets_no_keys(
    state: Path, empty: Path, tmp_path: Path
) -> None:
    place = backed_up(state, tmp_path / "to").place
    (tmp_path / "bare").mkdir()
    with pytest.raises(Unfit, match="restore the state first"):
        prepared(place, tmp_path / "bare", now_us=NOW_US, backup_days=DAYS)
    async with FileSegments(empty / backup.AUDIT, 16_384) as segments:
        begun = await segments.create("a")
        await begun.append(
            frame(0, [own_record("r", "probe", ProbeBody(), at_us=NOW_US)], first_chain("a")).data
        )
        with pytest.raises(Unfit, match="a gateway runs over"):
            prepared(place, empty, now_us=NOW_US, backup_days=DAYS)
        await begun.close()
    assert prepared(place, empty, now_us=NOW_US, backup_days=DAYS)


async def test_the_key_file_is_told_as_in_the_back_up_unless_the_state_has_keys_already(
    state: Path, empty: Path, tmp_path: Path
) -> None:
    place = backed_up(state, tmp_path / "to").place
    (empty / CHECK).write_bytes(b"of the one that a start has made")
    prepared(place, empty, now_us=NOW_US, backup_days=DAYS)
    assert (empty / CHECK).read_bytes() == b"of this key file"
    await filled(empty, 1)
    (empty / CHECK).write_bytes(b"of the one that wraps now")
    prepared(place, empty, now_us=NOW_US, backup_days=DAYS)
    assert (empty / CHECK).read_bytes() == b"of the one that wraps now"


async def test_of_a_tenants_keys_all_come_back_but_the_destroyed_and_none_is_replaced() -> None:
    rows, table = MemoryTable(), MemoryTable()
    directory = Directory(rows, bytes)
    states = {"d_alive": ("retired", None), "d_gone": ("destroyed", 1), "d_over": ("destroying", NOW_US)}
    states |= {"d_waits": ("destroying", NOW_US + 1), "d_anew": ("active", None)}
    for key_id, (key_state, destroys_us) in states.items():
        record = DataKeyRecord(key_id, "t_1", "audit", 1, state=key_state, destroys_us=destroys_us)  # type: ignore[arg-type]
        await rows.transact(Put(data_key_at("t_1", key_id), encoded(record), 0))
    was = MemoryTable()
    for key_id in (*states, "d_unknown"):
        await was.transact(Put(wrapped_at("t_1", key_id), b"as it was", 0))
    await table.transact(Put(wrapped_at("t_1", "d_anew"), b"wrapped anew", 0))
    found = [row for _, row in sorted(was.rows.items())]
    done = await put_back(directory.data_keys, table, found, NOW_US)
    assert done == PutBack(restored=3, there=1, destroyed=2)
    assert {at.sort: row.value for at, row in table.rows.items()} == {
        "d_alive": b"as it was",
        "d_waits": b"as it was",
        "d_unknown": b"as it was",
        "d_anew": b"wrapped anew",
    }
    assert await put_back(directory.data_keys, table, found, NOW_US) == PutBack(0, 4, 2)
