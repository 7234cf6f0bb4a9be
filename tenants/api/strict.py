"""Stored types as clients may write them: the same fields and bounds, and no others. Pure.

A stored row is read leniently, as a later version may have more fields; a body with a field that nobody knows is a typing error.
"""

from collections.abc import Collection, Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Struct, defstruct
from msgspec.structs import FieldInfo, fields


@cache
def strict(kind: type[Struct], called: str = "", only: tuple[str, ...] = ()) -> type[Struct]:
    """The type with the same fields, or with some of them under another name, that refuses others.

    Of what has a name `id`, `name` and `repository` may be left out: the first is given, the second in the path, and a model that
    somebody else runs has no folder. What must not be left out is the value's own judgement.
    """
    config = kind.__struct_config__
    is_row = config.tag_field == "v"
    is_tagged = config.tag_field is not None and not is_row
    optional = ("id", "name", "repository") if is_row else ()
    return defstruct(
        called or kind.__name__,
        [_field(it, optional) for it in fields(kind) if not only or it.name in only],
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
        omit_defaults=True,
        tag_field=config.tag_field if is_tagged else None,
        tag=config.tag if is_tagged else None,
        namespace={"__doc__": kind.__doc__ and kind.__doc__.partition("\n")[0]},
    )


def shown(value: Struct, _: int) -> dict[str, Any]:
    """A stored value as clients see it."""
    found: dict[str, Any] = msgspec.to_builtins(value)
    return {name: it for name, it in found.items() if name != "v"}


def _field(it: FieldInfo, optional: Collection[str]) -> tuple[Any, ...]:
    kind = _type(it.type)
    if it.encode_name in optional:
        return it.name, kind, ""
    if it.default is not NODEFAULT:
        return it.name, kind, _default(it.default)
    if it.default_factory is not NODEFAULT:
        return it.name, kind, msgspec.field(default_factory=it.default_factory)
    return it.name, kind


def _default(value: object) -> Any:
    if not isinstance(value, Struct):
        return value
    return msgspec.field(
        default_factory=lambda: msgspec.convert(msgspec.to_builtins(value), strict(type(value)))
    )


def _type(kind: Any) -> Any:
    """The type, with the Structs in it replaced."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        return strict(kind)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return Annotated[(_type(inner[0]), *inner[1:])]
    if origin in (Union, UnionType):
        return Union[tuple(map(_type, inner))]  # noqa: UP007 - made of what is known only here
    if origin is tuple:
        return tuple[tuple(it if it is Ellipsis else _type(it) for it in inner)]  # type: ignore[misc]
    if origin in (dict, Mapping):
        return dict[tuple(map(_type, inner))]  # type: ignore[misc]
    return kind
