"""The bytes of kept answers and claims: what is stored today is read for as long as it is kept, and written the same."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kept import answer, claims
from gateway.kept.answer import Answer
from gateway.kept.claims import Claimed, Damaged
from gateway.kept.expiry import replied
from tenants.ports import Key, Row

DAY_US = 86_400_000_000
AT_US = 1_700_000_000_000_000  # 2023-11-14, 22:13:20
DIGEST = claims.digest_of("t_1", "one")
AT = Key("once/c", "20231114/52c")
ANSWER = Answer(200, ((b"content-type", b"application/json"),), b'{"a":1}\xff')
KEPT = b"\x01\x93\xcc\xc8\x91\x92\xc4\x0ccontent-type\xc4\x10application/json\xc4\x08" + b'{"a":1}\xff'
GOLDEN = [
    (
        Claimed("r1", 5, 9, b"\x00\xff"),
        b'{"v":1,"request":"r1","at_us":5,"until_us":9,"fingerprint":"AP8=","fate":"open"}',
    ),
    (
        Claimed("r2", 5, 9, b"", "released"),
        b'{"v":1,"request":"r2","at_us":5,"until_us":9,"fingerprint":"","fate":"released"}',
    ),
]
golden = pytest.mark.parametrize(("value", "stored"), GOLDEN)


def test_an_answer_is_these_bytes_and_they_are_read_as_this_answer() -> None:
    assert answer.encoded(ANSWER) == KEPT
    assert answer.decoded(KEPT) == ANSWER


@pytest.mark.parametrize("damaged", [b"", b"\x01", KEPT[:-1], b"\x02" + KEPT[1:], KEPT + b"\x00"])
def test_what_is_no_answer_of_this_version_is_refused(damaged: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        answer.decoded(damaged)


@golden
def test_a_claim_is_these_bytes_and_they_are_read_as_this_claim(value: Claimed, stored: bytes) -> None:
    assert claims.encoded(value) == stored
    assert claims.read(Row(AT, stored, 1)) == value
    assert claims.read(Row(AT, stored[:-1] + b',"later":1}', 1)) == value


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"null",
        b'{"v":1}',
        GOLDEN[0][1].replace(b'"v":1', b'"v":2'),
        GOLDEN[0][1].replace(b'"open"', b'"other"'),
        b'{"v":1,"later":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=["empty", "null", "no field", "version", "fate", "too deep"],
)
def test_a_damaged_claim_or_one_of_another_version_is_refused_and_so_is_its_key(damaged: bytes) -> None:
    with pytest.raises(Damaged):
        claims.holder({AT: Row(AT, damaged, 1)}, 0)


def test_a_claim_and_its_answer_are_at_these_places_which_do_not_tell_the_key() -> None:
    assert claims.digest_of("t_1", "one") == DIGEST
    assert claims.digest_of("t_2", "one") != DIGEST
    assert claims.digest_of("t_1", "1one") != claims.digest_of("t_11", "one")
    found = claims.places(DIGEST, AT_US)
    assert [at.partition for at in found] == [f"once/{DIGEST[0]}"] * 3
    assert [at.sort for at in found] == [
        f"{day}/{DIGEST[1:]}" for day in ("20231113", "20231114", "20231115")
    ]
    assert {at.partition for at in found} < set(claims.PARTITIONS)
    name = claims.answer_name(DIGEST, Claimed("r1", AT_US, AT_US, b""))
    assert name.startswith("replies/2023111422/")
    assert name != claims.answer_name(DIGEST, Claimed("r2", AT_US, AT_US, b""))


@given(st.integers(1_600_000_000_000_000, 1_900_000_000_000_000))
def test_an_answer_is_there_for_as_long_as_its_claim_holds(at_us: int) -> None:
    name = claims.answer_name(DIGEST, Claimed("r1", at_us, at_us, b""))
    ended = replied(name)
    assert ended is not None
    assert ended + claims.SWEPT > claims.moment(at_us) + claims.VOID + timedelta(minutes=5)


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_has_1_to_255_characters(key: str) -> None:
    with pytest.raises(ValueError, match="1 to 255"):
        claims.digest_of("t_1", key)


def test_a_claim_is_void_after_a_day_and_five_minutes_and_swept_only_when_no_clock_that_is_right_reads_it() -> (
    None
):
    void = AT_US + DAY_US + 300_000_000
    assert [claims.is_void(AT_US, at) for at in (AT_US, void - 1, void)] == [False, False, True]
    ends = 1_700_006_400_000_000  # its day
    swept = ends + 25 * 3_600_000_000
    assert [claims.is_swept("20231114/x", at) for at in (ends, swept - 1, swept)] == [False, False, True]
    assert not claims.is_swept("other", swept)
