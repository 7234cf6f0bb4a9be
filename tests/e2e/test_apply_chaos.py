"""kill -9 of whoever changes a directory, at any moment: afterwards it is as it was or as it was to be, with the events of just that.

CHAOS=full    200 kills of a process that only changes, and half as many of commands, instead of 20 and 10
CHAOS_SEED=N  the same moments again
"""

import os
import random
import secrets
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gateway.state import clock
from tenants import declare
from tenants.acts import Act
from tenants.directory import Directory
from tenants.outline import Prune, outlined
from tenants.plans import Limits, Plan
from tenants.ports import Key, Row
from tenants.writing import tree, written
from tests.conftest import ROOT
from tests.e2e.applier import TENANT, counted, declared, generation
from tests.e2e.world import PROGRAM, change, command, in_parallel
from tests.tenants import replay

pytestmark = pytest.mark.chaos

KILLS = 100 if os.environ.get("CHAOS") == "full" else 10
KILLS_OF_COMMANDS = ROUNDS = KILLS // 2  # most of a command's life is before the work, and costs as much
WITHIN_SECONDS = 0.4
Property = Callable[[str, object], None]
Told = list[list[str]]


@pytest.fixture
def moments(record_property: Property) -> random.Random:
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbits(32))
    record_property("seed of the kills (CHAOS_SEED)", seed)
    print(f"CHAOS_SEED={seed}")
    return random.Random(seed)


def pause(seconds: float) -> None:
    """A moment is the point of these tests, and no way to be in time."""
    threading.Event().wait(seconds)


def rows(state: Path) -> dict[Key, Row]:
    with closing(sqlite3.connect(state / "table.sqlite")) as table:
        found = table.execute("SELECT partition, sort, value, version FROM rows")
        return {Key(partition, sort): Row(Key(partition, sort), *rest) for partition, sort, *rest in found}


def expect_whole(state: Path) -> None:
    """Every change with its event and its number, and every key with the pointer that finds it."""
    found = rows(state)
    assert replay.faults(found) == []
    keys = [key for key in found if key.partition.startswith("tenant/") and key.sort.startswith("key/")]
    assert len(keys) == len([key for key in found if key.partition.startswith("digest/")])


def generation_of(state: Path, *numbers: int) -> int:
    """Which of these documents are true, wholly: the test fails where none are."""

    async def find(directory: Directory) -> int:
        for number in numbers:
            stored = await declare.read(directory, declared(number))
            if not outlined(declared(number), stored, Prune.CATALOGUE).changes:
                return number
        return pytest.fail(f"half of something: neither of {numbers}")

    return change(state, find)


def apply(state: Path, number: int) -> None:
    async def act(directory: Directory) -> None:
        await declare.apply(directory, declared(number), Act("test", 1), prune=Prune.CATALOGUE)
        await directory.repair()

    change(state, act)


