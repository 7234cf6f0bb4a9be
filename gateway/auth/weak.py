"""Public keys that have the right form and protect nothing: RSA moduli that can be factored, points of Ed25519 that sign anything. Pure."""

from collections.abc import Iterator
from functools import cache
from math import gcd, prod
from typing import Final

from gateway.auth.reading import Rejected

RSA_BITS: Final = range(2048, 8192 + 1)
_GENERATOR: Final = 65537
_LAST_PRIME: Final = 701
"""The 126th prime: so many at least went into keys of 2,048 bits and more."""

_P: Final = 2**255 - 19
_D: Final = -121665 * pow(121666, -1, _P) % _P


def check_modulus(modulus: int) -> None:
    """Of the right size, without a small factor, and not one that ROCA factors. Raises Rejected.

    CVE-2017-15361: a library of Infineon's made primes of the form k*M + (65537**a mod M), M the product of the first primes. Modulo
    each of these such a modulus is a power of 65537; an honest one is so for all of them with a chance of 2**-167 (Nemec, Sys, Svenda,
    Klinec, Matyas: The Return of Coppersmith's Attack, ACM CCS 2017).
    """
    if modulus.bit_length() not in RSA_BITS:
        raise Rejected("n has too few bits or too many")
    if gcd(modulus, prod(_primes())) != 1:
        raise Rejected("n has a small factor")
    # The group modulo a prime is cyclic, so the powers of 65537 are just the numbers whose power by its order is 1.
    if all(pow(modulus, _order(prime), prime) == 1 for prime in _primes()):
        raise Rejected("n is of the form that ROCA factors")


def check_point(octets: bytes) -> None:
    """On the curve -x²+y² = 1+dx²y², in its one form (RFC 8032, 5.1.3), and not of order 8 or less. Raises Rejected.

    Under a key of small order there are signatures that verify for any text, and that nobody had to know a secret for.
    """
    y = int.from_bytes(octets, "little") & (1 << 255) - 1  # the highest bit is the sign of x
    if y >= _P:
        raise Rejected("x is another form of a point")
    y2 = y * y % _P
    # Order 1 and 2 have x = 0, order 4 y = 0, and the double of order 8 has y = 0: there x² = -y².
    if y2 in (0, 1) or (_D * y2 * y2 + 2 * y2 - 1) % _P == 0:
        raise Rejected("x is a point of small order")
    if pow((y2 - 1) * (_D * y2 + 1), (_P - 1) // 2, _P) != 1:  # x² is their quotient, and must have a root
        raise Rejected("x is no point of the curve")


@cache
def _primes() -> tuple[int, ...]:
    return tuple(_sieve(_LAST_PRIME))


def _sieve(last: int) -> Iterator[int]:
    rest = set(range(2, last + 1))
    while rest:
        prime = min(rest)
        yield prime
        rest -= set(range(prime, last + 1, prime))


@cache
def _order(prime: int) -> int:
    """How many powers 65537 has modulo a prime."""
    power, order = _GENERATOR % prime, 1
    while power != 1:
        power, order = power * _GENERATOR % prime, order + 1
    return order
