"""What of a record is usage, and which commits count."""

import msgspec

from gateway.audit.record import Entry, Outcome, Owed, outcome_record
from gateway.audit.segment import StoredRecord, first_chain, frame
from gateway.usage.standing import call_of, found, portions, start
from tests.gateway.audit.support import NOW_US

OWED = Owed(request="q", tenant="t_a", key="k_a", model="m_a", model_version="1")


def outcome(number: int = 0, **said: object) -> StoredRecord:
    record = outcome_record(f"r{number}", OWED, Outcome(status="done", **said), at_us=NOW_US)  # type: ignore[arg-type]
    return StoredRecord(msgspec.json.decode(record.entry, type=Entry), record.body)


def test_a_call_is_estimated_by_its_time_on_the_replica_where_its_outcome_says_no_better() -> None:
    within = (NOW_US - 700, NOW_US)
    took = [
        outcome(interval_us=within, weight=1),
        outcome(interval_us=within, weight=1, compute_us=5),
        outcome(interval_us=within),
        outcome(),
    ]
    assert [call.compute_us for it in took if (call := call_of(it))] == [700, 5, 0, 0]


def test_an_outcome_of_the_first_programs_says_in_its_clear_body_how_it_ended() -> None:
    entry, body = outcome()
    old = StoredRecord(msgspec.structs.replace(entry, status=None), body)
    assert [call.ended for it in (old, old._replace(body=None)) if (call := call_of(it))] == ["done", None]


def segment(commits: int, records: int) -> bytes:
    """Each record of a key of its own."""
    data, chain, number = b"", first_chain("s"), 0
    for sequence in range(commits):
        them = []
        for _ in range(records):
            owed = msgspec.structs.replace(OWED, request=f"q{number}", key=f"k_{number}")
            them.append(outcome_record(f"r{number}", owed, Outcome(status="done"), at_us=NOW_US))
            number += 1
        framed = frame(sequence, them, chain)
        data, chain = data + framed.data, framed.chain
    return data


def test_the_newest_commit_waits_until_one_stands_behind_it_or_its_segment_is_named() -> None:
    data = segment(3, 1)
    assert len(found("s", data, start("s"), None).counted) == 2
    assert len(found("s", data, start("s"), 3).counted) == 3
    assert len(found("s", data, start("s"), 2).counted) == 2, "what lies behind the named end never happened"


def test_portions_stop_anywhere_and_go_on_from_there_with_no_call_twice_and_none_left_out() -> None:
    data = segment(3, 5)
    wanted = [f"k_{number}" for number in range(15)]
    for most in (1, 2, 4, 7, 100):
        keys, standing = list[str](), start("s")
        while len(keys) < 15:
            commits = found("s", data[standing.offset_bytes :], standing, 3).counted
            first = next(portions(standing, commits, most))  # and then it is killed
            keys += [call.key for call in first.calls]
            standing = first.standing
        assert keys == wanted
