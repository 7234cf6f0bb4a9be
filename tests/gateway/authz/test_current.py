"""Policies that change while the gateway serves: a good set replaces all at once, a bad one nothing, a half-written one is passed over."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import policies
from gateway.authz.cedar import ModelView, Subject
from gateway.authz.current import Current
from gateway.authz.errors import PolicyError
from tenants.ports import Question

FOLDER = Path(policies.__file__).parent
SUBJECT = Subject("k_1", "t_1", "acme", "active", "team", None)
MODEL = ModelView("m_1", "digits", everyone=False, tenants=frozenset({"acme"}))
OPERATOR = Question("k_2", "operator", None, "survey")
CLOSED = '@id("closed") @reason("nobody may do anything today") forbid (principal, action, resource);\n'
BROKEN = '@id("broken") forbid (principal, action'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for file in FOLDER.glob("*.cedar*"):
        shutil.copy(file, tmp_path)
    return tmp_path


def may(current: Current) -> tuple[bool, bool]:
    """Inference, and control."""
    return current.inference.decide(SUBJECT, "infer", MODEL).allowed, current.decide(OPERATOR).allowed


def add(folder: Path, name: str, text: str) -> None:
    file = folder / name
    file.write_text(file.read_text() + text)


async def looks(current: Current, times: int = 2) -> None:
    for _ in range(times):
        await current.look()


async def test_changed_files_replace_every_set_at_once_and_drop_what_was_decided_before(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway")
    current = Current.load(folder)
    before = current.version
    assert may(current) == (True, True)
    add(folder, "inference.cedar", CLOSED)
    add(folder, "operator.cedar", CLOSED)
    await current.look()
    assert may(current) == (True, True)  # somebody may still be writing
    assert (current.version, current.is_on_disk) == (before, False)
    await current.look()
    assert may(current) == (False, False)
    assert current.version == Current.load(folder).version != before
    assert (current.replaced, current.refused, current.is_on_disk) == (1, 0, True)
    assert f"policies {current.version[:12]} replace {before[:12]}" in caplog.text
    await looks(current)
    assert current.replaced == 1


async def test_a_bad_set_is_refused_loudly_and_once_and_the_good_one_stays(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway")
    current = Current.load(folder)
    good, before = (folder / "control.cedar").read_text(), current.version
    add(folder, "control.cedar", BROKEN)
    add(folder, "inference.cedar", CLOSED)  # good by itself, and not half of a set
    await looks(current, 5)
    assert may(current) == (True, True)
    assert (current.version, current.replaced, current.refused, current.is_on_disk) == (before, 0, 1, False)
    (refused,) = [it.getMessage() for it in caplog.records if it.levelno == logging.ERROR]
    assert f"{before[:12]} stays in force: {folder / 'control.cedar'}: " in refused
    add(folder, "control.cedar", BROKEN)
    await looks(current)
    assert current.refused == 2  # another bad one is another refusal
    (folder / "control.cedar").write_text(good)
    await looks(current)
    assert (may(current), current.replaced) == ((False, True), 1)


async def test_files_that_are_again_as_they_were_are_no_replacement(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway")
    current = Current.load(folder)
    good = (folder / "control.cedar").read_text()
    kept = current.inference
    add(folder, "control.cedar", BROKEN)
    await looks(current)
    (folder / "control.cedar").write_text(good)
    await looks(current, 3)
    assert (current.replaced, current.is_on_disk) == (0, True)
    assert current.inference is kept
    assert [it.getMessage() for it in caplog.records][1:] == [
        f"the files in {folder} are again the policies in force"
    ]


@pytest.mark.parametrize("name", ["inference.cedar", "operator.cedar", "control.cedarschema"])
@pytest.mark.parametrize(
    "half",
    [
        pytest.param(lambda file: file.write_text(""), id="empty"),
        pytest.param(lambda file: file.unlink(), id="missing"),
        pytest.param(lambda file: file.write_text(file.read_text()[:-1]), id="cut short"),
        pytest.param(lambda file: file.write_bytes(b"\xff" + file.read_bytes()), id="no text"),
        # a set that would load: what is cut between two policies is whole as far as Cedar can tell
        pytest.param(lambda file: file.write_text(file.read_text().rpartition("\n@id")[0]), id="cut between"),
    ],
)
async def test_a_file_that_is_half_written_for_a_moment_is_never_in_force(
    folder: Path, name: str, half: Callable[[Path], None]
) -> None:
    current = Current.load(folder)
    file = folder / name
    whole, before = file.read_text(), current.version
    for _ in range(3):
        half(file)
        await current.look()
        file.write_text(whole + "// a remark\n")
        await current.look()
        assert (current.version, current.refused) == (before, 0)
    await current.look()
    assert (current.version != before, current.replaced) == (True, 1)


@pytest.mark.parametrize("name", ["inference.cedar", "operator.cedar", "control.cedarschema"])
async def test_a_file_that_is_gone_or_empty_for_good_is_refused_and_named(
    folder: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    current = Current.load(folder)
    (folder / name).write_text("")
    await looks(current)
    (folder / name).unlink()
    await looks(current)
    assert (may(current), current.refused) == ((True, True), 2)
    assert [str(folder) in it.getMessage() for it in caplog.records] == [True, True]
    with pytest.raises(PolicyError):
        Current.load(folder)


async def test_what_could_not_be_decided_stays_counted_when_policies_are_replaced(folder: Path) -> None:
    current = Current.load(folder)
    nonsense = Question("k_1", "operator", None, "govern")
    assert not current.decide(nonsense).allowed
    assert current.undecided == 1
    add(folder, "inference.cedar", "// a remark\n")
    await looks(current)
    assert (current.replaced, current.undecided) == (1, 1)
    assert not current.decide(nonsense).allowed
    assert current.undecided == 2