@contextmanager
def working(state: Path, what: str, seed: int, first: int = 0) -> Iterator["subprocess.Popen[str]"]:
    words = [sys.executable, "-m", "tests.e2e.applier", str(state), what, str(seed), str(first)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def killed(process: "subprocess.Popen[str]", after_seconds: float) -> Told:
    """What it said until the kill, from the first that it began."""
    assert process.stdout is not None
    said = [process.stdout.readline()]
    pause(after_seconds)
    process.kill()
    said += process.stdout.readlines()
    assert process.wait() == -9
    return [line.split(maxsplit=1) for line in said if line.endswith("\n")]


# A process that does nothing else: nearly every kill is in the middle


def test_documents_are_true_wholly_or_not_at_all_after_kill_9(
    state: Path, moments: random.Random, record_property: Property
) -> None:
    apply(state, 0)
    number, found = 0, Counter[str]()
    for _ in range(KILLS):
        with working(state, "documents", 0, number + 1) as process:
            said = killed(process, moments.uniform(0, WITHIN_SECONDS))
        (what, last) = said[-1]
        new = int(last)
        left = any(key.partition.startswith("stage") for key in rows(state))
        number = generation_of(state, new, new - 1) if what == "begin" else generation_of(state, new)
        found.update(
            [what, "something to repair" if left else "nothing to repair", "new" if number == new else "old"]
        )
        expect_whole(state)
        apply(state, new)
        number = generation_of(state, new)
        assert not [key for key in rows(state) if key.partition.startswith("stage")]
    record_property("kills of a process that applies documents", _figures(found))


def test_operations_with_keys_are_done_wholly_or_not_at_all_after_kill_9(
    state: Path, moments: random.Random, record_property: Property
) -> None:
    change(state, _seed)
    found = Counter[str]()
    before = "0 0 0 active"
    for number in range(KILLS):
        with working(state, "keys", moments.randrange(2**32)) as process:
            said = killed(process, moments.uniform(0, WITHIN_SECONDS))
        (what, after) = (said[-1][0], said[-1][1].strip())
        old = next((it.strip() for done, it in reversed(said) if done == "end"), before)
        before = change(state, counted)
        assert before in ((old, after) if what == "begin" else (after,)), f"kill {number}"
        found.update([what, "new" if before == after else "old"])
        expect_whole(state)
    record_property("kills of a process that changes keys", _figures(found))


async def _seed(directory: Directory) -> None:
    await directory.values.put(Plan("team", 1, Limits(1000)), act=Act("test", 1))
    await directory.tenants.create(TENANT, "team", act=Act("test", 1))


# The command line: also what is before the work and behind it


def test_gateway_apply_leaves_the_old_or_the_new_after_kill_9(
    state: Path, tmp_path: Path, moments: random.Random, record_property: Property
) -> None:
    apply(state, 0)
    number, found = 0, Counter[str]()
    for _ in range(KILLS_OF_COMMANDS):
        new = number + 1
        path = _written(tmp_path, new)
        words: list[str | Path] = ["apply", "-f", path, "--prune", "--state", state]
        ended = _started_and_killed(words, moments)
        number = generation_of(state, new, number)
        found.update(["ended" if ended else "killed", "new" if number == new else "old"])
        expect_whole(state)
        assert command(*words).returncode == 0
        number = generation_of(state, new)
    record_property("kills of gateway apply", _figures(found))


def test_gateway_keys_leaves_the_old_or_the_new_after_kill_9(
    state: Path, moments: random.Random, record_property: Property
) -> None:
    change(state, _seed)
    found = Counter[str]()
    for _ in range(KILLS_OF_COMMANDS):
        before = change(state, counted)
        words, after = change(state, lambda it, before=before: _next(it, before, moments))  # type: ignore[misc]
        ended = _started_and_killed(["keys", *words, "--tenant", TENANT, "--state", state], moments)
        now = change(state, counted)
        assert now in (before, after)
        found.update(["ended" if ended else "killed", "new" if now == after else "old"])
        expect_whole(state)
    record_property("kills of gateway keys", _figures(found))


async def _next(directory: Directory, before: str, moments: random.Random) -> tuple[list[str], str]:
    """A command, and what is there once it is done."""
    made, rotated, revoked, state = before.split()
    known = (await directory.keys.list(TENANT, limit=1000)).values
    able = [key.id for key in known if key.revoked_us is None and key.successor_id is None]
    what = moments.choice(["create", "rotate", "revoke"] if able else ["create"])
    if what == "create":
        return ["create"], f"{int(made) + 1} {rotated} {revoked} {state}"
    if what == "rotate":
        return ["rotate", moments.choice(able)], f"{int(made) + 1} {int(rotated) + 1} {revoked} {state}"
    return ["revoke", moments.choice(able)], f"{made} {rotated} {int(revoked) + 1} {state}"


def _started_and_killed(words: list[str | Path], moments: random.Random) -> bool:
    """Whether it had ended before the kill, which comes anywhere in the life of such a command."""
    started = clock()
    subprocess.run([PROGRAM, "tenants", "list", *words[-2:]], capture_output=True, timeout=60, check=False)
    life_seconds = clock() - started
    with subprocess.Popen([PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        pause(moments.uniform(0.3, 1.3) * life_seconds)  # a third is the program's own start
        process.kill()
        process.communicate()
        return process.returncode != -9


def _written(folder: Path, number: int) -> Path:
    path = folder / f"{number}.yaml"
    path.write_text(written(map(tree, generation(number))))
    return path


def _figures(found: Counter[str]) -> str:
    return ", ".join(f"{many} {what}" for what, many in sorted(found.items()))


# Several at once


def test_of_applies_at_once_one_is_true_wholly_and_the_others_are_told(
    state: Path, tmp_path: Path, moments: random.Random, record_property: Property
) -> None:
    apply(state, 0)
    done, told = 0, 0
    for number in range(ROUNDS):
        rivals = [1 + number * 10 + it for it in range(moments.randint(2, 4))]
        words = [["apply", "-f", _written(tmp_path, it), "--prune", "--state", state] for it in rivals]
        results = in_parallel([lambda it=it: command(*it) for it in words])  # type: ignore[misc]
        last = generation_of(state, *rivals)
        assert results[rivals.index(last)].returncode == 0
        for result in results:
            if result.returncode:
                told += 1
                assert (result.returncode, "was changed meanwhile: cli:" in result.stderr) == (1, True), (
                    result
                )
                assert "Run it again" in result.stderr
            else:
                done += 1
        expect_whole(state)
    applied = [key for key in rows(state) if key.partition == "documents"]
    assert rows(state)[applied[0]].version == 1 + done
    record_property("applies at once", f"{done} applied, {told} told that others were faster")
