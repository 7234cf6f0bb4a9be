"""Which tables of a state a back-up holds, and those that programs made before there was more than one."""

import json
from pathlib import Path

from gateway.settings import Settings
from gateway.state import opened_directory, opened_live, opened_usage
from gateway.stores.backup import MANIFEST, TABLE, USAGE, Manifest, back_up, restore
from gateway.stores.sqlite import SqliteTable
from tenants.ports import Key, Put

ROW = Put(Key("some", "row"), b"value", 0)


def backed_up(state: Path, to: Path) -> Manifest:
    return back_up(state, to, made_us=1, program="test", told=lambda _: None)


async def test_what_was_used_is_backed_up_and_what_processes_tell_one_another_is_not(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path / "state")
    async with opened_directory(settings), opened_live(settings) as live, opened_usage(settings) as usage:
        for table in (live, usage):
            await table.transact(ROW)
        manifest = backed_up(settings.state, tmp_path / "backup")
    assert [file.path for file in manifest.files] == [TABLE, USAGE]
    restore(tmp_path / "backup", tmp_path / "restored", told=lambda _: None)
    async with opened_usage(Settings(state=tmp_path / "restored")) as usage:
        assert await usage.get(ROW.key) is not None


async def test_a_back_up_of_the_first_version_is_restored(tmp_path: Path) -> None:
    async with SqliteTable(state_of(tmp_path) / TABLE) as table:
        await table.transact(ROW)
    backed_up(tmp_path / "state", tmp_path / "backup")
    manifest = json.loads((tmp_path / "backup" / MANIFEST).read_text())
    (tmp_path / "backup" / MANIFEST).write_text(json.dumps({**manifest, "v": 1}))
    restore(tmp_path / "backup", tmp_path / "restored", told=lambda _: None)
    async with SqliteTable(tmp_path / "restored" / TABLE) as table:
        assert await table.get(ROW.key) is not None


def state_of(folder: Path) -> Path:
    state = folder / "state"
    state.mkdir()
    return state
