"""A privacy says what it means or is refused, is kept while a tenant has it, and closes the door where it cannot be read."""

from collections.abc import Awaitable, Callable

import phonenumbers
import pytest

from tenants.acts import Act
from tenants.declare import apply, everything
from tenants.directory import Directory
from tenants.documents import Source, parse
from tenants.errors import Faulty, InUse, NotFound
from tenants.keys import hashed
from tenants.outline import Prune
from tenants.ports import Row
from tenants.privacy import REGIONS, Privacy, Retention, faults
from tenants.rows import encoded, privacy_at
from tests.tenants.conftest import BY, NOW, TEAM
from tests.worlds.table import MemoryTable

ACT = Act(BY, NOW)
PLAN = "kind: Plan\nname: team\nweight: 1\nlimits: {body_bytes: 9}\n---\n"
PRIVACY = "kind: Privacy\nname: default\nmask: [email]\n---\n"
ACME = "kind: Tenant\nname: acme\nplan: team\n"


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (Privacy("Default"), "name"),
        (Privacy("none"), "name"),
        (Privacy("a", ("email", "email")), "mask"),
        (Privacy("a", ("email",), phone_regions=("US",)), "phone_regions"),
        (Privacy("a", ("phone",), phone_regions=("US", "UK")), "phone_regions[1]"),
        (Privacy("a", ("phone",), phone_regions=("US", "US")), "phone_regions"),
    ],
)
def test_what_would_mask_less_than_it_seems_to_is_refused(value: Privacy, path: str) -> None:
    assert [it.path for it in faults(value)] == [path]


def test_the_regions_are_those_that_the_detector_of_numbers_knows() -> None:
    assert REGIONS == phonenumbers.SUPPORTED_REGIONS


@pytest.mark.parametrize(
    ("said", "part", "days"),
    [
        ("", 0.0, 90),
        ("retention_days: {bodies: forever}", 0.0, None),
        ('capture: "off"', 0.0, 90),
        ('capture: "on"', 1.0, 90),
        ("capture: {sampled: 0.01}", 0.01, 90),
    ],
)
def test_a_document_says_how_much_is_captured_and_for_how_long(
    said: str, part: float, days: int | None
) -> None:
    found = parse([Source("a", "/", f"kind: Privacy\nname: default\n{said}\n".encode())])
    assert found.faults == ()
    (document,) = found.documents
    assert isinstance(document.value, Privacy)
    assert (document.value.captured_part, document.value.bodies_days) == (part, days)


@pytest.mark.parametrize("said", ["on", "1", "{sampled: 0}", "{sampled: 1}", "{sampled: 0.1, of: 2}", "[1]"])
def test_a_capture_that_is_not_said_so_is_refused(said: str) -> None:
    found = parse([Source("a", "/", f"kind: Privacy\nname: default\ncapture: {said}\n".encode())])
    assert [it.path.partition(".")[0] for it in found.faults] == ["capture"]


async def _applied(directory: Directory, text: str, prune: Prune = Prune.NOTHING) -> None:
    await apply(directory, parse([Source("a", "/", text.encode())]), ACT, prune=prune)


async def test_a_name_that_no_privacy_has_is_refused_and_nothing_is_applied(
    directory: Directory, world: MemoryTable
) -> None:
    before = dict(world.rows)
    with pytest.raises(Faulty) as refused:
        await _applied(directory, PLAN + ACME + "privacy: nowhere\n")
    assert [it.path for it in refused.value.faults] == ["privacy"]
    assert world.rows == before
    with pytest.raises(NotFound):
        await directory.tenants.create("acme", "team", ACT, privacy="nowhere")


async def test_silence_keeps_a_tenants_privacy_and_only_none_takes_it(directory: Directory) -> None:
    await _applied(directory, PLAN + PRIVACY + ACME + "privacy: default\n")
    await _applied(directory, PLAN + PRIVACY + ACME)
    assert (await directory.tenants.show("acme")).privacy == "default"
    await _applied(directory, PLAN + PRIVACY + ACME + "privacy: none\n")
    assert (await directory.tenants.show("acme")).privacy is None


async def test_a_privacy_that_a_tenant_has_is_not_removed(directory: Directory) -> None:
    await _applied(directory, PLAN + PRIVACY + ACME + "privacy: default\n")
    with pytest.raises(InUse):
        await directory.values.remove(Privacy, "default", ACT)
    with pytest.raises(Faulty):
        await _applied(directory, PLAN + ACME, Prune.CATALOGUE)
    await _applied(directory, PLAN + ACME + "privacy: none\n", Prune.CATALOGUE)
    assert await directory.values.privacies() == {}


async def test_what_is_exported_has_the_privacy_and_who_has_it(directory: Directory) -> None:
    await _applied(directory, PLAN + PRIVACY + ACME + "privacy: default\n")
    found = await everything(directory)
    assert Privacy("default", ("email",)) in found
    assert [getattr(it, "privacy", None) for it in found if it.name == "acme"] == ["default"]


async def _gone(world: MemoryTable) -> None:
    del world.rows[privacy_at("default")]


async def _damaged(world: MemoryTable) -> None:
    world.rows[privacy_at("default")] = Row(privacy_at("default"), b"{", 9)


async def _later(world: MemoryTable) -> None:
    stored = encoded(Privacy("default"))[:-1] + b',"later":1}'
    world.rows[privacy_at("default")] = Row(privacy_at("default"), stored, 9)


@pytest.mark.parametrize("harm", [_gone, _damaged, _later])
async def test_a_tenant_whose_privacy_cannot_be_read_is_not_served(
    directory: Directory, world: MemoryTable, harm: Callable[[MemoryTable], Awaitable[None]]
) -> None:
    kept = Privacy("default", ("email",), retention_days=Retention(1, 1))
    await directory.values.put(TEAM, kept, act=ACT)
    owner = await directory.tenants.create("acme", "team", ACT, privacy="default")
    key = await directory.keys.create("acme", ACT)
    digest = hashed(key.secret)
    found = await directory.keys.find(digest)
    belonging = await directory.issuers.belonging(tenant_id=owner.id)
    assert found is not None
    assert belonging is not None
    assert found.privacy == belonging.privacy == kept
    await harm(world)
    assert await directory.keys.find(digest) is None
    assert await directory.issuers.belonging(tenant_id=owner.id) is None
