"""Hostile tokens whose text, encoding, form or size is not a token's: pairs of a name and how it is made."""

import json
from collections.abc import Callable
from typing import Any, Final

from tests.gateway.auth.hostile_claims import behind, claims, spelled
from tests.gateway.auth.hostile_keys import Make, Named, header
from tests.gateway.auth.signers import KIDS, World, base64url, dumped


def _payload(change: Callable[[bytes], bytes]) -> Make:
    return lambda world: world.raw(payload=change(dumped(world.claims())))


def _head(change: Callable[[bytes], bytes]) -> Make:
    return lambda world: world.raw(header=change(dumped(world.header("EdDSA"))))


def _text(change: Callable[[str], str], algorithm: str = "EdDSA") -> Make:
    return lambda world: change(world.token(algorithm))


def forms() -> Named:
    yield "one part", _text(lambda it: it.split(".")[1])
    yield "two parts", _text(lambda it: it.rpartition(".")[0])
    yield "four parts", _text(lambda it: it + ".AA")
    yield (
        "five parts, as JWE has",
        lambda world: ".".join(
            [base64url(dumped({"alg": "RSA-OAEP", "enc": "A128GCM", "kid": "rsa-1"})), *["AAAA"] * 4]
        ),
    )
    yield "five parts, the first three of them right", _text(lambda it: it + ".AA.AA")
    yield "ten thousand dots", lambda _: "." * 10_000
    for what, change in (
        ("no header", lambda it: "." + it.partition(".")[2]),
        ("no claims, as if detached", lambda it: it.split(".")[0] + ".." + it.split(".")[2]),
        ("nothing but dots", lambda _: ".."),
        ("a dot before", lambda it: "." + it),
        ("a dot behind", lambda it: it + "."),
        ("in quotes", lambda it: f'"{it}"'),
        ("twice", lambda it: it + it),
        ("twice, with a comma", lambda it: f"{it},{it}"),
        ("a word", lambda _: "abc"),
        ("percent-encoded", lambda it: it.replace(".", "%2E")),
        ("a blank in it", lambda it: it[:50] + " " + it[50:]),
        ("a tab in it", lambda it: it[:50] + "\t" + it[50:]),
        ("a blank before its signature", lambda it: it.replace(".", ". ")),
    ):
        yield what, _text(change)
    yield (
        "JSON serialization, flattened",
        _serialized(lambda head, said, it: {"protected": head, "payload": said, "signature": it}),
    )
    yield (
        "JSON serialization, general",
        _serialized(
            lambda head, said, it: {"payload": said, "signatures": [{"protected": head, "signature": it}]}
        ),
    )
    yield "a token in a token", _payload_of(lambda world: world.token().encode())
    yield "a token in a string in a token", _payload_of(lambda world: dumped(world.token()))
    yield (
        "a token in a token, and cty says so",
        lambda world: world.raw(dumped(world.header("EdDSA", cty="JWT")), world.token().encode()),
    )


def _serialized(shape: Callable[[str, str, str], Any]) -> Make:
    return _text(lambda it: json.dumps(shape(*it.split("."))))


def _payload_of(payload: Callable[[World], bytes]) -> Make:
    return lambda world: world.raw(payload=payload(world))


