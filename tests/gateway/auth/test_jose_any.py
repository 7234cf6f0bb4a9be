"""Whatever is sent: a token of another text is refused, and reading ends in a token or a refusal and in no other error."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.auth.jose import (
    Rejected,
    key_set,
    read,
)
from tests.gateway.auth.published import admitted, refusal
from tests.gateway.auth.signers import (
    KIDS,
    World,
    base64url,
    dumped,
)

_WORLD = World()
_RIGHT = {alg: _WORLD.token(alg) for alg in KIDS}
_KEYS = key_set(_WORLD.key_set())
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(
    st.sampled_from(sorted(KIDS)),
    st.integers(0, 2_000),
    st.one_of(st.sampled_from(f"{_ALPHABET}.=+/ "), st.characters(), st.just("")),
    st.sampled_from((0, 1)),
)
def test_a_token_with_one_character_changed_added_or_missing_is_refused_or_is_the_same(
    algorithm: str, place: int, character: str, removed: int
) -> None:
    right = _RIGHT[algorithm]
    place %= len(right) + 1
    changed = right[:place] + character + right[place + removed :]
    if changed == right:
        assert admitted(changed, _KEYS) == admitted(right, _KEYS)
    else:
        assert refusal(changed, _KEYS)


@pytest.mark.parametrize("algorithm", KIDS)
def test_no_other_character_at_the_end_of_a_part_is_the_same_token(algorithm: str) -> None:
    """Where bits are left over, 16 characters stand for the same byte to a reader that is not strict."""
    parts = _RIGHT[algorithm].split(".")
    for which in range(3):
        for character in _ALPHABET.replace(parts[which][-1], ""):
            changed = [*parts]
            changed[which] = parts[which][:-1] + character
            assert refusal(".".join(changed), _KEYS)


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(st.text())
@example(".." * 3)
@example("\ud800.\ud800.\ud800")
def test_reading_any_text_ends_in_a_refusal_and_no_other_error(text: str) -> None:
    with pytest.raises(Rejected):
        read(text)


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=100))
def test_reading_any_three_parts_ends_in_a_refusal_and_no_other_error(
    header: bytes, payload: bytes, signature: bytes
) -> None:
    with pytest.raises(Rejected):
        read(".".join(map(base64url, (header, payload, signature))))


@given(
    st.sampled_from(("alg", "kid", "typ", "cty", "crit", "jku", "jwk", "x5c", "x")),
    st.sampled_from(("iss", "sub", "aud", "exp", "nbf", "iat", "x")),
    _JSON,
    _JSON,
)
def test_any_value_of_a_header_or_a_claim_is_read_or_refused(
    name: str, claim: str, value: Any, said: Any
) -> None:
    text = _WORLD.raw(
        dumped({**_WORLD.header("EdDSA"), name: value}), dumped({**_WORLD.claims(), claim: said})
    )
    try:
        token = read(text)
    except Rejected:
        return
    assert token.algorithm == "EdDSA"
    assert 0 < token.expires_us < 2**63
    assert token.subject.isprintable()
    assert all(token.audiences)
