"""A back-up holds all that was durable when it began, also while gateways write; a restore gives all of it back, or nothing."""

import asyncio
import json
import shutil
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import pytest

from gateway.audit.ledger import Ledger
from gateway.audit.record import ProbeBody, own_record
from gateway.audit.segment import first_chain, frame, scan
from gateway.audit.verify import Report, verify
from gateway.stores.backup import AUDIT, MANIFEST, TABLE, Manifest, Told, Unfit, back_up, restore
from gateway.stores.files import FileSegments, SegmentBytes
from gateway.stores.sqlite import SqliteTable
from tenants.errors import TableUnavailable
from tenants.ports import Key, Put
from tests.contracts.table_places import every, sorts
from tests.gateway.audit.support import DONE, NOW_US, intend, running

SMALL_BYTES = 16_384  # so that segments change while a back-up is made


def ignored(_: str) -> None:
    """Nobody wants to know."""


def backed_up(state: Path, to: Path, told: Told = ignored) -> Manifest:
    return back_up(state, to, made_us=NOW_US, program="test", told=told)


async def fill(state: Path, name: str, calls: int) -> None:
    """One process: it writes pairs of rows, and intents with their outcomes."""
    async with (
        SqliteTable(state / TABLE) as table,
        FileSegments(state / AUDIT, SMALL_BYTES) as segments,
        running(segments) as ledger,
    ):
        for number in range(calls):
            await call(table, ledger, f"{name}-{number:04d}")


async def call(table: SqliteTable, ledger: Ledger, name: str) -> None:
    await table.transact(Put(Key("left", name), b"", 0), Put(Key("right", name), b"", 0))
    intent = intend(ledger, name)
    await intent.durable()
    ledger.settle(intent, DONE, now_us=NOW_US)


def requests(state: Path) -> set[str]:
    segments = SegmentBytes(state / AUDIT)
    return {
        entry.request or ""
        for name in segments
        for commit in scan(name, segments[name]).commits
        for entry, _ in commit.records
        if entry.kind == "intent"
    }


def checked(state: Path) -> Report:
    """As `gateway audit verify` does when nobody writes."""
    report = verify(SegmentBytes(state / AUDIT))
    assert report.fault is None, report
    return report