def _with_stray_bits(text: str) -> str:
    """Another last character for the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) | 1]


def texts() -> Named:
    for alg in KIDS:
        yield f"stray bits behind the signature, {alg}", _text(_with_stray_bits, alg)
        yield f"a padded signature, {alg}", _text(lambda it: it + "==", alg)
        yield f"a character more, {alg}", _text(lambda it: it + "A", alg)
        yield f"a character less, {alg}", _text(lambda it: it[:-1], alg)
        yield (
            f"two characters before the signature, {alg}",
            _text(lambda it: "AA".join(it.rpartition(".")[0::2]), alg),
        )
    yield "a padded header", _text(lambda it: it.replace(".", "=.", 1))
    yield "padded claims", _text(lambda it: "=.".join(it.rsplit(".", 1)))
    yield (
        "every part padded",
        _text(lambda it: ".".join(part + "=" * (-len(part) % 4) for part in it.split("."))),
    )
    yield "the other alphabet's slash", _for_underscores("/")
    yield "an underscore, percent-encoded", _for_underscores("%5F")


def _for_underscores(stands: str) -> Make:
    """A right token whose claims have an underscore, as any text with these letters has, and that in its place."""
    return lambda world: world.raw(
        payload=json.dumps(world.claims(name="\u00ff\u00ff\u00ff\u00ff"), ensure_ascii=False).encode()
    ).replace("_", stands)


def twice() -> Named:
    for text in ('"alg": "EdDSA"', '"alg": "none"', '"kid": "ed-1"', '"typ": "JWT"', '"\\u0061lg": "EdDSA"'):
        yield f"header, there before: {text}", _head(_with(text))
    for text in (
        *('"iss": "https://login.acme.example"', '"sub": "alice"', '"aud": "gateway"', '"exp": 4000000000'),
        *('"e\\u0078p": 4000000000', '"a": {"b": 1, "b": 2}', '"a": [{"b": 1, "b": 1}]', '"": 1, "": 2'),
        '{"a": ' * 9 + '{"b": 1, "\\u0062": 2}' + "}" * 9,
    ):
        written = text if text.startswith('"') else f'"a": {text}'
        yield f"claims, there before or twice: {written}", _payload(_with(written))


def _with(text: str) -> Callable[[bytes], bytes]:
    return lambda it: behind(it, text)


_ENCODINGS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "in UTF-16": lambda it: it.decode().encode("utf-16"),
    "in UTF-16, the small end first": lambda it: it.decode().encode("utf-16-le"),
    "in UTF-32": lambda it: it.decode().encode("utf-32"),
    "behind a byte order mark": lambda it: b"\xef\xbb\xbf" + it,
    "with a byte that is no UTF-8": lambda it: it[:-1] + b', "a": "\xff"}',
    "with an overlong slash": lambda it: it[:-1] + b', "a": "\xc0\xaf"}',
    "with half a surrogate pair in UTF-8": lambda it: it[:-1] + b', "a": "\xed\xa0\x80"}',
    "with half a surrogate pair by an escape": lambda it: it[:-1] + b', "a": "\\udc00"}',
    "with half a surrogate pair in a name": lambda it: it[:-1] + b', "\\ud800a": 1}',
    "in Latin-1": lambda it: it[:-1] + b', "a": "\xe9"}',
    "with a NUL in a string": lambda it: it[:-1] + b', "a": "\0"}',
    "with a NUL behind": lambda it: it + b"\0",
    "with something behind": lambda it: it + b"x",
    "with a second object behind": lambda it: it + b" {}",
    "twice": lambda it: it + it,
    "in a list": lambda it: b"[" + it + b"]",
    "in a string": lambda it: dumped(it.decode()),
    "null": lambda _: b"null",
    "a number": lambda _: b"7",
    "an empty object": lambda _: b"{}",
    "a blank": lambda _: b" ",
    "without its end": lambda it: it[:-1],
    "with a comma too many": lambda it: it[:-1] + b",}",
    "with a comment": lambda it: it + b"// x",
    "with a line feed in a string": lambda it: it[:-1] + b', "a": "\n"}',
    "in single quotes": lambda it: it.replace(b'"', b"'"),
    "with NaN": lambda it: it[:-1] + b', "a": NaN}',
    "with an infinite number": lambda it: it[:-1] + b', "a": -1e999}',
    "with a number of 400 digits": lambda it: it[:-1] + b', "a": ' + b"9" * 400 + b"}",
    "with a fraction of 400 digits": lambda it: it[:-1] + b', "a": 0.' + b"9" * 400 + b"}",
    "17 deep": lambda it: it[:-1] + b', "a": ' + b"[" * 16 + b"]" * 16 + b"}",
    "400 deep": lambda it: it[:-1] + b', "a": ' + b"[" * 400 + b"]" * 400 + b"}",
    "400 deep and without an end": lambda it: it[:-1] + b', "a": ' + b'{"a":[' * 200,
}


def encoded() -> Named:
    for what, change in _ENCODINGS.items():
        yield f"header {what}", _head(change)
        yield f"claims {what}", _payload(change)


def oversized() -> Named:
    yield "a token of 16,385 characters", lambda world: "a" * 16_385
    yield "a right token of more than 16,384 characters", claims(a="a" * 12_300)
    yield "a header of more than 2,048 bytes", header(a="a" * 2_048)
    yield "a header of 12,000 bytes", header(a="a" * 12_000)
    yield "a signature of 12,000 bytes", _text(lambda it: it + "A" * 16_000)
    yield "claims 5,000 deep", _payload(lambda it: behind(it, '"a": ' + "[" * 5_000 + "]" * 5_000))
    yield "claims 11,000 deep and without an end", _payload(lambda it: behind(it, '"a": ' + "[" * 11_000))
    yield "a number of 11,000 digits", spelled("a", "9" * 11_000)
    yield "a fraction of 11,000 digits", spelled("a", "0." + "9" * 11_000)


def unsendable() -> Named:
    for what, change in (
        ("nothing", lambda _: ""),
        ("a blank before", lambda it: " " + it),
        ("a blank behind", lambda it: it + " "),
        ("a line feed behind", lambda it: it + "\n"),
        ("a line feed in it", lambda it: it[:50] + "\n" + it[50:]),
        ("a NUL behind", lambda it: it + "\0"),
        ("a NUL in it", lambda it: it[:50] + "\0" + it[50:]),
        ("a byte order mark before", lambda it: "\ufeff" + it),
        ("a wide letter", lambda it: "\uff45" + it[1:]),
        ("a long s", lambda it: "\u017f" + it[1:]),
        ("a wide dot", lambda it: it.replace(".", "\uff0e")),
        ("half a surrogate pair", lambda it: it[:50] + "\ud800" + it[50:]),
        ("a soft hyphen", lambda it: it[:50] + "\u00ad" + it[50:]),
        ("a megabyte", lambda _: "a" * 1_000_000),
        ("a megabyte of dots", lambda _: "." * 1_000_000),
    ):
        yield what, _text(change)
