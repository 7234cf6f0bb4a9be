"""Only sound public keys for signatures are used, each for what it is for; one that is not costs its set nothing else."""

import json
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, x25519
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.jose import Rejected, issuer_document, key_set, read, verify
from gateway.auth.jwk import MOST_KEYS
from gateway.auth.reading import MOST_DOCUMENT_BYTES, MOST_KEYS_BYTES, MOST_MARKS
from tests.gateway.auth.published import keys_of, odd, why
from tests.gateway.auth.signers import (
    ABSENT,
    World,
    base64url,
    dumped,
    ec_key,
    ed_key,
    number,
    rsa_key,
    signer,
)
from tests.work import calls

OWN: Final = signer(1)
P256: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1
WORLD: Final = World()
NO_OBJECTS: Final[tuple[Any, ...]] = (None, 1, "x", True, [])
NO_NAMES: Final[tuple[Any, ...]] = ("", None, 1, ["a"], {})


# Keys that are not used.


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        *((it, "no JSON object") for it in (*NO_OBJECTS, [rsa_key(OWN.rsa)])),
        *(({"kty": it}, "kty") for it in ("oct", "AKP", "rsa", "RSA ", "EC2", *NO_NAMES)),
        ({}, "kty"),
        ({"kty": "oct", "k": "AAAA", "alg": "HS256", "kid": "a"}, "kty"),
        *(
            (rsa_key(OWN.rsa, **{it: "AAAA"}), "private")
            for it in ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
        ),
        (rsa_key(OWN.rsa, d=None), "private"),
        (ec_key(OWN.ec, d="AAAA"), "private"),
        (ed_key(OWN.ed, d="AAAA"), "private"),
        (ed_key(OWN.ed, priv="AAAA"), "private"),
        *(
            (rsa_key(OWN.rsa, alg=it), "alg")
            for it in ("HS256", "none", "RS512", "RSA-OAEP", "ES256", "EdDSA")
        ),
        *((rsa_key(OWN.rsa, alg=it), "alg") for it in ("rs256", "", None, 1, ["RS256"], {"RS256": 1})),
        *((ec_key(OWN.ec, alg=it), "alg") for it in ("ES384", "RS256", "ECDH-ES", "ES256K")),
        *((ed_key(OWN.ed, alg=it), "alg") for it in ("Ed25519", "ES256", "eddsa")),
        *((rsa_key(OWN.rsa, kid=it), "kid") for it in ("k" * 257, "a\0", "a\nb", "\u202e", *NO_NAMES)),
        *((rsa_key(OWN.rsa, n=number(odd(it))), "bits") for it in (512, 1024, 2040, 2047, 8193, 16384)),
        (rsa_key(OWN.rsa, n=number(odd(2048) - 1)), "small factor"),
        (rsa_key(OWN.rsa, n=number(odd(2046) * 3)), "small factor"),
        (rsa_key(OWN.rsa, n=number(odd(2040) * 701)), "small factor"),
        *(
            (rsa_key(OWN.rsa, e=number(it)), "e is")
            for it in (1, 2, 3, 17, 65536, 65538, 2**32, 2**32 + 1, 2**64 + 1)
        ),
        (rsa_key(OWN.rsa, e="AA"), "zero before"),
        (rsa_key(OWN.rsa, e="AAEAAQ"), "zero before"),
        (
            rsa_key(
                OWN.rsa, n=base64url(b"\0" + OWN.rsa.public_key().public_numbers().n.to_bytes(256, "big"))
            ),
            "zero before",
        ),
        *(
            (ec_key(OWN.ec, crv=it), "crv")
            for it in ("P-384", "P-521", "secp256k1", "p-256", None, 1, ["P-256"], ABSENT)
        ),
        (ec_key(ec.derive_private_key(7, ec.SECP384R1())), "size"),
        *((ec_key(OWN.ec, x=base64url(it)), "size") for it in (b"\1" * 31, b"\1" * 33, b"\1", b"\1" * 64)),
        (ec_key(OWN.ec, x=base64url(bytes(32)), y=base64url(bytes(32))), "no key"),
        (ec_key(OWN.ec, x=base64url(b"\xff" * 32)), "another form"),
        (ec_key(OWN.ec, y=base64url(b"\2" * 32)), "no key"),
        *(
            (ed_key(OWN.ed, crv=it), "crv")
            for it in ("Ed448", "X25519", "ed25519", None, 1, ["Ed25519"], ABSENT)
        ),
        (
            ed_key(
                OWN.ed,
                crv="X25519",
                x=base64url(
                    x25519.X25519PrivateKey.from_private_bytes(b"\1" * 32).public_key().public_bytes_raw()
                ),
            ),
            "crv",
        ),
        (
            ed_key(
                OWN.ed,
                x=base64url(
                    ed448.Ed448PrivateKey.from_private_bytes(b"\1" * 57).public_key().public_bytes_raw()
                ),
            ),
            "size",
        ),
        *((ed_key(OWN.ed, x=base64url(bytes(it))), "size") for it in (31, 33, 64)),
    ],
)
def test_a_key_that_is_not_sound_public_and_for_signatures_is_left_out_and_no_other(
    key: Any, reason: str
) -> None:
    assert reason in why(key)


