"""What came in, as typed values in the one reading it has: equal keys, depth, lax numbers and unknown fields are refused. Pure."""

import json
from typing import Any, Final, NoReturn, TypeVar

import msgspec
from msgspec import Struct

from tenants.api.problems import Problem

MOST_BYTES: Final = 1024 * 1024
MOST_DEPTH: Final = 32

_Body = TypeVar("_Body", bound=Struct)


def read(content: bytes, kind: type[_Body]) -> _Body:
    """The body as that type; none at all is read as {}. Raises Problem: malformed, or invalid with the path."""
    content = content or b"{}"
    _check_form(content)
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")  # as msgspec says it
        raise Problem("invalid", reason, path=path.strip(".`")) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem("malformed", str(error)) from None


def _check_form(content: bytes) -> None:
    """That two readers could not read it in two ways, or run out of stack over it."""
    try:
        tree = json.loads(content.decode(), object_pairs_hook=_once_each, parse_constant=_no_constant)
    except RecursionError:
        raise Problem("malformed", f"the body is deeper than {MOST_DEPTH}") from None
    except ValueError as error:
        raise Problem("malformed", f"the body is not JSON: {error}") from None
    level = [tree]
    for _ in range(MOST_DEPTH + 1):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise Problem("malformed", f"the body is deeper than {MOST_DEPTH}")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:64]!r} is there twice")
        found[name] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _children(node: Any) -> Any:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()
