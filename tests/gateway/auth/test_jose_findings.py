"""What readers that are not strict were found to take: Wycheproof's findings, with vectors of our own, and keys that protect nothing."""

import random
from math import gcd, prod
from typing import Any, Final

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519

from gateway.auth import weak
from gateway.auth.jose import Rejected, read, verify
from gateway.auth.weak import check_modulus, check_point
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

OWN: Final = signer(1)
P: Final = 2**255 - 19
P256: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1
WORLD: Final = World()


# What Wycheproof's vectors for JWS and JWK found in readers that are not strict, with vectors of our own.


@pytest.mark.parametrize("use", ["enc", "SIG", "", "sig ", None, 1, True, ["sig"], {"sig": 1}])
def test_wrong_use(use: Any) -> None:
    assert why(rsa_key(OWN.rsa, use=use)) == "use is not sig"


@pytest.mark.parametrize(
    "key_ops",
    [
        *(["sign"], ["encrypt"], ["VERIFY"], ["wrapKey", "unwrapKey"], [], "verify", None, {"verify": 1}, 1),
        *(["verify", "verify"], ["verify", None], [["verify"]], ["sign", "sign", "verify"]),
    ],
)
def test_wrong_key_ops(key_ops: Any) -> None:
    assert why(rsa_key(OWN.rsa, use=ABSENT, key_ops=key_ops)).startswith("key_ops")


@pytest.mark.parametrize("key_ops", [["verify", "encrypt"], ["verify", "deriveKey"]])
def test_key_ops_that_do_not_agree_with_use(key_ops: list[str]) -> None:
    assert why(rsa_key(OWN.rsa, key_ops=key_ops)) == "use and key_ops do not agree"


@pytest.mark.parametrize("part", [0, 1, 2])
def test_padded_base64url_in_a_token(part: int) -> None:
    found = keys_of(*OWN.published())
    for algorithm in ("RS256", "ES256", "EdDSA"):
        parts = WORLD.token(algorithm).split(".")
        for padding in ("=", "==", "==="):
            padded = [*parts[:part], parts[part] + padding, *parts[part + 1 :]]
            with pytest.raises(Rejected, match="base64url"):
                read(".".join(padded))
        key = found.key_for(read(".".join(parts)))
        assert key is not None
        verify(read(".".join(parts)), key)


@pytest.mark.parametrize(
    ("key", "names"), [(rsa_key(OWN.rsa), "ne"), (ec_key(OWN.ec), "xy"), (ed_key(OWN.ed), "x")]
)
def test_padded_and_other_base64url_in_a_key(key: dict[str, Any], names: str) -> None:
    for name in names:
        right: str = key[name]
        stray = right[:-1] + ("B" if right[-1] == "A" else "_")
        for value in (
            right + "=",
            right + "==",
            right + "\n",
            " " + right,
            right + "+",
            right + "/",
            "",
            right[:-2] + "é",
        ):
            assert "base64url" in why({**key, name: value})
        if len(right) % 4:
            assert why({**key, name: stray}) == "base64url with stray bits behind its last byte"
        for other in (None, 7, True, [right], {"x": right}):
            assert why({**key, name: other}) == "one of its numbers is no string"
        assert (
            why({it: value for it, value in key.items() if it != name}) == "one of its numbers is no string"
        )


def test_roca_key() -> None:
    """Made as the library made them: both primes are k*M + (65537**a mod M)."""
    chance = random.Random(2017)
    product = prod(weak._primes())
    while (modulus := roca_prime(chance, product) * roca_prime(chance, product)).bit_length() != 2048:
        pass
    assert why({"kty": "RSA", "n": number(modulus), "e": "AQAB"}) == "n is of the form that ROCA factors"


def test_moduli_near_a_roca_key_and_honest_ones_are_none() -> None:
    for seed in range(50):
        check_modulus(odd(2048, seed))
    check_modulus(OWN.rsa.public_key().public_numbers().n)
    product = prod(weak._primes())
    power = pow(65537, 12345, product)
    with pytest.raises(Rejected, match="ROCA"):
        check_modulus(power + product * (1 << 1100))
    other = next(
        it
        for it in range(2, product)
        if gcd(it, product) == 1
        and pow(it, weak._order(3), 3) == 1
        and any(pow(it, weak._order(prime), prime) != 1 for prime in weak._primes())
    )
    check_modulus(power * other % product + product * (1 << 1100))


def test_the_powers_of_the_generator_are_what_the_fingerprint_takes_for_them() -> None:
    for prime in weak._primes():
        powers = {pow(65537, it, prime) for it in range(prime)}
        assert {it for it in range(1, prime) if pow(it, weak._order(prime), prime) == 1} == powers
    assert len(weak._primes()) == 126
    assert (weak._primes()[:5], weak._primes()[-1]) == ((2, 3, 5, 7, 11), 701)


