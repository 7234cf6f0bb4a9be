"""Addresses of e-mail (RFC 5321 and 6531, as they are written in running text). Pure.

With tags, quoted local parts and international domains; not what only has an @: decorators, scopes of packages, remote paths, a user within
a URL, names of files, identifiers of messages, products of matrices.
"""

import re
from collections.abc import Iterator
from typing import Final

from gateway.privacy.looks import A_PLACE, Look

LONGEST_LOCAL: Final = 64
LONGEST_DOMAIN: Final = 255

# The bounds of a look: one character on each side. What follows is read only there, and no repeat is without a bound: beside each of many
# addresses it would go through all that is left of the text.
_AT: Final = re.compile(r"@(?=[^\W_])(?<=[\w\"+\-'.!#$%&*/=?^`{|}~]@)")
# Letters of writing without spaces (Thai, Chinese, Japanese, Korean) end a local part of others.
_LOCAL: Final = re.compile(r"[A-Za-z0-9._%+'\-!#$&*~\u00c0-\u052f\u0900-\u0dff=]{1,64}\Z")
_ANY_LOCAL: Final = re.compile(r"[\w.+\-]{1,64}\Z")
_QUOTED: Final = re.compile(r"\"[^\"\\\r\n@]{1,62}\"\Z")
_LABEL: Final = r"[^\W_](?:[\w\-]{0,61}[^\W_])?"
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:[.\u3002\uff0e]{_LABEL}){{1,127}}")
_ASCII_DOMAIN: Final = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,253}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,253}[A-Za-z0-9])?){1,127}"
)
_TOP: Final = re.compile(r"(?:[A-Za-z]{2,24}|[Xx][Nn]--[A-Za-z0-9-]{2,59}|[^\W\d_a-zA-Z]\w{0,62})")
_NOT_TOP: Final = frozenset(
    [
        "png",
        "jpg",
        "jpeg",
        "gif",
        "svg",
        "webp",
        "bmp",
        "ico",
        "css",
        "js",
        "jsx",
        "ts",
        "tsx",
        "mjs",
        "json",
        "xml",
        "html",
        "htm",
        "yaml",
        "yml",
        "toml",
        "ini",
        "cfg",
        "conf",
        "txt",
        "log",
        "exe",
        "dll",
        "tar",
        "gz",
        "tgz",
        "whl",
        "jar",
        "java",
        "class",
        "cpp",
        "hpp",
        "csv",
        "pdf",
        "doc",
        "docx",
        "xls",
        "xlsx",
        "sql",
        "service",
        "socket",
        "timer",
        "target",
        "mount",
        "slice",
        "invalid",
        "localdomain",
    ]
)
_CODE_AFTER: Final = re.compile(r"\(|:[^\s/,;]{0,255}/|:[~\w.]{1,255}\.git\b|/[\w.-]{1,255}\.git\b")
_CODE_BEFORE: Final = re.compile(
    r"(?:\w://[^\s/@\"'<>]{0,60}|\b(?:ssh|scp|sftp|rsync|mosh)\s(?:[^\n]{0,40}\s)?|(?:message-id|in-reply-to|references)\W{0,3})\Z",
    re.IGNORECASE,
)


def emails(text: str, look: Look) -> Iterator[tuple[int, int]]:
    for found in _AT.finditer(text):
        look(A_PLACE)
        at = found.start()
        start = _local(text, at)
        end = _domain(text, at + 1)
        if start is not None and end is not None and not _is_code(text, start, end):
            yield start, end


def _local(text: str, at: int) -> int | None:
    """Where the local part that ends at `at` begins."""
    floor = max(at - LONGEST_LOCAL, 0)
    near = text[floor:at]
    if near[-1] == '"':
        quoted = _QUOTED.search(near)
        return floor + quoted.start() if quoted else None
    found = _LOCAL.search(near) or _ANY_LOCAL.search(near)
    if found is None or near[-1] == ".":
        return None
    local = found[0]
    begin = found.start()
    if "=" in local and "+" not in local[: local.rindex("=")]:
        begin += local.rindex("=") + 1
        local = local[local.rindex("=") + 1 :]
    stripped = local.lstrip("._%+'-!#$&*~=")
    return floor + begin + len(local) - len(stripped) if stripped else None


def _domain(text: str, start: int) -> int | None:
    far = text[start : start + LONGEST_DOMAIN]
    for pattern in (_DOMAIN, _ASCII_DOMAIN):
        found = pattern.match(far)
        if found is None:
            continue
        labels = re.split(r"[.\u3002\uff0e]", found[0])
        top = labels[-1]
        ordinary = top.isascii() or not re.search("[A-Za-z]", top)
        if (
            ordinary
            and _TOP.fullmatch(top)
            and top.lower() not in _NOT_TOP
            and not (top[0].islower() and not top.islower())
        ):
            return None if re.fullmatch("[0-9]x", labels[0]) else start + found.end()
    return None


def _is_code(text: str, start: int, end: int) -> bool:
    return (
        _CODE_AFTER.match(text, end) is not None
        or _CODE_BEFORE.search(text[max(start - 60, 0) : start]) is not None
    )
