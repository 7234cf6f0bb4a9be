"""Which credential a request carries, and that two never pass for one."""

import pytest

from gateway.auth.credentials import credential
from gateway.errors import Code, GatewayError


@pytest.mark.parametrize(
    ("authorization", "api_key"),
    [
        ([b"Bearer abc"], []),
        ([b"bearer  abc "], []),
        ([], [b"abc"]),
        ([b"BEARER abc"], [b"abc"]),
        ([b"Bearer abc"] * 2, []),
    ],
)
def test_one_credential_is_found_wherever_it_is_sent(
    authorization: list[bytes], api_key: list[bytes]
) -> None:
    found = credential(authorization, api_key)
    assert found is not None
    assert found.reveal() == "abc"


def test_no_header_is_no_credential() -> None:
    assert credential([], []) is None


@pytest.mark.parametrize(
    ("authorization", "api_key"),
    [
        ([b"Bearer abc"], [b"abd"]),
        ([b"Bearer abc", b"Bearer abd"], []),
        ([], [b"abc", b"abd"]),
        ([b"Bearer abc"], [b""]),
    ],
)
def test_two_different_credentials_are_refused_and_none_of_them_is_preferred(
    authorization: list[bytes], api_key: list[bytes]
) -> None:
    with pytest.raises(GatewayError) as caught:
        credential(authorization, api_key)
    assert caught.value.code is Code.TWO_CREDENTIALS


@pytest.mark.parametrize("value", [b"Basic YWJj", b"abc", b"Bearer", b""])
def test_another_scheme_is_not_a_credential(value: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        credential([value], [])
    assert caught.value.code is Code.UNAUTHENTICATED


def test_a_credential_never_shows_its_text() -> None:
    found = credential([b"Bearer gw_live_topsecret"], [])
    assert "topsecret" not in f"{found!r} {found} {[found]}"
