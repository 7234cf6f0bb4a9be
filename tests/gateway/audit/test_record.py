"""Version 1 as it was when the first entry was written. If one of these fails, write a version 2."""

from pathlib import Path

import msgspec
import pytest

from gateway.audit.record import (
    Denial,
    DenialsBody,
    Entry,
    IntentBody,
    Outcome,
    Owed,
    Record,
    Withheld,
    denial_record,
    digest,
    intent_record,
    outcome_record,
    own_record,
)
from gateway.audit.segment import Tail, first_chain, forgotten, frame, scan
from gateway.envelope.series import Series, segment_of, series_key
from tests.gateway.audit.support import NOW_US
from tests.gateway.envelope.support import KEY

GOLDEN = Path(__file__).parent / "golden"
OWED = Owed(request="0" * 32, tenant="t_a", key="k_a", model="m_a", model_version="1")


def golden_records() -> list[Record]:
    body = IntentBody(
        tenant_name="acme",
        key_name="ci",
        address="192.0.2.7",
        action="infer",
        policies=("inference.members",),
        quota={"remaining": 49},
        protocol="oip_rest",
    )
    outcome = Outcome(
        status="partial",
        http_status=200,
        reason="client_gone",
        replica="r1",
        model_version="2",
        interval_us=(NOW_US, NOW_US + 9),
        weight=3,
        requests=1,
        bytes=700,
        tokens=8,
        compute_us=5,
        durations={"forward": 9},
        request_bytes=500,
        reply_bytes=200,
    )
    return [
        intent_record("1" * 32, OWED, body, at_us=NOW_US),
        outcome_record("2" * 32, OWED, outcome, at_us=NOW_US + 10),
    ]


def test_entries_and_bodies_of_version_1_keep_their_bytes() -> None:
    lines = [part for record in golden_records() for part in (record.entry, record.body)]
    assert b"\n".join(lines) + b"\n" == (GOLDEN / "records_v1_status.jsonl").read_bytes()


def test_an_outcome_of_the_first_programs_is_the_same_without_its_status() -> None:
    first = (GOLDEN / "records_v1.jsonl").read_bytes().splitlines()
    for old, new in zip(first, (GOLDEN / "records_v1_status.jsonl").read_bytes().splitlines(), strict=True):
        assert old == new.replace(b'"status":"partial","body', b'"body')
    assert msgspec.json.decode(first[2], type=Entry).status is None


def sealed_records() -> list[Record]:
    """One of each kind that is about a tenant, sealed in this order with one series; the last is withheld."""
    series = Series(KEY, "t_a", "5e" * 16)
    body = IntentBody(tenant_name="acme", key_name="ci", address="192.0.2.7", action="infer", protocol="grpc")
    denial = Denial(request="0" * 32, reason="rate", status=429, address="192.0.2.7", tenant="t_a", key="k_a")
    counts = DenialsBody(reasons={"rate": 3}, from_us=NOW_US, until_us=NOW_US + 1)
    return [
        intent_record("1" * 32, OWED, body, at_us=NOW_US, sealer=series),
        outcome_record("2" * 32, OWED, Outcome(status="done"), at_us=NOW_US, sealer=series),
        denial_record("3" * 32, denial, at_us=NOW_US, sealer=series),
        own_record("4" * 32, "denials", counts, at_us=NOW_US, tenant="t_a", key="k_a", sealer=series),
        denial_record("5" * 32, denial, at_us=NOW_US, sealer=Withheld()),
    ]


def test_a_sealed_record_of_version_1_keeps_its_bytes_and_opens() -> None:
    lines = [
        part for record in sealed_records() for part in (record.entry, record.body.hex().encode() or b"-")
    ]
    stored = (GOLDEN / "sealed_records_v1.txt").read_bytes()
    assert b"\n".join(lines) + b"\n" == stored
    entries = [msgspec.json.decode(line, type=Entry) for line in stored.splitlines()[::2]]
    bodies = [bytes.fromhex(line.decode()) for line in stored.splitlines()[1:-1:2]]
    assert [entry.sealed_with for entry in entries] == [*["d_first"] * 4, None]
    opener = series_key(KEY, "t_a", segment_of(bodies[0]))
    opened = [opener.open(body, entry.record) for body, entry in zip(bodies, entries[:-1], strict=True)]
    assert msgspec.json.decode(opened[0], type=IntentBody).key_name == "ci"
    assert msgspec.json.decode(opened[3], type=DenialsBody).reasons == {"rate": 3}


def test_a_commit_of_version_1_keeps_its_bytes() -> None:
    made = frame(0, golden_records(), first_chain("s"))
    assert made.data == (GOLDEN / "commit_v1_status.bin").read_bytes()


def test_a_commit_of_version_1_is_still_read() -> None:
    found = scan("s", (GOLDEN / "commit_v1.bin").read_bytes())
    assert found.tail is Tail.CLEAN
    intent, outcome = found.commits[0].records
    assert (intent.entry.kind, intent.entry.request, intent.entry.model_version) == ("intent", "0" * 32, "1")
    assert (outcome.entry.weight, outcome.entry.tokens, outcome.entry.model_version) == (3, 8, "2")
    assert outcome.entry.body_sha256 == digest(outcome.body or b"")


def test_a_commit_with_forgotten_bodies_keeps_its_bytes() -> None:
    whole = (GOLDEN / "commit_v1.bin").read_bytes()
    stored = (GOLDEN / "commit_v1_forgotten.bin").read_bytes()
    assert forgotten("s", whole, lambda entry: entry.kind == "intent") == stored
    intent, outcome = scan("s", stored).commits[0].records
    assert (intent.entry, intent.body) == (scan("s", whole).commits[0].records[0].entry, None)
    assert outcome == scan("s", whole).commits[0].records[1]


def test_a_field_added_later_is_read_over_and_another_version_is_refused() -> None:
    entry = golden_records()[0].entry
    later = entry.replace(b'"v":1', b'"v":1,"added":true')
    assert msgspec.json.decode(later, type=Entry) == msgspec.json.decode(entry, type=Entry)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(entry.replace(b'"v":1', b'"v":2'), type=Entry)


def test_an_entry_holds_no_name_and_no_address() -> None:
    for entry in [record.entry for record in golden_records()]:
        assert b"192.0.2.7" not in entry
        assert b"acme" not in entry
