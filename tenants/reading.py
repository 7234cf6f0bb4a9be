"""From nodes to typed values, as the types of their fields say: strictly, and with every fault and not only the first. Pure."""

import re
from collections.abc import Mapping as Table
from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Meta, Struct

from tenants.errors import Fault
from tenants.nodes import Mapping, Node, Scalar, Sequence, is_said

_Kind = TypeVar("_Kind", bound=Struct)
_NOTHING: Final = object()
_SIZE: Final = re.compile(r"[0-9.]+ ?[kKMGT]i?B?")


@dataclass(slots=True)
class Reader:
    """Reads one document. `instead` has sentences for faults at certain paths that say more than the type does.

    `lines` remembers where each path was, for faults that are found later.
    """

    file: str
    faults: list[Fault]
    instead: Table[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)

    def struct(self, node: Node, kind: type[_Kind], path: str = "", **given: object) -> _Kind | None:
        """The value, or None with its faults added. `given` are fields that no document has."""
        if not isinstance(node, Mapping):
            self.expected("a mapping", node, path)
            return None
        before = len(self.faults)
        known = {it.name: it for it in msgspec.structs.fields(kind) if it.name not in given}
        values: dict[str, Any] = dict(given)
        tag = kind.__struct_config__.tag_field if isinstance(kind.__struct_config__.tag, str) else None
        for name, (line, value) in node.entries.items():
            at = f"{path}.{name}" if path else name
            self.lines[at] = line
            if name == tag:
                continue  # it has chosen this kind
            if name in known:
                values[name] = self._value(value, known[name].type, at)
            else:
                self.fault(line, at, f"unknown key; known are {', '.join(known)}")
        for name, it in known.items():
            if name not in values and it.default is NODEFAULT and it.default_factory is NODEFAULT:
                at = f"{path}.{name}" if path else name
                self.fault(node.line, at, "is missing")
        return kind(**values) if len(self.faults) == before and _NOTHING not in values.values() else None

    def fault(self, line: int, path: str, reason: str) -> None:
        self.faults.append(Fault(self.file, line, path, self.instead.get(path, reason)))

    def expected(self, what: str, node: Node, path: str) -> None:
        if is_said(node):
            return
        if isinstance(node, Scalar) and node.fault:
            self.fault(node.line, path, node.fault)
            return
        got = {Mapping: "a mapping", Sequence: "a list"}.get(type(node)) or repr(getattr(node, "value", ""))
        self.fault(node.line, path, f"Expected {what}, got {got}")

    def _value(self, node: Node, annotation: Any, path: str) -> object:
        """The value, or _NOTHING."""
        annotation, meta = _bare(annotation)
        if get_origin(annotation) in (Union, UnionType):
            annotation = _chosen(annotation, node)
            annotation, meta = _bare(annotation) if meta is None else (annotation, meta)
        if kinds := _tagged(annotation):
            return self._one_of(node, kinds, path)
        if isinstance(annotation, type) and issubclass(annotation, Struct):
            found = self.struct(node, annotation, path)
            return _NOTHING if found is None else found
        if get_origin(annotation) is dict:
            return self._table(node, get_args(annotation)[1], meta, path)
        if get_origin(annotation) is tuple:
            return self._list(node, get_args(annotation)[0], meta, path)
        return self._leaf(node, Annotated[annotation, meta] if meta else annotation, path)

    def _one_of(self, node: Node, kinds: Table[str, type[Struct]], path: str) -> object:
        """The value of the kind that its tag names, or _NOTHING."""
        if not isinstance(node, Mapping):
            self.expected("a mapping", node, path)
            return _NOTHING
        tag = next(iter(kinds.values())).__struct_config__.tag_field
        at, known = f"{path}.{tag}", f"must be one of {', '.join(kinds)}"
        line, entry = node.entries.get(tag or "", (node.line, None))
        kind = kinds.get(entry.text) if isinstance(entry, Scalar) else None
        if kind is None:
            self.fault(line, at, known if entry is not None else f"is missing; {known}")
            return _NOTHING
        found = self.struct(node, kind, path)
        return _NOTHING if found is None else found

    def _list(self, node: Node, annotation: Any, meta: Meta | None, path: str) -> object:
        if not isinstance(node, Sequence):
            self.expected("a list", node, path)
            return _NOTHING
        least, most = (meta and meta.min_length) or 0, (meta and meta.max_length) or len(node.items)
        if not least <= len(node.items) <= most:
            self.fault(node.line, path, f"Expected {least} to {most} items, got {len(node.items)}")
            return _NOTHING
        items = tuple(
            self._value(item, annotation, f"{path}[{place}]") for place, item in enumerate(node.items)
        )
        self.lines.update({f"{path}[{place}]": item.line for place, item in enumerate(node.items)})
        return _NOTHING if any(item is _NOTHING for item in items) else items

    def _table(self, node: Node, annotation: Any, meta: Meta | None, path: str) -> object:
        """Values under names that the document chooses."""
        if not isinstance(node, Mapping):
            self.expected("a mapping", node, path)
            return _NOTHING
        most = (meta and meta.max_length) or len(node.entries)
        if len(node.entries) > most:
            self.fault(node.line, path, f"Expected at most {most} names, got {len(node.entries)}")
            return _NOTHING
        self.lines.update({f"{path}.{name}": line for name, (line, _) in node.entries.items()})
        values = {
            name: self._value(value, annotation, f"{path}.{name}")
            for name, (_, value) in node.entries.items()
        }
        return _NOTHING if any(value is _NOTHING for value in values.values()) else values

    def _leaf(self, node: Node, annotation: Any, path: str) -> object:
        if not isinstance(node, Scalar) or node.fault:
            self.expected("one value", node, path)
            return _NOTHING
        try:
            return msgspec.convert(node.value, annotation)
        except msgspec.ValidationError as error:
            reason = str(error).replace("`", "")
            if path.endswith("_bytes") and _SIZE.fullmatch(node.text):
                reason += "; in bytes, as 4294967296"
            if isinstance(node.value, int | float) and reason.startswith("Expected str"):
                reason += "; a text is in quotes"
            self.fault(node.line, path, reason)
            return _NOTHING


def _bare(annotation: Any) -> tuple[Any, Meta | None]:
    """A type without its bounds, and the bounds."""
    if get_origin(annotation) is Annotated:
        bare, meta = get_args(annotation)
        return bare, meta
    return annotation, None


def _tagged(annotation: Any) -> dict[str, type[Struct]]:
    """The members of a union of structs that a tag tells apart, by their tags; none if it is no such union."""
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    if not members or not all(isinstance(it, type) and issubclass(it, Struct) for it in members):
        return {}
    return {str(it.__struct_config__.tag): it for it in members}


def _chosen(union: Any, node: Node) -> Any:
    """The members of a union that the node's shape allows. None says that a key may be left out, never that it may be empty."""
    members = [member for member in get_args(union) if member is not type(None)]
    lists = [member for member in members if get_origin(_bare(member)[0]) is tuple]
    mappings = [member for member in members if isinstance(member, type) and issubclass(member, Struct)]
    rest = [member for member in members if member not in lists and member not in mappings]
    fitting = {Sequence: lists, Mapping: mappings}.get(type(node)) or rest or mappings or lists
    return Union[tuple(fitting)]  # noqa: UP007 - made at run time
