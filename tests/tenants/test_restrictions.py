"""A tenant restricts itself: what may be said, how it is kept, and that documents neither lift it by silence nor lose it."""

import pytest
from msgspec.structs import replace

from tenants import declare
from tenants.acts import Act
from tenants.customer import TenantDocument
from tenants.directory import Directory
from tenants.documents import Source, parse
from tenants.errors import AlreadyExists, Invalid, Stale, Unreadable
from tenants.outline import as_declared
from tenants.ports import Key, Row
from tenants.restrictions import MOST, Restrictions, faults
from tenants.rows import encoded, read
from tenants.tenant import Tenant
from tenants.writing import tree, written

ALL = Restrictions(("eu-west",), ("digits",), ("192.0.2.0/24", "2001:db8::/32"))
TENANT = Tenant("t_1", "acme", "team", "active", 5, restrictions=ALL)
STORED = (
    b'{"v":1,"id":"t_1","name":"acme","plan":"team","state":"active","created_us":5,"closes_us":null,'
    b'"restrictions":{"regions":["eu-west"],"models":["digits"],"networks":["192.0.2.0/24","2001:db8::/32"]},"kms_key":null,"privacy":null}'
)
ACT = Act("cli:test", 1)
BASE = "kind: Tenant\nname: acme\nplan: team\n"


def test_a_restricted_tenant_is_written_as_these_bytes_and_read_from_them() -> None:
    assert encoded(TENANT) == STORED
    assert read(Row(Key("place"), STORED, 1), Tenant) == TENANT


def test_a_restriction_that_came_later_refuses_its_row_as_passing_over_it_would_open_a_door() -> None:
    stored = STORED.replace(b'"restrictions":{', b'"restrictions":{"later":1,')
    with pytest.raises(Unreadable):
        read(Row(Key("place"), stored, 1), Tenant)


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        (Restrictions(regions=()), "regions"),
        (Restrictions(regions=("eu west",)), "regions[0]"),
        (Restrictions(regions=("a", "a")), "regions"),
        (Restrictions(regions=tuple(f"r{n}" for n in range(MOST + 1))), "regions"),
        (Restrictions(models=("digits", "../digits")), "models[1]"),
        (Restrictions(networks=()), "networks"),
        (Restrictions(networks=("192.0.2.0/24", "192.0.2.1/24")), "networks[1]"),
        (Restrictions(networks=("everywhere",)), "networks[0]"),
    ],
)
def test_a_fault_has_its_path(wanted: Restrictions, path: str) -> None:
    assert [fault.path for fault in faults(wanted)] == [path]
    assert [fault.path for fault in faults(wanted, "restrictions.")] == [f"restrictions.{path}"]


async def test_what_is_put_replaces_what_was_there_and_only_a_change_leaves_an_event(acme: Directory) -> None:
    tenants = acme.tenants
    before = len((await tenants.events("acme")).values)
    assert (await tenants.restrict("acme", ALL, ACT)).restrictions == ALL
    await tenants.restrict("acme", ALL, ACT)
    some = Restrictions(regions=("eu-north",))
    assert (await tenants.restrict("acme", some, ACT)).restrictions == some
    assert (await tenants.restrict("acme", Restrictions(), ACT)).restrictions is None
    assert (await tenants.show("acme")).restrictions is None
    told = (await tenants.events("acme")).values[before:]
    assert [it.action for it in told] == ["tenant.restricted"] * 3


async def test_what_is_wrong_stale_or_there_already_changes_nothing(acme: Directory) -> None:
    tenants = acme.tenants
    with pytest.raises(Invalid):
        await tenants.restrict("acme", Restrictions(models=("a b",)), ACT)
    found = await tenants.find("acme")
    await tenants.restrict("acme", ALL, ACT, expected=found.version, new=True)
    with pytest.raises(Stale):
        await tenants.restrict("acme", Restrictions(), ACT, expected=found.version)
    with pytest.raises(AlreadyExists):
        await tenants.restrict("acme", Restrictions(models=("digits",)), ACT, new=True)
    assert (await tenants.show("acme")).restrictions == ALL


def test_a_document_that_does_not_say_leaves_them_and_one_that_says_none_lifts_them() -> None:
    before = TenantDocument("acme", "team", (), "active", restrictions=ALL)
    silent = TenantDocument("acme", "team", ())
    assert as_declared(silent, before).restrictions == ALL
    assert as_declared(silent, None).restrictions is None
    assert as_declared(replace(silent, restrictions=Restrictions()), before).restrictions is None
    some = Restrictions(models=("digits",))
    assert as_declared(replace(silent, restrictions=some), before).restrictions == some


async def test_a_document_restricts_the_diff_shows_it_and_the_export_says_it_again(acme: Directory) -> None:
    said = BASE + "restrictions: {regions: [eu-west], networks: [192.0.2.0/24]}\n"
    declared = parse([Source("a.yaml", "/", said.encode())])
    outline = await declare.apply(acme, declared, ACT)
    (change,) = outline.changes.values()
    assert {name: it for name, it in change.fields.items() if name.startswith("restrictions")} == {
        "restrictions.regions": (None, ("eu-west",)),
        "restrictions.networks": (None, ("192.0.2.0/24",)),
    }
    (tenant,) = [it for it in await declare.everything(acme) if isinstance(it, TenantDocument)]
    exported = written([tree(tenant)])
    assert "restrictions:" in exported
    again = parse([Source("b.yaml", "/", exported.encode())])
    assert not again.faults
    assert not (await declare.apply(acme, again, ACT)).changes
    lifted = parse([Source("c.yaml", "/", (BASE + "restrictions: {}\n").encode())])
    await declare.apply(acme, lifted, ACT)
    assert (await acme.tenants.show("acme")).restrictions is None


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ("restrictions: {networks: [10.0.0.1/8]}", "restrictions.networks[0]"),
        ("restrictions: {regions: []}", "restrictions.regions"),
        ("restrictions: {hours: [9]}", "restrictions.hours"),
        ("restrictions: eu", "restrictions"),
    ],
)
def test_a_document_with_a_fault_names_its_line_and_path(said: str, path: str) -> None:
    (fault,) = parse([Source("a.yaml", "/", f"{BASE}{said}\n".encode())]).faults
    assert (fault.line, fault.path) == (4, path)
