"""The key file: what it wraps nobody else opens, and one that is lost, another one, damaged or open to others stops the start."""

import json
import os
import signal
import stat
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import count
from pathlib import Path

import pytest

from gateway.envelope.keys import Material
from gateway.envelope.ports import KeyRefused, KeyService
from gateway.settings import Keys, Settings
from gateway.state_keys import KEY_CHECK, KEY_FILE, WRAPPED, opened_key_service
from gateway.stores import key_file
from gateway.stores.aside import aside
from gateway.stores.key_file import KeyFile, KeyFileUnfit, WrappingKey
from gateway.stores.sqlite import SqliteTable
from tenants.ports import Key, Put
from tests.contracts.key_service import CONTEXT, SECRET, KeyServiceContract

ROOT = Path(__file__).parents[3]
# Of the key 32 times 07, the salt 32 times 09, SECRET and CONTEXT.
GOLDEN_ID = "w_0b54adffafe1379cb612d3d366568155"
GOLDEN = (
    "010b54adffafe1379cb612d3d36656815509090909090909090909090909090909090909090909090909090909090909091f"
    "34b2551b06a1907197047185c8a11ff416ed47b9fa32c83e843b47ac0b3e3dfdd8f1df03d7a74aca258115771b3cc9"
)


def draws(start: int = 1) -> Callable[[int], bytes]:
    """Other bytes each time, and the same in each run."""
    numbers = count(start)
    return lambda size: next(numbers).to_bytes(2) * (size // 2)


def made(path: Path, keys: int = 1) -> list[WrappingKey]:
    draw = draws()
    first = key_file.create(path, draw, 1)
    return [first, *(key_file.add(path, draw, 1 + number) for number in range(1, keys))]


class TestKeyFile(KeyServiceContract):
    @pytest.fixture
    def service(self, tmp_path: Path) -> KeyService:
        made(tmp_path / "keys.json", keys=3)
        return KeyFile(tmp_path / "keys.json", os.urandom)


def test_the_stored_form_is_fixed() -> None:
    material = Material(bytes([7]) * 32)
    entry = {"id": GOLDEN_ID, "made_us": 5, "key": b64encode(material.reveal()).decode()}
    (key,) = key_file._parsed(json.dumps({"v": 1, "keys": [entry]}).encode(), Path("keys.json"))
    wrapped = key_file.wrap(key, Material(SECRET), CONTEXT, bytes([9]) * 32)
    assert wrapped.hex() == GOLDEN
    assert key_file.unwrap([key], bytes.fromhex(GOLDEN), CONTEXT).reveal() == SECRET


def test_a_new_file_is_its_owners_alone_and_never_replaces_one(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made(path)
    content = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        key_file.create(path, draws(50), 1)
    assert path.read_bytes() == content
    assert [it.name for it in tmp_path.iterdir()] == ["keys.json"]


async def test_the_newest_key_wraps_and_the_others_still_open_what_they_wrapped(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    (first,) = made(path)
    before = await KeyFile(path, draws()).wrap(Material(SECRET), CONTEXT)
    second = key_file.add(path, draws(20), 2)
    service = KeyFile(path, draws(30))
    after = await service.wrap(Material(SECRET), CONTEXT)
    assert [key_file.named_by(it) for it in (before, after)] == [first.id, second.id]
    for wrapped in (before, after):
        assert (await service.unwrap(wrapped, CONTEXT)).reveal() == SECRET
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_key_that_is_added_is_taken_while_a_gateway_runs(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made(path)
    service = KeyFile(path, draws(40))
    added = key_file.add(path, draws(20), 2)
    elsewhere = await KeyFile(path, draws(60)).wrap(Material(SECRET), CONTEXT)
    assert (await service.unwrap(elsewhere, CONTEXT)).reveal() == SECRET
    assert service.newest.id == added.id


@pytest.mark.parametrize("change", ["lost", "another", "malformed", "open"])
async def test_a_file_that_goes_bad_while_a_gateway_runs_changes_nothing_for_it(
    tmp_path: Path, change: str
) -> None:
    path = tmp_path / "keys.json"
    (first,) = made(path)
    service = KeyFile(path, draws(40))
    before = await service.wrap(Material(SECRET), CONTEXT)
    match change:
        case "lost":
            path.unlink()
        case "another":
            path.unlink()
            key_file.create(path, draws(90), 1)
        case "malformed":
            path.write_text("{")
        case "open":
            os.utime(path, ns=(1, 1))
            path.chmod(0o644)
    assert key_file.named_by(await service.wrap(Material(SECRET), CONTEXT)) == first.id
    assert (await service.unwrap(before, CONTEXT)).reveal() == SECRET


async def test_a_tenants_own_kms_key_is_refused_in_words(tmp_path: Path) -> None:
    made(tmp_path / "keys.json")
    service = KeyFile(tmp_path / "keys.json", draws())
    wrapped = await service.wrap(Material(SECRET), CONTEXT)
    with pytest.raises(KeyRefused, match="local key file, which cannot wrap with a tenant's own KMS key"):
        await service.wrap(Material(SECRET), CONTEXT, "arn:aws:kms:eu-west-1:111122223333:key/a")
    with pytest.raises(KeyRefused, match="local key file"):
        await service.unwrap(wrapped, CONTEXT, "arn:aws:kms:eu-west-1:111122223333:key/a")


_DIES = """
import os, sys
from pathlib import Path
from gateway.stores.aside import aside
path = Path(sys.argv[1])
with aside(path, b"a new key") as made:
    if sys.argv[2] == "linked":
        os.link(made, path)
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("when", ["written", "linked"])
@pytest.mark.parametrize("by", ["the next start", "the next key"])
async def test_what_a_crash_leaves_of_a_key_is_there_no_longer(tmp_path: Path, when: str, by: str) -> None:
    path = tmp_path / ("keys.json" if when == "written" else "copy.json")
    made(tmp_path / "keys.json")
    died = subprocess.run([sys.executable, "-c", _DIES, path, when], cwd=ROOT, check=False)  # noqa: ASYNC221 - our own
    assert died.returncode == -signal.SIGKILL
    (left,) = (it for it in tmp_path.iterdir() if it.name.startswith(f".{path.name}."))
    assert left.read_bytes() == b"a new key"
    if when == "linked":
        path.rename(tmp_path / "keys.json.copy")
        (tmp_path / "keys.json").rename(path)
    if by == "the next start":
        async with opened(tmp_path, path):
            pass
    else:
        key_file.add(path, draws(20), 2)
    assert not left.exists()


def test_what_somebody_else_writes_meanwhile_is_not_taken_for_what_was_left(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    (tmp_path / ".keys.json.abcdefgh.partial").write_bytes(b"left")
    own = [".keys.json.20261127", ".keys.json.old", ".keys.json.original"]
    for name in own:
        (tmp_path / name).write_bytes(b"of somebody's own")
    with aside(path, b"theirs") as theirs:
        with aside(path, b"ours") as ours:
            assert (Path(theirs).read_bytes(), Path(ours).read_bytes()) == (b"theirs", b"ours")
        key_file.create(path, draws(), 1)
        assert Path(theirs).exists()
    assert sorted(it.name for it in tmp_path.iterdir()) == [*own, "keys.json"]


# At the start


def opened(state: Path, file: Path | None = None) -> AbstractAsyncContextManager[KeyService]:
    return opened_key_service(Settings(state=state, keys=Keys(file=file)))


async def refusal(state: Path, file: Path | None = None) -> str:
    with pytest.raises(KeyFileUnfit) as fault:
        async with opened(state, file):
            pass
    return str(fault.value)


async def has_wrapped(state: Path) -> bytes:
    """The state has a wrapped data key from now on, and a key file if it had none; gives what was wrapped."""
    async with opened(state) as service, SqliteTable(state / WRAPPED) as table:
        wrapped = await service.wrap(Material(SECRET), CONTEXT)
        await table.transact(Put(Key("keys", "d_1"), wrapped, 0))
    return wrapped


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


async def test_a_state_with_nothing_wrapped_gets_a_key_file_that_opens_it_ever_after(state: Path) -> None:
    wrapped = await has_wrapped(state)
    async with opened(state) as service:
        assert (await service.unwrap(wrapped, CONTEXT)).reveal() == SECRET
    assert stat.S_IMODE((state / KEY_FILE).stat().st_mode) == 0o600


async def test_a_lost_key_file_stops_the_start_and_is_never_made_anew(state: Path) -> None:
    await has_wrapped(state)
    (state / KEY_FILE).rename(state / "away.json")
    said = await refusal(state)
    assert f"{state / KEY_FILE} is missing" in said
    assert "restore it from its back-up" in said
    assert "keys.file" in said
    assert not (state / KEY_FILE).exists()
    async with opened(state, state / "away.json"):
        pass


async def test_a_key_file_that_is_named_is_not_made(state: Path) -> None:
    said = await refusal(state, state / "elsewhere.json")
    assert f"there is no key file {state / 'elsewhere.json'}" in said
    assert "bring it there" in said
    assert not (state / "elsewhere.json").exists()


async def test_another_key_file_stops_the_start_and_the_right_one_is_still_known(state: Path) -> None:
    wrapped = await has_wrapped(state)
    (state / KEY_FILE).rename(state / "right.json")
    made(state / KEY_FILE)
    said = await refusal(state)
    assert "is another one than that of the state" in said
    assert "restore the right one from its back-up" in said
    async with opened(state, state / "right.json") as service:
        assert (await service.unwrap(wrapped, CONTEXT)).reveal() == SECRET


async def test_a_damaged_check_stops_the_start(state: Path) -> None:
    await has_wrapped(state)
    check = bytearray((state / KEY_CHECK).read_bytes())
    check[-1] ^= 1
    (state / KEY_CHECK).write_bytes(check)
    assert "another one than that of the state" in await refusal(state)


async def test_a_check_of_a_state_that_has_wrapped_nothing_is_made_anew(state: Path) -> None:
    async with opened(state):
        pass
    good = (state / KEY_CHECK).read_bytes()
    (state / KEY_CHECK).write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    await has_wrapped(state)
    async with opened(state):
        pass


async def test_the_check_goes_over_to_the_newest_key_so_that_an_old_one_may_leave(state: Path) -> None:
    await has_wrapped(state)
    added = key_file.add(state / KEY_FILE, draws(70), 2)
    async with opened(state):
        pass
    assert key_file.named_by((state / KEY_CHECK).read_bytes()) == added.id


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666])
async def test_a_key_file_that_others_may_read_or_write_stops_the_start(state: Path, mode: int) -> None:
    await has_wrapped(state)
    (state / KEY_FILE).chmod(mode)
    assert f"chmod 600 {state / KEY_FILE}" in await refusal(state)


async def test_what_is_no_regular_file_stops_the_start_and_does_not_hang_it(state: Path) -> None:
    os.mkfifo(state / KEY_FILE, 0o600)
    assert "is no regular file" in await refusal(state)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("what", ["file", "link"])
async def test_a_key_file_of_somebody_elses_stops_the_start(state: Path, what: str) -> None:
    made(state / "real.json")
    if what == "file":
        (state / "real.json").rename(state / KEY_FILE)
    else:
        (state / KEY_FILE).symlink_to("real.json")
    os.chown(state / KEY_FILE, 12345, -1, follow_symlinks=False)
    assert "somebody else's" in await refusal(state)


async def test_a_link_of_ones_own_is_followed(state: Path) -> None:
    made(state / "real.json")
    (state / KEY_FILE).symlink_to("real.json")
    async with opened(state):
        pass


ENTRY = json.dumps({"id": GOLDEN_ID, "made_us": 1, "key": b64encode(bytes([7]) * 32).decode()})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("{", ":1: "),
        ('{"v": 1, "keys": [\n' + ENTRY, ":2: "),
        ('{"v": 1, "keys": [\n' + ENTRY + ",\nnonsense]}", ":3: "),
        ('{"v": 1, "keys": []}', ":1: "),
        ('{"v": 1}', ":1: "),
        ('{"v": 2, "keys": [\n' + ENTRY + "]}", "has version 2, and this program knows versions up to 1"),
        ('{"v": 0, "keys": [\n' + ENTRY + "]}", ":1: "),
        ('{"v": 1, "more": 1, "keys": [\n' + ENTRY + "]}", ":1: "),
        ('{"v": 1, "keys": [\n' + ENTRY + ",\n" + ENTRY + "\n]}", ":3: the key w_"),
        (
            '{"v": 1, "keys": [\n' + ENTRY + ",\n" + ENTRY.replace("Bw", "Cw", 1) + "\n]}",
            ":3: this key is not",
        ),
        ('{"v": 1, "keys": [\n' + ENTRY + ",\n" + ENTRY.replace("w_", "x_") + "\n]}", ":3: "),
        ('{"v": 1, "keys": [\n' + ENTRY + ",\n" + ENTRY.replace("Bwc=", '"') + "\n]}", ":3: "),
        ('{"v": 1, "keys": [\n' + ENTRY.replace("Bwc=", "Bw==") + "\n]}", ":2: "),
        ('{"v": 1, "keys": [\n' + ENTRY.replace("BwcH", "B cH") + "\n]}", ":2: "),
        ('{"v": 1, "keys": [\n' + ENTRY.replace('"made_us": 1', '"made_us": -1') + "\n]}", ":2: "),
        ("\xff", ":1: "),
        (" " * 70_000 + "{", "more than 65536 bytes"),
        ('{"v": 1, "keys": [\n' + ",\n".join([ENTRY] * 201) + "\n]}", ":1: "),
    ],
)
async def test_a_malformed_key_file_stops_the_start_with_its_line_and_nothing_of_a_key(
    state: Path, content: str, said: str
) -> None:
    (state / KEY_FILE).write_bytes(content.encode("latin-1"))
    (state / KEY_FILE).chmod(0o600)
    found = await refusal(state)
    assert str(state / KEY_FILE) in found
    assert said in found
    assert "BwcH" not in found


def test_no_key_is_seen_in_what_prints_it(tmp_path: Path) -> None:
    (key,) = made(tmp_path / "keys.json")
    secret = key.key.reveal()
    assert not any(it in repr(key) for it in (repr(secret), secret.hex(), b64encode(secret).decode()))


def test_a_file_that_is_full_takes_no_more_keys_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    draw = draws()
    path.write_bytes(key_file._formatted([key_file._new(draw, 1) for _ in range(key_file.MOST_KEYS)]))
    path.chmod(0o600)
    content = path.read_bytes()
    with pytest.raises(KeyFileUnfit, match="may have no more"):
        key_file.add(path, draw, 2)
    assert path.read_bytes() == content
    assert len(content) < key_file.MOST_BYTES