def test_a_point_beyond_the_field_is_no_other_form_of_one_within() -> None:
    """The point with x = 5 also as x = 5 + p, where that has 256 bits."""
    root = pow(
        5**3 - 3 * 5 + 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
        (P256 + 1) // 4,
        P256,
    )
    right = {"kty": "EC", "crv": "P-256", "y": base64url(root.to_bytes(32, "big"))}
    assert len(keys_of({**right, "x": base64url((5).to_bytes(32, "big"))})) == 1
    assert (
        why({**right, "x": base64url((5 + P256).to_bytes(32, "big"))}) == "x or y is another form of a number"
    )


@pytest.mark.parametrize("x5c", [["MIIB"], "no list", 1, None])
def test_certificates_in_a_key_are_not_looked_at(x5c: Any) -> None:
    plain = keys_of(rsa_key(OWN.rsa))
    assert keys_of(rsa_key(OWN.rsa, x5c=x5c, x5u="file:///dev/null", x5t=1)).digest == plain.digest


# Sets.


def test_keys_of_every_allowed_size_and_exponent_are_used() -> None:
    sizes = [rsa_key(OWN.rsa, kid=f"{it}", n=number(odd(it))) for it in (2048, 2049, 3072, 4096, 8192)]
    exponents = [rsa_key(OWN.rsa, kid=f"e{it}", e=number(it)) for it in (65537, 65539, 2**32 - 1)]
    found = keys_of(*sizes, *exponents)
    assert (len(found), found.rejected) == (8, ())


def test_two_keys_with_one_kid_are_used_only_where_the_algorithm_tells_them_apart() -> None:
    told_apart = keys_of(rsa_key(OWN.rsa, kid="a"), ec_key(OWN.ec, kid="a"), ed_key(OWN.ed, kid="a"))
    assert (len(told_apart), told_apart.rejected) == (3, ())
    by_alg = keys_of(rsa_key(OWN.rsa, kid="a", alg="RS256"), rsa_key(signer(2).rsa, kid="a", alg="PS256"))
    assert len(by_alg) == 2
    for algorithm, by in (("RS256", OWN), ("PS256", signer(2))):
        token = read(WORLD.token(algorithm, header={"kid": "a"}, by=by))
        key = by_alg.key_for(token)
        assert key is not None
        verify(token, key)
    overlapping = keys_of(
        rsa_key(OWN.rsa, kid="a"), rsa_key(signer(2).rsa, kid="a", alg="PS256"), ec_key(OWN.ec, kid="a")
    )
    assert overlapping.rejected == (
        "key 1: another key has its kid and algorithm",
        "key 2: another key has its kid and algorithm",
    )
    assert [it.algorithms for it in overlapping.keys] == [("ES256",)]
    for algorithm in ("RS256", "PS256"):
        assert overlapping.key_for(read(WORLD.token(algorithm, header={"kid": "a"}))) is None
        assert overlapping.key_for(read(WORLD.token(algorithm, header={"kid": ABSENT}))) is None


