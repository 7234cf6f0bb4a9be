"""How changes become rows: each with its event and its record, each kind at a place of its own."""

import msgspec
from msgspec import Raw

from tenants import rows
from tenants.acts import Act
from tenants.events import Action, Changed, Event
from tenants.holdings import Held
from tenants.ports import Check, Delete, Key, Put, Row
from tenants.rows import Change, encoded, handed_over, new_row, transaction
from tenants.tenant import Tenant

AT = Key("place")
X = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
Y = "a1fce4363854ff888cff4b8e7875d600c2682390412a8cf79b37d0b11148b0fa"
DNS_X = "0ccfa0d1ca4ee37631866b120108be356963edc920e49c8520da4a1a356eac43"


def test_a_change_is_written_with_its_event_and_its_record_under_its_condition() -> None:
    before = Tenant("t_1", "acme", "team", "active", 5)
    stored = encoded(before)
    after = encoded(msgspec.structs.replace(before, state="closed"))
    closing = Change(Action.TENANT_CLOSED, "t_1", AT, Row(AT, stored, 4), after, "t_1")
    put, event, record = transaction([closing], 12, ["e_1"], Act("cli:root", 7, "unpaid"))
    place = Key("tenant/t_1", "event/00000000000000000012/00")
    assert put == Put(AT, after, expected=4)
    told = Event(
        "e_1", 7, "cli:root", Action.TENANT_CLOSED, "tenant/t_1", Raw(stored), Raw(after), "unpaid", 12
    )
    assert event == new_row(place, told)
    changed = Changed(12, 7, ("tenant/t_1",), ((place.partition, place.sort),))
    assert record == new_row(Key("changes", "00000000000000000012"), changed)


def test_a_creation_brings_what_must_go_with_it() -> None:
    also = Check(Key("other"), 3)
    creation = Change(Action.PLAN_CREATED, "team", AT, None, b"{}", also=(also,))
    first, second, event, _ = transaction([creation], 1, ["e_1"], Act("cli:root", 7))
    assert (first, second) == (Put(AT, b"{}", expected=0), also)
    assert isinstance(event, Put)
    assert event.key.partition == "events"
    assert msgspec.json.decode(event.value, type=Event).before == Raw(b"null")


def test_a_removal_tells_what_was_there() -> None:
    removal = Change(Action.PLAN_REMOVED, "team", AT, Row(AT, b"{}", 3), None)
    first, event, _ = transaction([removal], 1, ["e_1"], Act("cli:root", 7))
    assert first == Delete(AT, expected=3)
    assert isinstance(event, Put)
    told = msgspec.json.decode(event.value, type=Event)
    assert (told.before, told.after) == (Raw(b"{}"), Raw(b"null"))


def test_what_is_not_kept_in_the_table_is_told_and_has_no_row() -> None:
    at = rows.capture_at("t_1", "r1")
    gone = Change(Action.CAPTURE_DELETED, "r1", at, None, None, "t_1")
    first, event, _ = transaction([gone], 1, ["e_1"], Act("cli:root", 7, "ticket"))
    assert first == Check(at, 0)
    assert isinstance(event, Put)
    told = msgspec.json.decode(event.value, type=Event)
    assert (told.subject, told.before, told.after) == ("capture/r1", Raw(b"null"), Raw(b"null"))
    assert (event.key.partition, told.reason) == ("tenant/t_1", "ticket")


def test_what_is_given_up_and_got_goes_and_comes_with_the_change() -> None:
    a, b, c = (Held("issuer", "https://a", name) for name in "abc")
    assert handed_over([a, b], [b, c], "t_1") == (
        Delete(rows.held_at(a), None),
        Put(rows.held_at(c), b'{"v":1,"tenant_id":"t_1"}', None),
    )


def test_each_kind_of_row_has_a_place_of_its_own() -> None:
    places = [
        rows.name_at("x"),
        rows.tenant_at("x"),
        rows.key_at("x", "x"),
        rows.member_at("x", "x"),
        rows.account_at("x", "x"),
        rows.event_at("x", 1, 1),
        rows.event_at(None, 1, 1),
        rows.change_at(1),
        rows.receipt_at("x"),
        rows.on_plan_at("x", "x"),
        rows.HEAD_AT,
        rows.DOCUMENTS_AT,
        rows.digest_at("x"),
        rows.plan_at("x"),
        rows.model_at("x"),
        rows.fleet_at("x"),
        rows.issuer_at("x"),
        rows.holding_at("x", "issuers"),
        rows.held_at(Held("issuer", "x", "y")),
        rows.holding_at("x", "certificates"),
        rows.held_at(Held("certificate", "x", "dns")),
        rows.used_at("x", "x"),
    ]
    assert places == [
        ("tenants", "x"),
        ("tenant/x", "tenant"),
        ("tenant/x", "key/x"),
        ("tenant/x", "member/x"),
        ("tenant/x", "account/x"),
        ("tenant/x", "event/00000000000000000001/01"),
        ("events", "00000000000000000001/01"),
        ("changes", "00000000000000000001"),
        ("receipts", "x"),
        ("plan/x", "x"),
        ("head", ""),
        ("documents", "head"),
        ("digest/x", ""),
        ("plans", "x"),
        ("models", "x"),
        ("fleets", "x"),
        ("issuers", "x"),
        ("tenant/x", "issuers"),
        (f"issuer/{X}", Y),
        ("tenant/x", "certificates"),
        (f"certificate/{DNS_X}", ""),
        ("used/x", "x"),
    ]


def test_the_names_of_what_happened_are_never_reused() -> None:
    assert {action.value for action in Action} == {
        "datakey.created",
        "datakey.rotated",
        "datakey.rewrapping",
        "datakey.rewrapped",
        "datakey.destroying",
        "datakey.kept",
        "datakey.destroyed",
        "datakey.told",
        "tenant.created",
        "tenant.changed",
        "tenant.suspended",
        "tenant.resumed",
        "tenant.closing",
        "tenant.reopened",
        "tenant.restricted",
        "tenant.closed",
        "privacy.created",
        "privacy.changed",
        "privacy.removed",
        "member.invited",
        "member.changed",
        "member.removed",
        "account.created",
        "account.changed",
        "account.removed",
        "key.created",
        "key.rotated",
        "key.revoked",
        "key.used",
        "plan.created",
        "plan.changed",
        "plan.removed",
        "model.created",
        "model.changed",
        "model.removed",
        "fleet.created",
        "fleet.changed",
        "fleet.removed",
        "issuer.created",
        "issuer.changed",
        "issuer.removed",
        "issuer.assigned",
        "certificate.assigned",
        "capture.deleted",
        "documents.applied",
    }
