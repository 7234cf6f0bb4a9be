"""What opens a tenant's audit records is told to its own admins, for as long as it opens anything, and to nobody else."""

from base64 import urlsafe_b64decode

import pytest

from gateway.envelope.keys import DataKey
from gateway.envelope.series import Series, series_key
from tenants.acts import Act
from tenants.api.records import MOST_SERIES
from tenants.events import Event
from tests.tenants.api.worlds import World
from tests.tenants.conftest import events
from tests.worlds.table import Fault

SERIES = ("5e" * 16, "5e" * 16 + "-1")


async def key_of(world: World, tenant: str = "acme") -> DataKey:
    return await world.keyring.key((await world.directory.tenants.show(tenant)).id, "audit")


def asked(key_id: str, *series: str) -> str:
    return f"/audit/v1/keys?series={','.join(series or SERIES)}&data_key={key_id}"


async def test_an_admin_is_told_what_opens_exactly_these_series(world: World) -> None:
    key, tenant = await key_of(world), (await world.directory.tenants.show("acme")).id
    answer = await world.ask("GET", asked(key.id, *SERIES, SERIES[0]), by="admin")
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    told = answer.json["keys"]
    assert [(it["series"], it["data_key"]) for it in told] == [(it, key.id) for it in SERIES]
    for it in told:
        opener = series_key(key, tenant, it["series"])
        assert urlsafe_b64decode(it["key"]) == opener.key.reveal()
        assert urlsafe_b64decode(it["commitment"]) == opener.commitment
        assert opener.open(Series(key, tenant, it["series"]).seal("r", b"{}"), "r") == b"{}"
    assert len({it["key"] for it in told}) == len(SERIES)


async def test_a_key_of_another_tenant_or_purpose_reads_as_one_that_is_not_there(world: World) -> None:
    theirs = await key_of(world, "globex")
    tenant = (await world.directory.tenants.show("acme")).id
    replies = await world.keyring.key(tenant, "replies")
    told = set()
    for key_id in (theirs.id, replies.id, "d_00000000000000000000", ""):
        answer = await world.ask("GET", asked(key_id), by="admin")
        assert (answer.status, answer.code) == (404, "not_found")
        told.add(answer.json["detail"].replace(repr(key_id), "?"))
    assert len(told) == 1


async def test_a_destroyed_key_opens_nothing_any_more_and_its_tenant_hears_so(world: World) -> None:
    key = await key_of(world)
    destroyed = Act("cli:test", world.now_us)
    await world.directory.data_keys.destroy("acme", key.id, destroyed, wait_seconds=0, backup_days=0)
    world.now_us += 60_000_000
    answer = await world.ask("GET", asked(key.id), by="admin")
    assert (answer.status, answer.code) == (410, "destroyed")
    assert (await world.ask("GET", asked(key.id), by="stranger")).status == 404


async def test_without_the_key_service_the_answer_is_503_and_says_when_to_come_again(world: World) -> None:
    key = await key_of(world)
    world.service.gone = True
    world.now_us += 600_000_000
    calls = world.service.calls
    for wait in ("5", "5", "3"):  # of two gateways, and of the first one again
        answer = await world.ask("GET", asked(key.id), by="admin")
        assert (answer.status, answer.code) == (503, "sealing_unavailable")
        assert answer.headers["retry-after"] == wait
        world.now_us += 1_250_000
    assert world.service.calls == calls + 2


@pytest.mark.parametrize(
    "series",
    [
        ",".join(f"s{number}" for number in range(MOST_SERIES + 1)),
        "a,,b",
        "a b",
        "x" * 65,
        "a%0Ab",
        "%2e%2e",
        "a&series=b",
    ],
)
async def test_series_that_are_none_or_too_many_are_refused_and_no_key_is_looked_for(
    world: World, series: str
) -> None:
    key, calls = await key_of(world), world.service.calls
    answer = await world.ask("GET", asked(key.id, series), by="admin")
    assert (answer.status, answer.code, answer.json["path"]) == (422, "invalid", "series")
    assert world.service.calls == calls


def told_events(world: World) -> list[Event]:
    return [it for it in events(world.table) if it.action == "datakey.told"]


async def test_that_somebody_is_told_is_in_the_tenants_history_once_an_hour_for_each_and_no_key_is(
    world: World,
) -> None:
    key = await key_of(world)
    admin = f"key:{world.ids['admin key']}"
    for _ in range(3):
        told = (await world.ask("GET", f"{asked(key.id)}&reason=audit+of+may", by="admin")).json["keys"]
    (event,) = told_events(world)
    assert (event.actor, event.subject, event.reason) == (admin, f"datakey/{key.id}", "audit of may")
    assert event.before == event.after
    page = await world.ask("GET", "/tenants/acme/audit?limit=100", by="admin")
    assert [it["id"] for it in page.json["items"] if it["action"] == "datakey.told"] == [event.id]
    rows = b"".join(row.value for row in world.table.rows.values())
    assert not any(it["key"].encode() in rows or urlsafe_b64decode(it["key"]) in rows for it in told)
    world.now_us += 3_600_000_000
    assert (await world.ask("GET", asked(key.id), by="admin")).status == 200
    assert [it.actor for it in told_events(world)] == [admin, admin]


async def test_who_is_told_nothing_has_no_event(world: World) -> None:
    key = await key_of(world)
    theirs = await key_of(world, "globex")
    for query, by in ((asked(key.id), "developer"), (asked(theirs.id), "admin"), ("/audit/v1/keys", "admin")):
        await world.ask("GET", query, by=by)
    assert told_events(world) == []


@pytest.mark.parametrize("fault", Fault)
async def test_no_key_is_told_where_its_event_cannot_be_written(world: World, fault: Fault) -> None:
    key = await key_of(world)
    world.table.write_faults.append(fault)
    lost = await world.ask("GET", asked(key.id), by="admin")
    assert (lost.status, lost.code) == (503, "table_unavailable")
    assert len(told_events(world)) == (fault is Fault.LOST_AFTER)
    assert (await world.ask("GET", asked(key.id), by="admin")).status == 200
    assert len(told_events(world)) == 1


async def test_who_was_told_is_in_the_log_and_no_key_is(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    key = await key_of(world)
    told = (await world.ask("GET", asked(key.id), by="admin")).json["keys"]
    await world.ask("GET", asked(key.id), by="developer")
    allowed, denied = caplog.messages[-2:]
    assert f"showAuditKeys by key:{world.ids['admin key']}: 200" in allowed
    assert "admin-opens-its-tenants-records" in allowed
    assert f"reveal by key:{world.ids['developer key']}: no policy permits it" in denied
    assert not any(it["key"] in caplog.text for it in told)
