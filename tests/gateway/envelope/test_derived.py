"""The primitives give what their standards say."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.envelope.derived import MOST_NAME_BYTES, derived, named

# RFC 5869, appendix A, cases 1 to 3: secret, salt, info, and how the output begins.
HKDF = [
    (
        "0b" * 22,
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
        "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71",
    ),
    (
        "0b" * 22,
        "",
        "",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]

# AES-256-GCM with nonces of 96 bits: key, nonce, plain, bound, ciphertext and tag. The first two are of NIST's CAVP
# (gcmEncryptExtIV256.rsp), the others cases 13 to 16 of McGrew and Viega's specification of GCM.
_LONG = (
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
)
_LONG_SEALED = (
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
)
_KEY = "feffe9928665731c6d6a8f9467308308" * 2
_NONCE = "cafebabefacedbaddecaf888"
GCM = [
    (
        "b52c505a37d78eda5dd34f20c22540ea1b58963cf8e5bf8ffa85f9f2492505b4",
        "516c33929df5a3284ff463d7",
        "",
        "",
        "bdc1ac884d332457a1d2664f168c76f0",
    ),
    (
        "31bdadd96698c204aa9ce1448ea94ae1fb4a9a0b3c9d773b51bb1822666b8f22",
        "0d18e06c7c725ac9e362e1ce",
        "2db5168e932556f8089a0622981d017d",
        "",
        "fa4362189661d163fcd6a56d8bf0405ad636ac1bbedd5cc3ee727dc2ab4a9489",
    ),
    ("00" * 32, "00" * 12, "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
    (
        "00" * 32,
        "00" * 12,
        "00" * 16,
        "",
        "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919",
    ),
    (_KEY, _NONCE, _LONG, "", _LONG_SEALED + "b094dac5d93471bdec1a502270e3cc6c"),
    (
        _KEY,
        _NONCE,
        _LONG[:-8],
        "feedfacedeadbeef" * 2 + "abaddad2",
        _LONG_SEALED[:-8] + "76fc6ece0f4e1768cddf8853bb2d551b",
    ),
]


@pytest.mark.parametrize(("secret", "salt", "info", "begins"), HKDF)
def test_keys_are_derived_as_rfc_5869_says(secret: str, salt: str, info: str, begins: str) -> None:
    found = derived(bytes.fromhex(secret), salt=bytes.fromhex(salt), info=bytes.fromhex(info))
    assert (found.key + found.commitment).hex().startswith(begins)
    assert (len(found.key), len(found.commitment)) == (32, 32)


@pytest.mark.parametrize(("key", "nonce", "plain", "bound", "sealed"), GCM)
def test_the_cipher_gives_the_known_answers(
    key: str, nonce: str, plain: str, bound: str, sealed: str
) -> None:
    cipher = AESGCM(bytes.fromhex(key))
    given = bytes.fromhex(nonce), bytes.fromhex(plain), bytes.fromhex(bound)
    assert cipher.encrypt(*given).hex() == sealed
    assert cipher.decrypt(given[0], bytes.fromhex(sealed), given[2]) == given[1]


def test_other_names_never_give_the_same_bytes() -> None:
    assert len({named("ab", "c"), named("a", "bc"), named("abc", ""), named("", "abc"), named("abc")}) == 5


def test_a_name_that_is_too_long_is_refused() -> None:
    named("a" * MOST_NAME_BYTES)
    with pytest.raises(ValueError, match="1024"):
        named("a" * (MOST_NAME_BYTES + 1))