def roca_prime(chance: random.Random, product: int) -> int:
    while True:
        found = chance.randrange(1 << 52, 1 << 53) * product + pow(65537, chance.getrandbits(200), product)
        if all(pow(base, found - 1, found) == 1 for base in (2, 3, 5, 7)):
            return found


@pytest.mark.parametrize(
    "exp", ["1700000300", "never", True, False, None, [1700000300], {"x": 1}, -1, 0, 1.7e300]
)
def test_odd_exp_types(exp: Any) -> None:
    with pytest.raises(Rejected, match="exp is no"):
        read(WORLD.token("EdDSA", claims={"exp": exp}))
    for text in (b"NaN", b"Infinity", b"-Infinity", b"1e400", b"1" * 400):
        with pytest.raises(Rejected):
            read(WORLD.raw(payload=b'{"exp": ' + text + b", " + dumped(WORLD.claims(exp=ABSENT))[1:]))


# Points of Ed25519.


def doubled(point: tuple[int, int]) -> tuple[int, int]:
    """By the addition law of -x²+y² = 1+dx²y²: independent of what is tested."""
    x, y = point
    both = weak._D * x * x * y * y % P
    return 2 * x * y * pow(1 + both, -1, P) % P, (y * y + x * x) * pow(1 - both, -1, P) % P


def small_points() -> list[tuple[int, int]]:
    """All points whose double's double's double is the neutral one: eight of them."""
    root = pow(2, (P - 1) // 4, P)  # of -1
    found = [(0, 1), (0, P - 1), (root, 0), (P - root, 0)]
    # Order 8: x² = -y² and so d·y⁴ + 2y² = 1.
    halves = [(-1 + sign * square_root(1 + weak._D)) * pow(weak._D, -1, P) % P for sign in (1, -1)]
    for y2 in halves:
        if pow(y2, (P - 1) // 2, P) == 1:
            y = square_root(y2)
            found += [(x * root % P, it) for x in (y, P - y) for it in (y, P - y)]
    return found


def square_root(value: int) -> int:
    found = pow(value, (P + 3) // 8, P)
    return found if found * found % P == value % P else found * pow(2, (P - 1) // 4, P) % P


def octets(point: tuple[int, int]) -> bytes:
    x, y = point
    return (y | (x & 1) << 255).to_bytes(32, "little")


def test_the_eight_points_of_small_order_are_refused() -> None:
    points = small_points()
    assert len(set(points)) == 8
    for point in points:
        assert doubled(doubled(doubled(point))) == (0, 1)
        with pytest.raises(Rejected, match="small order"):
            check_point(octets(point))
        assert why(ed_key(OWN.ed, x=base64url(octets(point)))) == "x is a point of small order"


def test_a_key_of_small_order_would_take_a_signature_that_nobody_made() -> None:
    """So the library does not refuse it, and this room must."""
    neutral = octets((0, 1))
    ed25519.Ed25519PublicKey.from_public_bytes(neutral).verify(neutral + bytes(32), b"whatever is said")


@pytest.mark.parametrize("y", [P, P + 1, P + 2, 2**255 - 1])
@pytest.mark.parametrize("sign", [0, 1])
def test_another_form_of_a_point_is_refused(y: int, sign: int) -> None:
    with pytest.raises(Rejected, match="another form"):
        check_point((y | sign << 255).to_bytes(32, "little"))


def test_just_the_points_of_the_curve_are_taken() -> None:
    taken = 0
    for y in range(2, 200):
        quotient = (y * y - 1) * pow(weak._D * y * y + 1, -1, P) % P
        is_on_curve = square_root(quotient) ** 2 % P == quotient
        try:
            check_point(y.to_bytes(32, "little"))
        except Rejected as fault:
            assert (fault.reason, is_on_curve) == ("x is no point of the curve", False)  # noqa: PT017 - either way is judged
        else:
            assert is_on_curve
            taken += 1
    assert 60 < taken < 140
    for seed in range(20):
        key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        check_point(key.public_key().public_bytes_raw())


def test_the_library_itself_refuses_a_second_s_of_ed25519() -> None:
    """What `read` refuses before it; if this changes, it is still refused."""
    signature = OWN.ed.sign(b"text")
    second = int.from_bytes(signature[32:], "little") + 2**252 + 27742317777372353535851937790883648493
    with pytest.raises(InvalidSignature):
        OWN.ed.public_key().verify(signature[:32] + second.to_bytes(32, "little"), b"text")
