"""Key sets as an issuer may publish them, why a key of one is not used, and what comes in under it."""

import random
from math import gcd, prod
from typing import Any

import pytest

from gateway.auth import weak
from gateway.auth.jose import KeySet, Rejected, Token, check_times, key_set, read, verify
from tests.gateway.auth.signers import NOW_US, dumped, ed_key, signer


def keys_of(*keys: Any) -> KeySet:
    return key_set(dumped({"keys": keys}))


def why(key: Any) -> str:
    """Why this key is left out of its set, beside one that is not."""
    found = keys_of(key, ed_key(signer(3).ed, kid="beside"))
    assert [it.kid for it in found.keys] == ["beside"]
    (reason,) = found.rejected
    assert reason.startswith("key 1: ")
    return reason.removeprefix("key 1: ")


def odd(bits: int, seed: int = 0) -> int:
    """No key, but of the size of one and without a small factor."""
    chance = random.Random(bits + seed)
    while True:
        found = chance.getrandbits(bits) | 1 << (bits - 1) | 1
        if gcd(found, prod(weak._primes())) == 1:
            return found


def admitted(text: str, keys: KeySet, now_us: int = NOW_US) -> Token:
    """All that stands between a text and a token whose claims are the issuer's."""
    token = read(text)
    key = keys.key_for(token)
    if key is None:
        raise Rejected("unknown kid")
    verify(token, key)
    check_times(token, now_us)
    return token


def refusal(text: str, keys: KeySet) -> str:
    with pytest.raises(Rejected) as caught:
        admitted(text, keys)
    return caught.value.reason
