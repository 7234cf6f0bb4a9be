"""No token comes in that the issuer did not sign for now, in the one form it has; and what is refused says nothing of itself."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.types import Options

from gateway.auth.claims import MOST_AUDIENCES, SKEW_SECONDS
from gateway.auth.jose import (
    MOST_CHARACTERS,
    MOST_CLAIM_MARKS,
    MOST_HEADER_BYTES,
    KeySet,
    Rejected,
    key_set,
    read,
    verify,
)
from gateway.auth.jwk import ALGORITHMS
from gateway.auth.reading import MOST_DEPTH
from tests.gateway.auth.hostile import ELSEWHERE, HOSTILE, PAIRS, UNSENDABLE
from tests.gateway.auth.hostile_keys import Make
from tests.gateway.auth.published import admitted, refusal
from tests.gateway.auth.signers import (
    ABSENT,
    KIDS,
    NOW,
    NOW_US,
    P256_ORDER,
    World,
    base64url,
    dumped,
    rsa_key,
)
from tests.work import calls


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def keys(world: World) -> KeySet:
    found = key_set(world.key_set())
    assert (len(found), found.rejected) == (3, ())
    return found


# What is hostile.


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in HOSTILE.items()])
def test_a_hostile_token_is_refused(make: Make, world: World, keys: KeySet) -> None:
    assert refusal(make(world), keys)


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in UNSENDABLE.items()])
def test_a_hostile_text_that_no_header_carries_is_refused(make: Make, world: World, keys: KeySet) -> None:
    assert refusal(make(world), keys)


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in ELSEWHERE.items()])
def test_who_a_token_is_of_and_for_is_told_letter_for_letter(make: Make, world: World, keys: KeySet) -> None:
    token = admitted(make(world), keys)
    assert (token.issuer, token.audiences) != (world.issuer, (world.audience,))
    assert token.issuer != world.issuer or world.audience not in token.audiences


def test_the_table_of_hostile_tokens_has_each_name_once_and_only_what_a_header_can_carry(
    world: World,
) -> None:
    assert len(PAIRS) == len(HOSTILE) > 300
    for name, make in HOSTILE.items():
        text = make(world)
        assert text.isascii(), name
        assert text.isprintable() or "\t" in text, name
        assert text == text.strip() != "", name


def test_a_table_that_is_one_change_from_right_tokens_starts_from_right_tokens(
    world: World, keys: KeySet
) -> None:
    """Else what is refused in it could be refused for its beginnings."""
    for text in (*map(world.token, KIDS), world.raw(), world.raw(dumped(world.header("EdDSA")))):
        assert admitted(text, keys).subject == "alice"
    for alg in KIDS:
        text, signature = world.parts(alg)
        assert admitted(f"{text}.{base64url(signature)}", keys).algorithm == alg


@pytest.mark.parametrize(
    "name",
    [
        *(
            f"{alg}, {how}"
            for alg in ("ES256", "EdDSA")
            for how in ("a byte less", "a byte more", "a zero before", "twice")
        ),
        *(f"{alg}, {how}" for alg in KIDS for how in ("one byte", "1,025 bytes")),
        *(
            "ES256 in DER",
            "ES256 of P-384",
            "ES256, all zero",
            "ES256, all ones",
            "ES256, both are the order",
        ),
        *(f"ES256, {which} is {what}" for which in "rs" for what in ("0", "the order")),
        *(
            "EdDSA, s and the order",
            "EdDSA, s and seven orders",
            "EdDSA, s with its highest bit",
            "EdDSA of Ed448",
        ),
    ],
)
def test_a_signature_of_another_form_is_refused_before_a_key_is_asked_for(name: str, world: World) -> None:
    with pytest.raises(Rejected, match="another form than its algorithm's"):
        read(HOSTILE[name](world))


def test_a_signature_of_rsa_without_the_zero_it_starts_with_is_refused(world: World) -> None:
    """It is the same number, and the library takes it; it has another text. One in 256 starts so."""
    own = replace(world.own, rsa=rsa.generate_private_key(65537, 2056))
    (key,) = key_set(dumped({"keys": [rsa_key(own.rsa)]})).keys
    token = read(world.token("PS256", by=own))
    while (signature := own.sign("PS256", token.signed))[0] != 0:
        pass
    verify(replace(token, signature=signature), key)
    shorter = f"{token.signed.decode()}.{base64url(signature[1:])}"
    assert ALGORITHMS["PS256"].verify(token.signed, key.public, signature[1:])
    with pytest.raises(Rejected, match="not this key's"):
        verify(read(shorter), key)


PLANTED = "Zm9yYmlkZGVu"


@pytest.mark.parametrize("name", ["iss", "sub", "aud", "exp", "nbf", "iat"])
def test_neither_a_refusal_nor_a_token_shows_a_claim(name: str, world: World, keys: KeySet) -> None:
    text = world.token(claims={"secret": PLANTED, name: [PLANTED, {PLANTED: PLANTED}]})
    with pytest.raises(Rejected) as caught:
        read(text)
    assert PLANTED not in repr(caught.value) + str(caught.value) + caught.value.reason
    assert caught.value.__cause__ is None
    token = admitted(world.token(claims={"sub": PLANTED}), keys)
    assert token.subject == PLANTED
    assert PLANTED not in f"{token!r} {token} {[token]}"
    assert base64url(token.signature)[:20] not in repr(token)


def test_the_reasons_are_a_fixed_set_that_no_token_adds_to(world: World, keys: KeySet) -> None:
    reasons = {refusal(make(world), keys) for make in HOSTILE.values()}
    other = World(issuer="https://x.example", audience="y", subject="z", more={"a": PLANTED})
    assert {refusal(make(other), keys) for make in HOSTILE.values()} == reasons
    assert len(reasons) > 25
    assert max(map(len, reasons)) < 60


# What is right.


@pytest.mark.parametrize("algorithm", KIDS)
@pytest.mark.parametrize(
    "typ", [ABSENT, "JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/JWT"]
)
def test_each_algorithm_and_type_comes_in_with_what_it_says(
    algorithm: str, typ: Any, world: World, keys: KeySet
) -> None:
    claims = {
        "nbf": NOW - 5,
        "aud": ["other", "gateway"],
        "roles": ["viewer"],
        "scope": {"a": [1, 2.5, None]},
    }
    token = admitted(world.token(algorithm, header={"typ": typ}, claims=claims), keys)
    assert (token.algorithm, token.kid) == (algorithm, KIDS[algorithm])
    assert (token.issuer, token.subject) == (world.issuer, "alice")
    assert token.audiences == ("other", "gateway")
    assert (token.issued_us, token.not_before_us) == (NOW_US, NOW_US - 5_000_000)
    assert token.expires_us == NOW_US + 300_000_000
    assert token.claims["roles"] == ["viewer"]
    assert token.claims["scope"] == {"a": [1, 2.5, None]}
    with pytest.raises(TypeError):
        token.claims["roles"] = ["admin"]  # type: ignore[index]


@pytest.mark.parametrize("algorithm", KIDS)
def test_a_library_reads_in_a_token_what_is_read_here(algorithm: str, world: World, keys: KeySet) -> None:
    text = world.token(algorithm)
    token = admitted(text, keys)
    found = keys.key_for(token)
    assert found is not None
    options: Options = {"verify_exp": False, "verify_iat": False}
    said = jwt.decode(text, found.public, [algorithm], options, audience="gateway", issuer=world.issuer)
    assert said == token.claims


@pytest.mark.parametrize(
    "given",
    [
        {"jku": "https://login.acme.example/jwks"},
        {"x5u": "https://login.acme.example/pem", "x5t": "abc", "x5t#S256": "abc"},
        {"x5c": ["MIIB"], "jwk": {"kty": "RSA", "n": "AQAB", "e": "AQAB"}},
        {"nonce": "abc", "x": [1, 2]},
    ],
)
def test_what_a_header_says_of_other_keys_changes_nothing(
    given: dict[str, Any], world: World, keys: KeySet
) -> None:
    assert admitted(world.token(header=given), keys).kid == "rsa-1"


@pytest.mark.parametrize("algorithm", KIDS)
def test_a_token_without_a_kid_is_held_against_the_only_key_for_its_algorithm(
    algorithm: str, world: World, keys: KeySet
) -> None:
    text = world.token(algorithm, header={"kid": ABSENT})
    assert admitted(text, keys).kid is None
    rolled = key_set(
        dumped({"keys": [*world.own.published(), *({**it, "kid": "b"} for it in world.stranger.published())]})
    )
    assert len(rolled) == 6
    assert rolled.key_for(read(text)) is None


def test_both_twins_of_an_ecdsa_signature_come_in_with_the_same_claims(world: World, keys: KeySet) -> None:
    text, signature = world.parts("ES256")
    twin = signature[:32] + (P256_ORDER - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")
    assert twin != signature
    both = [admitted(f"{text}.{base64url(it)}", keys) for it in (signature, twin)]
    assert both[0].claims == both[1].claims
    assert both[0].signed == both[1].signed
    assert both[0].expires_us == both[1].expires_us


def test_a_key_is_for_its_own_algorithm_alone(world: World) -> None:
    keys = key_set(dumped({"keys": [rsa_key(world.own.rsa, alg="PS256")]}))
    admitted(world.token("PS256"), keys)
    assert keys.key_for(read(world.token("RS256"))) is None
    found = keys.key_for(read(world.token("PS256")))
    assert found is not None
    with pytest.raises(Rejected, match="not for this algorithm"):
        verify(read(world.token("RS256")), found)


# Times.


@pytest.mark.parametrize(
    ("claims", "outcome"),
    [
        ({"exp": NOW - SKEW_SECONDS + 1}, "holds"),
        ({"exp": NOW - SKEW_SECONDS + 0.5}, "holds"),
        ({"exp": NOW - SKEW_SECONDS}, "refused"),
        ({"exp": NOW - SKEW_SECONDS - 0.5}, "refused"),
        ({"nbf": NOW + SKEW_SECONDS}, "holds"),
        ({"nbf": NOW + SKEW_SECONDS + 0.5}, "refused"),
        ({"nbf": NOW + SKEW_SECONDS + 1}, "refused"),
        ({"iat": NOW + SKEW_SECONDS}, "holds"),
        ({"iat": NOW + SKEW_SECONDS + 1}, "refused"),
        ({"iat": ABSENT}, "holds"),
        ({"iat": 1, "nbf": 1}, "holds"),
    ],
)
def test_a_token_holds_from_its_beginning_to_its_end_give_or_take_the_skew(
    claims: dict[str, Any],
    outcome: str,
    world: World,
    keys: KeySet,
) -> None:
    text = world.token("EdDSA", claims=claims)
    if outcome == "holds":
        admitted(text, keys)
    else:
        assert refusal(text, keys)


def test_the_skew_is_less_than_a_minute() -> None:
    assert 0 < SKEW_SECONDS <= 60


def test_the_last_second_that_can_be_said_fits_in_64_bits_and_the_next_is_refused(world: World) -> None:
    last = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
    assert read(world.token("EdDSA", claims={"exp": last})).expires_us == last * 1_000_000 < 2**63
    with pytest.raises(Rejected, match="exp is no time of this era"):
        read(world.token("EdDSA", claims={"exp": last + 1}))


def test_a_time_in_milliseconds_is_not_a_token_for_fifty_thousand_years(world: World, keys: KeySet) -> None:
    assert refusal(world.token(claims={"exp": (NOW + 300) * 1000}), keys) == "exp is no time of this era"


# The largest of each kind comes in, and is bounded work.


LARGEST: dict[str, Callable[[World], str]] = {
    "a long claim": lambda world: world.token("EdDSA", claims={"a": "a" * 11_700}),
    "a long header": lambda world: world.token("EdDSA", header={"a": "a" * 1_985}),
    "many claims": lambda world: world.token("EdDSA", claims={f"{it}": it for it in range(780)}),
    "many numbers": lambda world: world.token("EdDSA", claims={"a": [1] * 990}),
    "many fractions": lambda world: world.token("EdDSA", claims={"a": [0.5] * 990}),
    "many objects": lambda world: world.token("EdDSA", claims={"a": [{}] * 495}),
    "long numbers": lambda world: world.token("EdDSA", claims={"a": [10**18] * 550}),
    "many escapes": lambda world: world.token("EdDSA", claims={"a": "\u00e9" * 1_900}),
    "16 deep": lambda world: world.token("EdDSA", claims={"a": _deep(MOST_DEPTH - 1)}),
    "names as long as may be": lambda world: World(
        issuer="i" * 500, subject="s" * 255, audience="a" * 500
    ).token("EdDSA", claims={"aud": ["a" * 500] * MOST_AUDIENCES}),
}


def _deep(levels: int) -> Any:
    return [] if levels == 1 else [_deep(levels - 1)]


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in LARGEST.items()])
def test_the_largest_token_of_a_kind_comes_in_and_takes_less_than_two_calls_a_byte(
    make: Callable[[World], str], world: World, keys: KeySet
) -> None:
    text = make(world)
    admitted(text, keys)
    assert calls(lambda: read(text)) < 2 * MOST_CHARACTERS


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in HOSTILE.items()])
def test_refusing_takes_less_than_two_calls_a_byte(make: Make, world: World) -> None:
    text = make(world)

    def refused() -> None:
        try:
            read(text)
        except Rejected:
            return

    assert calls(refused) < 2 * MOST_CHARACTERS


@pytest.mark.parametrize("piece", ["0", "{}", "[]", '""', "0.5"])
def test_claims_of_many_values_are_refused_before_they_are_read(piece: str, world: World) -> None:
    """Nobody has vouched for them yet, and whoever sends them has all others wait."""
    many = ",".join([piece] * MOST_CLAIM_MARKS)
    text = world.raw(payload=f'{{"a":[{many}]}}'.encode())

    def refused() -> None:
        with pytest.raises(Rejected, match="JSON of too many values"):
            read(text)

    assert calls(refused) < 1_000


def test_the_bounds_of_a_token_are_met_exactly(world: World, keys: KeySet) -> None:
    text = world.token("EdDSA")
    head, said, _ = text.split(".")
    room = MOST_CHARACTERS - len(text) + len(said)
    claims = dumped(world.claims())
    full = world.raw(payload=claims.ljust(room * 3 // 4))
    assert MOST_CHARACTERS - 3 <= len(full) <= MOST_CHARACTERS
    admitted(full, keys)
    admitted(world.raw(header=dumped(world.header("EdDSA")).ljust(MOST_HEADER_BYTES)), keys)
    assert refusal(world.raw(payload=claims.ljust(room * 3 // 4 + 3)), keys) == "it is too long"
    too_long = world.raw(header=dumped(world.header("EdDSA")).ljust(MOST_HEADER_BYTES + 1))
    assert refusal(too_long, keys) == "its header is too long"
    assert len(head) < MOST_HEADER_BYTES
