"""Strict reading of base64url and JSON, which tokens and key sets are made of: what two readers could take for two things is refused.

Pure. What it refuses closes the door.
"""

import json
import math
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, Final, NoReturn

MOST_DOCUMENT_BYTES: Final = 64 * 1024
"""Of what an issuer says of itself."""
MOST_KEYS_BYTES: Final = 256 * 1024
"""Of a key set. Large providers' sets, with their certificates, have up to 20 KiB."""
MOST_DEPTH: Final = 16
MOST_MARKS: Final = 10_000
"""Commas and opening brackets: there are hardly more values than these, and each takes longer to read than many bytes of a string."""
_INTEGER_DIGITS: Final = 19
_FLOAT_CHARACTERS: Final = 40
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")


class Rejected(Exception):
    """`reason` is one of a fixed set of sentences, for the private log line: never a byte of a token, a claim or a key."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def base64url(text: str) -> bytes:
    """Unpadded and canonical (RFC 7515, 2): the bytes that have this one text. Raises Rejected."""
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise Rejected("no unpadded base64url")
    found = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if urlsafe_b64encode(found).rstrip(b"=") != text.encode():
        raise Rejected("base64url with stray bits behind its last byte")
    return found


def json_object(content: bytes, most_marks: int = MOST_MARKS) -> dict[str, Any]:
    """The one reading of an I-JSON object (RFC 7493): UTF-8, no key twice, finite numbers, depth bounded. Raises Rejected.

    The caller bounds the length; how many values there may be is bounded here.
    """
    if sum(map(content.count, (b",", b"{", b"["))) > most_marks:
        raise Rejected("JSON of too many values")
    try:
        text = content.decode()
        found = _DECODER.decode(text)
        if not isinstance(found, dict):
            raise Rejected("no JSON object")
        _check_depth(found)
        if "\\u" in text:  # an escape can make half of a surrogate pair, which no UTF-8 can
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Rejected("no JSON in UTF-8") from None
    return found


def text_of(value: object, what: str, most: int) -> str:
    """A string of 1 to `most` characters, all printable, so that no log or page is led astray by it. Raises Rejected."""
    if not isinstance(value, str):
        raise Rejected(f"{what} is no string")
    if not 0 < len(value) <= most or not value.isprintable():
        raise Rejected(f"{what} is empty, too long or not printable")
    return value


def optional_text(found: Mapping[str, Any], name: str, most: int) -> str | None:
    """None where it is absent; null is not absent. Raises Rejected."""
    return text_of(found[name], name, most) if name in found else None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Rejected("JSON with a name twice")
    return found


def _integer(text: str) -> int:
    """What fits in 64 bits, roughly: no reader rounds it to infinity, and none works long on it."""
    if len(text.lstrip("-")) > _INTEGER_DIGITS:
        raise Rejected("JSON with a number out of range")
    return int(text)


def _float(text: str) -> float:
    if len(text) > _FLOAT_CHARACTERS or not math.isfinite(found := float(text)):
        raise Rejected("JSON with a number out of range")
    return found


def _no_constant(_: str) -> NoReturn:
    raise Rejected("no JSON in UTF-8")  # NaN and Infinity


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_once_each, parse_int=_integer, parse_float=_float, parse_constant=_no_constant
)


def _check_depth(tree: dict[str, Any]) -> None:
    level: list[Any] = [tree]
    for _ in range(MOST_DEPTH):
        level = [child for node in level for child in _children(node) if isinstance(child, dict | list)]
        if not level:
            return
    raise Rejected("JSON that is nested too deep")


def _children(node: Any) -> Any:
    return node.values() if isinstance(node, dict) else node