def everything(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """One that two processes have written, one after the other."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    await fill(state, "first", 30)
    await fill(state, "second", 30)
    return state


@pytest.fixture
async def backup(state: Path, tmp_path: Path) -> Path:
    backed_up(state, tmp_path / "backup")
    return tmp_path / "backup"


@asynccontextmanager
async def writers(state: Path) -> AsyncIterator[list[str]]:
    """Two processes that write as fast as they can; what they were told is durable."""
    done: list[str] = []
    is_over = asyncio.Event()

    async def write(name: str) -> None:
        async with (
            SqliteTable(state / TABLE) as table,
            FileSegments(state / AUDIT, SMALL_BYTES) as segments,
            running(segments) as ledger,
        ):
            while not is_over.is_set():
                await call(table, ledger, request := f"{name}-{len(done):06d}")
                done.append(request)

    async with asyncio.TaskGroup() as group:
        for name in ("here", "there"):
            group.create_task(write(name))
        try:
            yield done
        finally:
            is_over.set()


async def grown(done: list[str], by: int) -> None:
    wanted = len(done) + by
    while len(done) < wanted:
        await asyncio.sleep(0)


# A round trip


async def test_a_back_up_made_while_gateways_write_holds_all_that_was_durable_when_it_began(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    async with writers(state) as done:
        for number in range(5):
            await grown(done, 40)
            before = set(done)
            await asyncio.to_thread(backed_up, state, tmp_path / f"backup{number}")
            restored = tmp_path / f"restored{number}"
            await asyncio.to_thread(restore, tmp_path / f"backup{number}", restored, told=ignored)
            checked(restored)
            assert before <= requests(restored)
            async with SqliteTable(restored / TABLE) as table:
                left = sorts(await every(table, "left", limit=1000))
                assert left == sorts(await every(table, "right", limit=1000))
                assert before <= set(left)


async def test_a_restored_state_is_what_was_backed_up_and_can_be_written(state: Path, tmp_path: Path) -> None:
    made = backed_up(state, tmp_path / "backup")
    await fill(state, "later", 3)
    restored = tmp_path / "new" / "state"
    assert restore(tmp_path / "backup", restored, told=ignored) == made
    assert checked(restored).intents == 60
    await fill(restored, "third", 5)
    assert checked(restored).intents == 65
    assert {name.partition("-")[0] for name in requests(restored)} == {"first", "second", "third"}


async def test_all_of_it_is_for_its_owner_alone(backup: Path, tmp_path: Path) -> None:
    restore(backup, tmp_path / "restored", told=ignored)
    for folder in (backup, tmp_path / "restored"):
        for path in (folder, *folder.rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


async def test_a_segment_that_is_being_written_is_copied_up_to_its_last_whole_commit(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with SqliteTable(tmp_path / "table.sqlite"):
        pass
    async with FileSegments(state / AUDIT, SMALL_BYTES) as segments:
        shutil.copy(tmp_path / TABLE, state / TABLE)
        begun, _empty = await segments.create("a"), await segments.create("b")
        record = own_record("r", "probe", ProbeBody(), at_us=NOW_US)
        first = frame(0, [record], first_chain("a"))
        second = frame(1, [record], first.chain)
        await begun.append(first.data)
        await begun.append(second.data[:-1])
        backed_up(state, tmp_path / "backup")
    assert list(everything(tmp_path / "backup" / AUDIT)) == ["a.segment"]
    assert everything(tmp_path / "backup" / AUDIT)["a.segment"] == first.data


async def test_what_nobody_writes_is_copied_as_it_is_also_if_it_is_damaged(
    state: Path, tmp_path: Path
) -> None:
    damaged = next((state / AUDIT).glob("*.segment"))
    damaged.write_bytes(damaged.read_bytes()[:100] + b"?" + damaged.read_bytes()[101:])
    backed_up(state, tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "restored", told=ignored)
    assert everything(tmp_path / "restored" / AUDIT).keys() <= everything(state / AUDIT).keys()
    for name, data in everything(tmp_path / "restored" / AUDIT).items():
        assert data == (state / AUDIT / name).read_bytes()


# What is refused


async def test_nothing_is_overwritten_by_a_back_up(state: Path, backup: Path, tmp_path: Path) -> None:
    before = everything(backup)
    (tmp_path / "empty").mkdir()
    (tmp_path / "nowhere").symlink_to("nothing")
    for place in (backup, tmp_path / "empty", tmp_path / "nowhere", state / TABLE):
        with pytest.raises(Unfit, match="exists"):
            backed_up(state, place)
    assert everything(backup) == before


async def test_a_state_without_a_table_or_with_a_damaged_one_is_not_backed_up(
    state: Path, tmp_path: Path
) -> None:
    with pytest.raises(Unfit, match="no table"):
        backed_up(tmp_path / "none", tmp_path / "backup")
    assert not (tmp_path / "none").exists()
    data = (state / TABLE).read_bytes()
    (state / TABLE).write_bytes(data[:4096] + b"\xff" * 4096 + data[8192:])
    with pytest.raises(TableUnavailable):
        backed_up(state, tmp_path / "backup")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state"]


async def test_nothing_is_overwritten_by_a_restore(state: Path, backup: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    before = everything(state)
    for place in (state, tmp_path / "other"):
        with pytest.raises(Unfit, match="not empty"):
            restore(backup, place, told=ignored)
    with pytest.raises(Unfit, match="mount point"):
        restore(backup, Path("/proc"), told=ignored)
    assert everything(state) == before
    (tmp_path / "there").mkdir()
    restore(backup, tmp_path / "there", told=ignored)
    checked(tmp_path / "there")


def damages(backup: Path) -> Iterator[Callable[[], object]]:
    """Each changes one thing."""
    for name, data in everything(backup).items():
        path = backup / name
        yield path.unlink
        yield partial(path.write_bytes, data[:-1])
        if name != MANIFEST:
            yield partial(path.write_bytes, data + b"\0")
            yield partial(path.write_bytes, data[:50] + bytes([data[50] ^ 1]) + data[51:])


async def test_a_back_up_that_lacks_anything_or_has_one_byte_wrong_is_not_restored(
    backup: Path, tmp_path: Path
) -> None:
    before = everything(backup)
    for damage in list(damages(backup)):
        damage()
        with pytest.raises(Unfit, match=r"damaged|no back-up"):
            restore(backup, tmp_path / "restored", told=ignored)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "state"]
        for name, data in before.items():
            (backup / name).write_bytes(data)
    restore(backup, tmp_path / "restored", told=ignored)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("v", 3, "has format 3, and this program knows formats up to 2"),
        ("table_version", 99, "has schema version 99, and this program knows versions up to 1"),
        ("files", [], "damaged"),
        ("made_us", "now", "damaged"),
    ],
)
async def test_a_manifest_that_this_program_cannot_follow_is_refused_in_words(
    backup: Path, tmp_path: Path, field: str, value: object, sentence: str
) -> None:
    manifest = json.loads((backup / MANIFEST).read_text())
    (backup / MANIFEST).write_text(json.dumps({**manifest, field: value}))
    with pytest.raises(Unfit, match=sentence):
        restore(backup, tmp_path / "restored", told=ignored)
    assert not (tmp_path / "restored").exists()


@pytest.mark.parametrize("path", ["../more", "audit/../../more", "more", "audit/more", TABLE])
async def test_a_manifest_that_names_what_no_back_up_holds_or_one_file_twice_is_refused(
    backup: Path, tmp_path: Path, path: str
) -> None:
    data = (backup / TABLE).read_bytes()
    (backup / path).write_bytes(data)
    manifest = json.loads((backup / MANIFEST).read_text())
    table = next(file for file in manifest["files"] if file["path"] == TABLE)
    manifest["files"].append({**table, "path": path})
    (backup / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(Unfit, match=r"manifest\.json is missing or not what was written"):
        restore(backup, tmp_path / "restored", told=ignored)
    assert not (tmp_path / "restored").exists()


async def test_the_manifest_is_written_as_it_will_be_read_for_ever(backup: Path) -> None:
    """Golden: a reader of version 2 must understand what any later program of version 2 writes."""
    manifest = json.loads((backup / MANIFEST).read_text())
    assert list(manifest) == ["v", "made_us", "program", "table_version", "files"]
    assert (manifest["v"], manifest["made_us"], manifest["program"]) == (2, NOW_US, "test")
    assert list(manifest["files"][0]) == ["path", "bytes", "sha256"]


# Cut short


def steps(work: Callable[[Told], object]) -> list[str]:
    told: list[str] = []
    work(told.append)
    return told


@contextmanager
def failing_at(step: str) -> Iterator[Told]:
    def told(what: str) -> None:
        if what == step:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        yield told


async def test_whatever_fails_leaves_nothing_or_the_whole(state: Path, backup: Path, tmp_path: Path) -> None:
    def again(told: Told) -> None:
        backed_up(state, tmp_path / "again", told)

    def restored(told: Told) -> None:
        restore(backup, tmp_path / "restored", told=told)

    for name, work in (("again", again), ("restored", restored)):
        whole = steps(work)
        shutil.rmtree(tmp_path / name)
        assert whole[-1] == "done"
        for step in whole:
            with failing_at(step) as told:
                work(told)
            left = {path.name for path in tmp_path.iterdir()} - {"backup", "state"}
            assert left == ({name} if step == "done" else set())
        shutil.rmtree(tmp_path / name)


PROGRAM = """
import pathlib, sys
from gateway.stores.backup import back_up, restore

def told(what):
    print(what, flush=True)
    sys.stdin.readline()

what, source, to = sys.argv[1], *map(pathlib.Path, sys.argv[2:])
if what == "backup":
    back_up(source, to, made_us=0, program="test", told=told)
else:
    restore(source, to, told=told)
"""


def started(*arguments: str | Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def kill_at(step: str, program: "subprocess.Popen[str]") -> None:
    with program:
        assert program.stdin
        assert program.stdout
        while program.stdout.readline() != f"{step}\n":
            program.stdin.write("\n")
            program.stdin.flush()
        program.kill()


@pytest.mark.parametrize("what", ["backup", "restore"])
async def test_killed_at_any_step_it_leaves_nothing_under_its_name_or_the_whole_and_may_be_tried_again(
    state: Path, backup: Path, tmp_path: Path, what: str
) -> None:
    source, to = (state, tmp_path / "again") if what == "backup" else (backup, tmp_path / "restored")
    whole = steps(
        lambda told: backed_up(source, to, told) if what == "backup" else restore(source, to, told=told)
    )
    shutil.rmtree(to)
    programs = [started(what, source, to) for _ in whole]  # at once, as they take a while to start
    for program, step in zip(programs, whole, strict=True):
        kill_at(step, program)
        assert to.exists() is (step == "done")
    for left in tmp_path.glob(".*.partial"):
        if not (left / MANIFEST).exists():
            with pytest.raises(Unfit, match="no back-up"):
                restore(left, tmp_path / "other", told=ignored)
    if what == "backup":
        restore(to, tmp_path / "restored", told=ignored)
    assert checked(tmp_path / "restored").intents == 60
