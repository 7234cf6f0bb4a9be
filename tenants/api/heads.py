"""What the head of a request says: its query, conditions and idempotency key, each in the one form that it has. Pure."""

import re
from base64 import urlsafe_b64decode
from binascii import Error
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final

from tenants.acts import Once
from tenants.api.asked import Condition, cursor
from tenants.api.problems import Problem
from tenants.ports import KEY_BYTES, MOST_KEYS

_TAG: Final = re.compile(r'"[\x21\x23-\x7e]{1,100}"')
IDEMPOTENCY_KEY: Final = re.compile(r"[\x20-\x7e]{1,255}")
_LIMIT: Final = re.compile(r"[1-9][0-9]{0,3}")


def query(given: Sequence[tuple[str, str]], known: Sequence[str]) -> Mapping[str, str]:
    """Raises Problem: invalid for a parameter that is not known, or is there twice."""
    found: dict[str, str] = {}
    for name, value in given:
        if name not in known:
            takes = f"takes {', '.join(known)}" if known else "takes none"
            raise Problem("invalid", f"is no parameter of this path, which {takes}", path=name)
        if name in found:
            raise Problem("invalid", "is there twice", path=name)
        found[name] = value
    return found


def limit(text: str | None) -> int:
    if text is None:
        return MOST_KEYS
    if not _LIMIT.fullmatch(text) or int(text) > MOST_KEYS:
        raise Problem("invalid", f"must be 1 to {MOST_KEYS}", path="limit")
    return int(text)


def position(text: str | None) -> str | None:
    """What a `cursor` was made of. Raises Problem: invalid."""
    if text is None:
        return None
    try:
        after = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (Error, ValueError):
        after = ""
    if not after.isprintable() or not 0 < len(after.encode()) <= KEY_BYTES or cursor(after) != text:
        raise Problem("invalid", "is not one that a list gave", path="cursor")
    return after


def condition(if_match: Sequence[str], if_none_match: Sequence[str], *, may_create: bool) -> Condition:
    """What must still be true of the thing that is changed. Raises Problem: precondition_required, malformed."""
    if may_create and if_none_match:
        if if_match or list(if_none_match) != ["*"]:
            raise Problem(
                "malformed", "send If-None-Match: * to create, or If-Match to replace what you read"
            )
        return Condition(creates=True)
    if not if_match or list(if_match) == ["*"]:
        more = "; or If-None-Match: * to create it" if may_create else ""
        raise Problem("precondition_required", f"send If-Match with the ETag that you have read{more}")
    if len(if_match) > 1 or not _TAG.fullmatch(if_match[0]):
        raise Problem("malformed", "If-Match takes one ETag, as it was sent")
    return Condition(matches=if_match[0])


def is_known(tag: str, if_none_match: Sequence[str]) -> bool:
    """Whether the client has this already (RFC 9110, 13.1.2: the weak comparison)."""
    given = [text.strip().removeprefix("W/") for line in if_none_match for text in line.split(",")]
    return tag in given or "*" in given


def once(given: Sequence[str], caller: str, asked: Sequence[bytes]) -> Once | None:
    """The idempotency key, which is the caller's own: equal ones of two callers are two. Raises Problem: malformed."""
    if not given:
        return None
    if len(given) > 1 or not IDEMPOTENCY_KEY.fullmatch(given[0]):
        raise Problem("malformed", "Idempotency-Key must be 1 to 255 printable ASCII characters, once")
    return Once(_digest(caller.encode(), given[0].encode()), _digest(*asked))


def _digest(*parts: bytes) -> str:
    """No two lists of parts have the same."""
    return sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).hexdigest()