def test_a_kid_is_never_guessed_at() -> None:
    nameless = keys_of(rsa_key(OWN.rsa, kid=ABSENT))
    assert nameless.key_for(read(WORLD.token(header={"kid": "a"}))) is None
    assert nameless.key_for(read(WORLD.token(header={"kid": ABSENT}))) is nameless.keys[0]
    assert keys_of(rsa_key(OWN.rsa, kid="a ")).key_for(read(WORLD.token(header={"kid": "a"}))) is None


def test_keys_without_a_kid_are_kept_and_found_where_one_alone_fits() -> None:
    found = keys_of(rsa_key(OWN.rsa, kid=ABSENT), rsa_key(signer(2).rsa, kid=ABSENT, alg="PS256"))
    assert (len(found), found.rejected) == (2, ())
    assert found.key_for(read(WORLD.token("RS256", header={"kid": ABSENT}))) is found.keys[0]
    assert found.key_for(read(WORLD.token("PS256", header={"kid": ABSENT}))) is None


def test_equal_keys_have_one_digest_however_they_are_written_and_others_have_another() -> None:
    own = OWN.published()
    first = key_set(json.dumps({"keys": own}).encode())
    again = json.dumps({"b": 1, "keys": [dict(reversed(it.items())) for it in reversed(own)]}, indent=3)
    assert key_set(again.encode()).digest == first.digest
    with_bad = json.dumps({"keys": [*own, {"kty": "oct", "k": "AAAA"}]})
    assert key_set(with_bad.encode()).digest == first.digest
    others = [
        own[:2],
        [],
        [{**own[0], "kid": "b"}, *own[1:]],
        [{**own[0], "alg": "RS256"}, *own[1:]],
        [rsa_key(signer(2).rsa), *own[1:]],
        [{**own[0], "e": number(65539)}, *own[1:]],
    ]
    assert len({key_set(dumped({"keys": it})).digest for it in [own, *others]}) == 1 + len(others)


def test_why_a_key_is_left_out_names_its_place_and_nothing_of_it() -> None:
    found = keys_of(*OWN.published(), rsa_key(signer(2).rsa, kid="secret-name", alg="HS256", d="c2VjcmV0"))
    assert found.rejected == ("key 4: a private or symmetric key is published",)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"null", b"[]", b"{}", b'{"keys": null}', b'{"keys": {}}', b'{"keys": "a"}', b'{"Keys": []}'),
        *(
            b'{"keys": [], "keys": []}',
            b'{"keys": []} x',
            b'\xef\xbb\xbf{"keys": []}',
            b'{"keys": [{"a": 1, "a": 1}]}',
        ),
        *(
            b'{"keys": [], "a": NaN}',
            b'{"keys": [], "a": "\xff"}',
            b'{"keys": [' + b"[" * 20 + b"]" * 20 + b"]}",
        ),
        *(
            dumped([rsa_key(OWN.rsa)]),
            dumped(rsa_key(OWN.rsa)),
            b'{"keys": []}'.decode().encode("utf-16"),
            b"<html>",
        ),
        *(
            b'{"keys": [' + b"{}," * MOST_KEYS + b"{}]}",
            b'{"keys": []}'.ljust(MOST_KEYS_BYTES + 1),
            b"[" * 200_000,
        ),
        b'{"keys": [], "a": ' + b"9" * 250_000 + b"}",
    ],
    ids=lambda it: f"{it[:40]!r} ({len(it)})",
)
def test_what_is_no_key_set_is_refused_whole(content: bytes) -> None:
    with pytest.raises(Rejected):
        key_set(content)


def test_a_set_of_no_sound_key_is_an_empty_one() -> None:
    found = key_set(b'{"keys": [{"kty": "oct", "k": "AAAA"}]}')
    assert (len(found), len(found.rejected)) == (0, 1)
    assert found.key_for(read(WORLD.token())) is None
    assert len(key_set(b'{"keys": []}'.ljust(MOST_KEYS_BYTES))) == 0


