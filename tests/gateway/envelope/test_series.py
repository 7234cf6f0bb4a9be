"""Bodies of one series open as the record's that they were sealed as, and no nonce comes twice."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from gateway.envelope import series as module
from gateway.envelope.derived import derived, named
from gateway.envelope.keys import DataKey
from gateway.envelope.series import Series, segment_of, series_key
from tests.gateway.envelope.support import KEY, OTHER, opens

GOLDEN = Path(__file__).parent / "golden" / "series_v1.bin"
SEGMENT = "5e" * 16
BODY = b'{"status":"done"}'
OPENER = series_key(KEY, "t_acme", SEGMENT)


def sealed(body: bytes = BODY, before: int = 2) -> bytes:
    """As the third of its series."""
    series = Series(KEY, "t_acme", SEGMENT)
    for number in range(before):
        series.seal(f"r{number}", b"")
    return series.seal("r_1", body)


def test_version_1_keeps_its_bytes() -> None:
    assert sealed() == GOLDEN.read_bytes()


def test_version_1_is_what_its_description_says() -> None:
    """Opened by the description alone, with nothing of the room's but the primitives."""
    stored = GOLDEN.read_bytes()
    size = stored[1]
    segment, rest = stored[2 : 2 + size].decode(), stored[2 + size :]
    position, commitment, body = rest[:8], rest[8:40], rest[40:]
    names = [len(name).to_bytes(2, "big") + name.encode() for name in ("t_acme", "audit", segment)]
    found = derived(KEY.material.reveal(), salt=b"", info=b"gateway sealed series v1\0" + b"".join(names))
    bound = b"\1\0\7d_first" + b"".join(names) + b"\0\3r_1" + position
    assert (stored[0], segment, int.from_bytes(position, "big")) == (1, SEGMENT, 2)
    assert commitment == found.commitment
    assert AESGCM(found.key).decrypt(bytes(4) + position, body, bound) == BODY


def test_every_flipped_bit_and_every_cut_end_is_noticed() -> None:
    stored = sealed()
    assert OPENER.open(stored, "r_1") == BODY
    for place in range(len(stored)):
        for bit in range(8):
            changed = bytearray(stored)
            changed[place] ^= 1 << bit
            assert not opens(lambda: OPENER.open(bytes(changed), "r_1")), (place, bit)  # noqa: B023 - called at once
        assert not opens(lambda: OPENER.open(stored[:place], "r_1")), place  # noqa: B023 - the same
    assert not opens(lambda: OPENER.open(stored + b"\0", "r_1"))


def test_what_is_of_another_record_tenant_segment_or_key_does_not_open() -> None:
    stored = sealed()
    assert not opens(lambda: OPENER.open(stored, "r_2"))
    for other in (
        series_key(KEY, "t_other", SEGMENT),
        series_key(KEY, "t_acme", "5f" * 16),
        series_key(OTHER, "t_acme", SEGMENT),
        series_key(DataKey("d_other", KEY.material), "t_acme", SEGMENT),
    ):
        assert not opens(lambda: other.open(stored, "r_1"))  # noqa: B023 - called at once
        moved = stored.replace(SEGMENT.encode(), other.segment.encode())
        assert not opens(lambda: other.open(moved, "r_1"))  # noqa: B023 - the same


def test_a_body_that_was_sealed_under_another_key_is_not_opened_with_its_commitment_replaced() -> None:
    other = series_key(OTHER, "t_acme", SEGMENT)
    assert other.commitment != OPENER.commitment
    assert not opens(lambda: other.open(sealed().replace(OPENER.commitment, other.commitment), "r_1"))


def test_no_key_seals_two_bodies_with_one_nonce_in_a_million() -> None:
    """The pairs that are really used: what the series stores of each, under the commitment to its key."""
    seen: set[tuple[bytes, bytes]] = set()
    for number in range(10):
        series = Series(KEY if number % 2 else OTHER, f"t_{number // 4}", f"s{number}")
        size = 2 + len(f"s{number}")
        for _ in range(100_000):
            stored = series.seal("r", b"")
            seen.add((stored[size + 8 : size + 40], stored[size : size + 8]))
    assert len(seen) == 1_000_000


def test_a_series_ends_before_its_positions_do() -> None:
    series = Series(KEY, "t_acme", SEGMENT)
    series._next = module.MOST_BODIES - 1
    assert OPENER.open(series.seal("r", BODY), "r") == BODY
    with pytest.raises(OverflowError):
        series.seal("r", BODY)


def test_a_body_in_the_clear_is_never_taken_for_a_sealed_one() -> None:
    for clear in (b"", b"{}", BODY, b"\1", b"\1\0", b"\1\5abcd", b"\1\2a.", b"\1\1\xff", b"\2\1a"):
        assert not opens(lambda: segment_of(clear)), clear  # noqa: B023 - called at once
        assert not opens(lambda: OPENER.open(clear, "r_1")), clear  # noqa: B023 - the same


@pytest.mark.parametrize("segment", ["", "s" * 65, "a.b", "a/b", "ä", "a\n"])
def test_a_segment_whose_id_is_no_id_is_refused(segment: str) -> None:
    with pytest.raises(ValueError, match="id of a segment"):
        Series(KEY, "t_acme", segment)


def test_a_key_that_is_told_prints_nothing_of_itself() -> None:
    assert OPENER.key.reveal().hex() not in repr(OPENER)
    assert repr(OPENER.key.reveal()) not in repr(OPENER)


@given(
    segment=st.from_regex(r"[0-9A-Za-z_-]{1,64}", fullmatch=True),
    tenant=st.text(max_size=40),
    bodies=st.lists(st.tuples(st.text(max_size=40), st.binary(max_size=200)), max_size=5),
)
def test_any_body_comes_back_as_its_records(
    segment: str, tenant: str, bodies: list[tuple[str, bytes]]
) -> None:
    series, opener = Series(KEY, tenant, segment), series_key(KEY, tenant, segment)
    stored = [series.seal(record, body) for record, body in bodies]
    assert [opener.open(it, record) for it, (record, _) in zip(stored, bodies, strict=True)] == [
        body for _, body in bodies
    ]
    assert all(segment_of(it) == segment for it in stored)
    assert len({named(segment) + it[: 2 + len(segment) + 8] for it in stored}) == len(stored)
