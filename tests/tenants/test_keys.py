"""The form of a key, what is stored of it, and when it works."""

import pickle
import secrets
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants import keys
from tenants.keys import ALPHABET, ApiKey, Secret, checksum, digest, hashed, hint, mint, state

ZEROS = "gw_live_" + "0" * 30
KEY = ApiKey("k_1", "t_1", "ci", "abcd", ("digits",), 1, None, None)


def test_a_key_has_the_form_that_scripts_rely_on() -> None:
    text = mint(bytes(range(40))).reveal()
    assert text == "gw_live_S86reYjdQ5ckAqLoTS4ckntI6Yz8O0Ih0Urtum"
    assert digest(text) == "c4f24e396c1da3af4c9b992bf8bdc17591f46418a3cce0ef116553acec7f9ded"


def test_random_bytes_one_apart_give_keys_one_apart() -> None:
    assert [mint(number.to_bytes(40)).reveal()[:40] for number in (9, 61, 62)] == [
        ZEROS + "09",
        ZEROS + "0z",
        ZEROS + "10",
    ]


def test_every_character_is_as_likely_as_any_other() -> None:
    drawn = Counter("".join(mint(secrets.token_bytes(40)).reveal()[8:40] for _ in range(2000)))
    # 64,000 draws over 62 characters: chi-squared with 61 degrees of freedom passes 150 once in 10**9 runs.
    expected = 64_000 / 62
    assert sum((drawn[character] - expected) ** 2 / expected for character in ALPHABET) < 150
    assert set(drawn) <= set(ALPHABET)


def test_a_key_is_not_made_from_too_little_randomness() -> None:
    with pytest.raises(ValueError, match="random bytes"):
        mint(bytes(39))


@given(st.binary(min_size=40, max_size=40), st.integers(0, 45), st.sampled_from(ALPHABET + " -_é\n"))
def test_one_wrong_character_is_refused_before_any_look_up(random: bytes, place: int, other: str) -> None:
    secret = mint(random)
    text = secret.reveal()
    assert digest(text) == hashed(secret)
    changed = text[:place] + other + text[place + 1 :]
    assert (digest(changed) is None) == (changed != text)


@given(st.text())
def test_what_is_no_key_has_no_digest(text: str) -> None:
    assert digest(text) is None
    assert digest("gw_live_" + text) is None


@pytest.mark.parametrize("around", [" {}", "{} ", "{}\n", "{}0", "x{}"])
def test_nothing_may_stand_around_a_key(around: str) -> None:
    assert digest(around.format(mint(bytes(40)).reveal())) is None


@pytest.mark.parametrize(
    "body", ["gw_live_" + "0" * 31, "gw_live_" + "0" * 33, "gw_test_" + "0" * 32, "gw_live_" + "0" * 31 + "é"]
)
def test_a_right_checksum_alone_makes_no_key(body: str) -> None:
    assert digest(body + checksum(body)) is None


def test_a_secret_prints_nothing() -> None:
    secret = mint(secrets.token_bytes(40))
    for shown in (repr(secret), str(secret), f"{secret}", f"{[secret]!r}", "%s" % secret):  # noqa: UP031
        assert "gw_live_" not in shown
        assert hint(secret) not in shown


def test_a_secret_does_not_turn_into_bytes() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Secret("text"))
    with pytest.raises(TypeError):
        msgspec.json.encode({"key": Secret("text")})


def test_a_hint_shows_no_more_than_four_characters_of_the_secret() -> None:
    assert hint(mint(bytes(range(40)))) == "S86r"


@pytest.mark.parametrize(
    ("expires_us", "revoked_us", "now_us", "expected"),
    [
        (None, None, 10**18, "active"),
        (100, None, 99, "expiring"),
        (100, None, 100, "expired"),
        (100, 50, 99, "revoked"),
        (100, 50, 100, "revoked"),
        (None, 50, 0, "revoked"),
    ],
)
def test_a_key_works_until_its_end_and_never_again_once_revoked(
    expires_us: int | None, revoked_us: int | None, now_us: int, expected: keys.State
) -> None:
    key = msgspec.structs.replace(KEY, expires_us=expires_us, revoked_us=revoked_us)
    assert state(key, now_us) == expected