def test_the_largest_set_comes_in_and_takes_a_bounded_number_of_calls() -> None:
    content = dumped(
        {"keys": [rsa_key(OWN.rsa, kid=f"{it}", n=number(odd(8192, it))) for it in range(MOST_KEYS)]}
    )
    assert len(content) < MOST_KEYS_BYTES
    found = key_set(content)
    assert (len(found), found.rejected) == (MOST_KEYS, ())
    assert calls(lambda: key_set(content)) < 300 * MOST_KEYS


def test_a_set_of_many_values_is_refused_before_it_is_read() -> None:
    """Whoever may name an issuer shares this process with others."""
    for piece in (b"{},", b"[],", b"1,", b"0.5,", b'"\\u00e9",', b'{"kty":"RSA"},'):
        content = b'{"keys": [' + piece * ((MOST_KEYS_BYTES - 20) // len(piece)) + b"1]}"

        def refused(content: bytes = content) -> None:
            with pytest.raises(Rejected, match="JSON of too many values"):
                key_set(content)

        assert calls(refused) < 1_000


def test_the_worst_set_that_is_read_takes_a_bounded_number_of_calls() -> None:
    for piece in (b"{},", b"[],", b"1,", b"0.5,", b'{"kty":"RSA"},'):
        marks = piece.count(b",") + piece.count(b"{") + piece.count(b"[")
        content = b'{"keys": [' + piece * ((MOST_MARKS - 3) // marks) + b"1]}"

        def refused(content: bytes = content) -> None:
            with pytest.raises(Rejected, match="too many keys"):
                key_set(content)

        assert calls(refused) < 8 * MOST_MARKS


@given(st.binary(max_size=500))
def test_any_bytes_are_no_key_set_and_no_other_error(content: bytes) -> None:
    with pytest.raises(Rejected):
        key_set(content)


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
_NAMES = ("kty", "use", "key_ops", "alg", "kid", "n", "e", "crv", "x", "y", "d", "x5c", "ext")


@given(st.sampled_from(OWN.published()), st.dictionaries(st.sampled_from(_NAMES), _JSON, max_size=3))
def test_any_value_in_a_key_uses_it_or_leaves_it_out(
    key: dict[str, Any], given_values: dict[str, Any]
) -> None:
    try:
        found = keys_of({**key, **given_values})
    except Rejected:  # an integer out of range, or half of a surrogate pair, makes it no JSON of ours
        return
    assert len(found) + len(found.rejected) == 1


@given(
    st.sampled_from(OWN.published()),
    st.sampled_from(("n", "e", "x", "y")),
    st.one_of(st.binary(max_size=40), st.binary(min_size=256, max_size=1100)).map(base64url),
)
def test_any_number_in_a_key_uses_it_or_leaves_it_out(key: dict[str, Any], name: str, value: str) -> None:
    found = keys_of({**key, name: value})
    assert len(found) + len(found.rejected) == 1


# Issuers' documents.


def test_an_issuers_document_says_who_it_is_and_where_its_keys_are() -> None:
    said = {
        "issuer": "https://login.acme.example",
        "jwks_uri": "https://login.acme.example/jwks",
        "response_types_supported": ["code"],
    }
    assert issuer_document(dumped(said)) == (said["issuer"], said["jwks_uri"])


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"{}", b"<html>", b'{"issuer": "https://a"}', b'{"jwks_uri": "https://a"}'),
        *(dumped({"issuer": it, "jwks_uri": "https://a"}) for it in (*NO_NAMES, "a\n", "a" * 501)),
        *(
            dumped({"issuer": "https://a", "jwks_uri": it})
            for it in (*NO_NAMES, "https://a\r\nx", "a" * 2049)
        ),
        b'{"issuer": "https://a", "jwks_uri": "https://a", "jwks_uri": "https://b"}',
        b'{"issuer": "https://a", "jwks_uri": "https://a"}'.ljust(MOST_DOCUMENT_BYTES + 1),
    ],
    ids=lambda it: f"{it[:60]!r} ({len(it)})",
)
def test_what_is_no_issuers_document_is_refused(content: bytes) -> None:
    with pytest.raises(Rejected):
        issuer_document(content)
