"""Hostile tokens that aim at the key, the algorithm or the signature: pairs of a name and how it is made."""

import hmac
from collections.abc import Callable, Iterator
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.gateway.auth.signers import (
    ABSENT,
    ED25519_ORDER,
    KIDS,
    P256_ORDER,
    World,
    base64url,
    dumped,
    ec_key,
    ed_key,
    pss,
    rsa_key,
)

Make = Callable[[World], str]
Named = Iterator[tuple[str, Make]]

FORMS: Final[dict[str, Any]] = {
    "null": None,
    "a number": 7,
    "true": True,
    "a list": ["x"],
    "an object": {"x": 1},
}


def header(**given: Any) -> Make:
    """Right but for that, and signed as RS256."""
    return lambda world: world.token(header=given)


# Algorithm confusion.


def _public(encoding: Encoding, form: PublicFormat) -> Callable[[World], bytes]:
    return lambda world: world.own.rsa.public_key().public_bytes(encoding, form)


_PEM = _public(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
_DER = _public(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
_SECRETS: Final[dict[str, Callable[[World], bytes]]] = {
    "PEM": _PEM,
    "PEM without its last line feed": lambda world: _PEM(world).strip(),
    "PEM of PKCS 1": _public(Encoding.PEM, PublicFormat.PKCS1),
    "DER": _DER,
    "DER of PKCS 1": _public(Encoding.DER, PublicFormat.PKCS1),
    "base64url of DER": lambda world: base64url(_DER(world)).encode(),
    "JWK": lambda world: dumped(rsa_key(world.own.rsa)),
    "key set": World.key_set,
    "modulus": lambda world: world.own.rsa.public_key().public_numbers().n.to_bytes(256, "big"),
    "modulus as text": lambda world: rsa_key(world.own.rsa)["n"].encode(),
    "point of Ed25519": lambda world: world.own.ed.public_key().public_bytes_raw(),
    "kid": lambda _: b"rsa-1",
    "nothing": lambda _: b"",
}


def _hmac(algorithm: str, secret: Callable[[World], bytes]) -> Make:
    """The public key of RS256 taken for a secret."""

    def make(world: World) -> str:
        text = f"{base64url(dumped(world.header(algorithm)))}.{base64url(dumped(world.claims()))}"
        return f"{text}.{base64url(hmac.digest(secret(world), text.encode(), f'sha{algorithm[2:]}'))}"

    return make


def _bare(algorithm: str, signature: str, **given: Any) -> Make:
    """With a signature that nobody made."""
    return lambda world: (
        f"{base64url(dumped(world.header(algorithm, **given)))}.{base64url(dumped(world.claims()))}.{signature}"
    )


def _switched(alg: str, signs: str, kid: str) -> Make:
    return lambda world: world.token(alg, header={"kid": kid}, signs=signs)


_OTHER_ALGORITHMS: Final = (
    *("none", "None", "NONE", "nOnE", "HS256", "hs256", "rs256", "Rs256", "RS256 ", " RS256", "RS256\0", ""),
    *("RS-256", "RS384", "RS512", "PS384", "PS512", "ES384", "ES512", "ES256K", "Ed25519", "Ed448", "EDDSA"),
    *("eddsa", "\uff32S256", "RSA-OAEP", "dir", "A128KW", "ECDH-ES", "RS256,HS256", "RS256\n"),
)


def confused() -> Named:
    for what, secret in _SECRETS.items():
        yield f"HS256, the secret is the public key: {what}", _hmac("HS256", secret)
    for alg in ("HS384", "HS512"):
        yield f"{alg}, the secret is the public key: PEM", _hmac(alg, _PEM)
    for alg in _OTHER_ALGORITHMS:
        yield f"alg is {alg!r}, signed as RS256", header(alg=alg)
    for alg in ("none", "None", "NONE", "nOnE"):
        yield f"alg is {alg!r}, without a signature", _bare(alg, "")
        yield f"alg is {alg!r}, without a kid, with some signature", _bare(alg, "AA", kid=ABSENT)
    for form, value in {**FORMS, "a list of a right one": ["RS256"], "missing": ABSENT}.items():
        yield f"alg is {form}", header(alg=value)
    for alg in KIDS:
        for signs in KIDS:
            if alg != signs:
                yield f"alg is {alg}, signed as {signs}", _switched(alg, signs, KIDS[alg])
            if KIDS[alg] != KIDS[signs]:
                yield f"alg is {alg}, signed as {signs} with its kid", _switched(alg, signs, KIDS[signs])
        yield f"alg is {alg}, without a signature", _bare(alg, "")


# Keys of the caller's own.


def _by_stranger(algorithm: str, **given: Any) -> Make:
    return lambda world: world.token(algorithm, header=given, by=world.stranger)


def _with_key(algorithm: str, kid: Any) -> Make:
    """The stranger's key in the header."""

    def make(world: World) -> str:
        key = {"R": rsa_key(world.stranger.rsa), "E": ec_key(world.stranger.ec)}.get(algorithm[0])
        if algorithm == "EdDSA":
            key = ed_key(world.stranger.ed)
        return world.token(algorithm, header={"jwk": key, "kid": kid}, by=world.stranger)

    return make


def injected() -> Named:
    for alg, kid in (("RS256", "rsa-1"), ("ES256", "ec-1"), ("EdDSA", "ed-1")):
        yield f"jwk of a stranger, {alg}", _with_key(alg, kid)
        yield f"jwk of a stranger, {alg}, without a kid", _with_key(alg, ABSENT)
        yield f"signed by a stranger, {alg}", _by_stranger(alg)
        yield f"signed by a stranger, {alg}, without a kid", _by_stranger(alg, kid=ABSENT)
    for name in ("jku", "x5u"):
        for url in ("https://evil.example/jwks", "http://169.254.169.254/latest", "file:///dev/null"):
            yield f"{name} is {url}", _by_stranger("RS256", **{name: url})
        yield (
            f"{name} is elsewhere, without a kid",
            _by_stranger("RS256", **{name: "https://evil.example"}, kid=ABSENT),
        )
    yield "x5c of a stranger", _by_stranger("RS256", x5c=["MIIBszCCAVmgAwIBAgIUAbcd"])
    yield (
        "all of them at once",
        _by_stranger(
            "RS256",
            jku="https://evil.example",
            x5u="https://evil.example",
            x5c=["MIIB"],
            jwk={"kty": "oct", "k": "AA"},
        ),
    )
    for name, right in (
        ("jku", "a"),
        ("x5u", "a"),
        ("x5t", "a"),
        ("x5t#S256", "a"),
        ("jwk", {}),
        ("x5c", []),
    ):
        for form, value in FORMS.items():
            if type(value) is not type(right):
                yield f"{name} is {form}", header(**{name: value})


_KIDS: Final = (
    *("../../../../dev/null", "/dev/null", "file:///dev/null", "C:\\NUL", "..", "%2e%2e%2frsa-1"),
    *(
        "' OR 1=1 --",
        "rsa-1' UNION SELECT 'AA",
        "rsa-1; DROP TABLE keys",
        "https://evil.example/key",
        "$(id)",
    ),
    *("{{7*7}}", "__proto__", "*", "%", "rsa-1 ", " rsa-1", "RSA-1", "rsa-2", "rsa-\uff11", "r\u0455a-1"),
    *("rsa-1\0", "\0", "rsa-1\n", "rsa-1\0.pem", "\u202ersa-1", "\ud800", "", "k" * 257, "0", "null"),
)


def named() -> Named:
    for kid in _KIDS:
        yield f"kid is {kid[:30]!a} ({len(kid)})", header(kid=kid)
    for form, value in {**FORMS, "0": 0, "a list of the right one": ["rsa-1"], "a fraction": 1.5}.items():
        yield f"kid is {form}", header(kid=value)
    for kid in ("ec-1", "ed-1"):
        yield f"kid is another algorithm's: {kid}", header(kid=kid)
    yield "the kid of another issuer's key", _by_stranger("RS256", kid="stranger-1")


# Signatures.


def _signature(algorithm: str, change: Callable[[bytes], bytes]) -> Make:
    def make(world: World) -> str:
        text, signature = world.parts(algorithm)
        return f"{text}.{base64url(change(signature))}"

    return make


def _signed(algorithm: str, sign: Callable[[World, bytes], bytes]) -> Make:
    def make(world: World) -> str:
        text, _ = world.parts(algorithm)
        return f"{text}.{base64url(sign(world, text.encode()))}"

    return make


def _halves(change: Callable[[int, int], tuple[int, int]]) -> Make:
    def changed(signature: bytes) -> bytes:
        r, s = change(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return _signature("ES256", changed)


def _edwards(change: Callable[[int], int]) -> Make:
    return _signature(
        "EdDSA", lambda it: it[:32] + change(int.from_bytes(it[32:], "little")).to_bytes(32, "little")
    )


def _der(signature: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))


def _p384(_: World, data: bytes) -> bytes:
    key = ec.derive_private_key(7, ec.SECP384R1())
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(48, "big") + s.to_bytes(48, "big")


def malleable() -> Named:
    for alg in KIDS:
        yield f"{alg}, a byte less", _signature(alg, lambda it: it[:-1])
        yield f"{alg}, a byte less before", _signature(alg, lambda it: it[1:])
        yield f"{alg}, a byte more", _signature(alg, lambda it: it + b"\0")
        yield f"{alg}, a zero before", _signature(alg, lambda it: b"\0" + it)
        yield f"{alg}, twice", _signature(alg, lambda it: it + it)
        yield f"{alg}, turned around", _signature(alg, lambda it: it[::-1])
        yield f"{alg}, all zero", _signature(alg, lambda it: bytes(len(it)))
        yield f"{alg}, all ones", _signature(alg, lambda it: b"\xff" * len(it))
        yield f"{alg}, one bit", _signature(alg, lambda it: it[:-1] + bytes([it[-1] ^ 1]))
        yield f"{alg}, one byte", _signature(alg, lambda _: b"\1")
        yield f"{alg}, 1,025 bytes", _signature(alg, lambda it: it.ljust(1025, b"\0"))
    yield (
        "RS256, the modulus",
        _signed("RS256", lambda world, _: world.own.rsa.public_key().public_numbers().n.to_bytes(256)),
    )
    for what, digest in (
        ("SHA-1", hashes.SHA1()),  # noqa: S303 - it is refused
        ("SHA-384", hashes.SHA384()),
        ("SHA-512", hashes.SHA512()),
    ):
        yield f"RS256 over {what}", _signed("RS256", _pkcs(digest))
        yield f"PS256 over {what}", _signed("PS256", _pss(32, digest))
    for salt in (0, 20, 31, 33, 222):
        yield f"PS256 with a salt of {salt} bytes", _signed("PS256", _pss(salt, hashes.SHA256()))
    yield (
        "PS256 masked by SHA-1",
        _signed(
            "PS256",
            lambda world, data: world.own.rsa.sign(data, pss(32, hashes.SHA1()), hashes.SHA256()),  # noqa: S303 - it is refused
        ),
    )
    yield "ES256 in DER", _signature("ES256", _der)
    yield "ES256 of P-384", _signed("ES256", _p384)
    yield "ES256, r is 0", _halves(lambda _, s: (0, s))
    yield "ES256, s is 0", _halves(lambda r, _: (r, 0))
    yield "ES256, r is the order", _halves(lambda _, s: (P256_ORDER, s))
    yield "ES256, s is the order", _halves(lambda r, _: (r, P256_ORDER))
    yield "ES256, both are the order", _halves(lambda *_: (P256_ORDER, P256_ORDER))
    yield "ES256, both are 1", _halves(lambda *_: (1, 1))
    yield "ES256, r and s changed places", _halves(lambda r, s: (s, r))
    yield "EdDSA, s and the order", _edwards(lambda s: s + ED25519_ORDER)
    yield "EdDSA, s and seven orders", _edwards(lambda s: s + 7 * ED25519_ORDER)
    yield "EdDSA, s with its highest bit", _edwards(lambda s: s | 1 << 255)
    yield "EdDSA, s is 0", _edwards(lambda _: 0)
    yield "EdDSA, the point 1 and 0", _signature("EdDSA", lambda _: b"\1" + bytes(63))
    yield (
        "EdDSA of Ed448",
        _signed("EdDSA", lambda _, data: ed448.Ed448PrivateKey.from_private_bytes(b"\7" * 57).sign(data)),
    )


def _pkcs(digest: hashes.HashAlgorithm) -> Callable[[World, bytes], bytes]:
    return lambda world, data: world.own.rsa.sign(data, padding.PKCS1v15(), digest)


def _pss(salt_bytes: int, digest: hashes.HashAlgorithm) -> Callable[[World, bytes], bytes]:
    return lambda world, data: world.own.rsa.sign(data, pss(salt_bytes, digest), digest)


def replayed() -> Named:
    """Parts of right tokens, put together anew, and another issuer's token."""
    for place, what in enumerate(("header", "claims", "signature")):
        yield f"the {what} of another token", _mixed(place)
    for alg in KIDS:
        yield f"another issuer's token, {alg}", _by_other(alg)
        yield f"claims changed behind the signature, {alg}", _changed(alg)


def _mixed(place: int) -> Make:
    def make(world: World) -> str:
        parts = world.token("EdDSA").split(".")
        parts[place] = world.token("EdDSA", claims={"sub": "bob"}, header={"typ": ABSENT}).split(".")[place]
        return ".".join(parts)

    return make


def _by_other(alg: str) -> Make:
    return lambda world: world.token(alg, claims={"iss": "https://login.other.example"}, by=world.stranger)


def _changed(alg: str) -> Make:
    def make(world: World) -> str:
        head, _, signature = world.token(alg).split(".")
        return f"{head}.{base64url(dumped(world.claims(sub='admin')))}.{signature}"

    return make
