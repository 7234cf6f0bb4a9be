"""A JSON Schema of documents, for editors: made of the types that read them (`documents.KINDS`) and of what their fields mean. Pure.

It says what a document may look like, and not what makes sense: `gateway apply --dry-run` does. Where JSON has only numbers (`2.0` is an
integer) it lets more pass than the reader of documents.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tenants import meanings
from tenants.documents import KINDS
from tenants.model import ABSENT_ELSEWHERE, Model
from tenants.openai import PassThrough

Schema = dict[str, Any]

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_ELSEWHERE: Final = PassThrough.__struct_config__.tag


def schema(kinds: Iterable[str] = KINDS) -> Schema:
    """Of one document of any of these kinds; in a file of many, each is judged by it."""
    chosen = _by_tag("kind", {kind: _document(kind) for kind in kinds})
    return {"$schema": DRAFT, "title": "a document of the model gateway", **chosen}


def _document(kind: str) -> Schema:
    """As the type of the kind has it, without what no document says."""
    (root,), parts = msgspec.json.schema_components([KINDS[kind]], ref_template="{name}")
    whole = _Writer(parts).written(root, f"{kind} ")
    for name in ("id", KINDS[kind].__struct_config__.tag_field):
        whole["properties"].pop(name, None)
    whole["required"] = [name for name in whole["required"] if name in whole["properties"]]
    if KINDS[kind] is Model:
        whole |= _elsewhere(whole)
    return whole


def _elsewhere(model: Schema) -> Schema:
    """What a model must say depends on whether somebody else runs its server."""
    model["required"] = [name for name in model["required"] if name not in ABSENT_ELSEWHERE]
    section = {"required": ["backend"], "properties": {"backend": {"const": _ELSEWHERE}}}
    return {
        "if": {"required": ["openai"], "properties": {"openai": section}},
        "then": {"properties": dict.fromkeys(ABSENT_ELSEWHERE, False)},
        "else": {"required": ["repository"]},
    }


def _by_tag(tag: str, members: Mapping[str, Schema]) -> Schema:
    """A mapping that is what its tag says; whoever has the tag right hears of that member's faults alone."""
    for name, member in members.items():
        member["properties"] = {tag: {"const": name}} | member["properties"]
    return {
        "type": "object",
        "required": [tag],
        "properties": {tag: {"enum": list(members)}},
        "allOf": [
            {"if": {"required": [tag], "properties": {tag: {"const": name}}}, "then": member}
            for name, member in members.items()
        ],
    }


@dataclass(frozen=True, slots=True)
class _Writer:
    """From msgspec's schema to one for documents: written out, closed to other keys, nothing null, every field with its meaning."""

    parts: Mapping[str, Schema]

    def written(self, node: Schema, path: str) -> Schema:
        found = self._body(node, path)
        if node.get("default") is not None:
            found["default"] = node["default"]
        if meaning := meanings.of(path):
            found["description"] = meaning
        return found

    def _body(self, node: Schema, path: str) -> Schema:
        if "$ref" in node:
            return self._body(self.parts[node["$ref"]], path)
        if "discriminator" in node:
            chosen = node["discriminator"]
            variants = {
                tag: self._body(self.parts[part], f"{path}<{tag}>") for tag, part in chosen["mapping"].items()
            }
            return _by_tag(chosen["propertyName"], variants)
        if "anyOf" in node:
            members = [self._body(it, path) for it in node["anyOf"] if it != {"type": "null"}]
            return members[0] if len(members) == 1 else {"anyOf": members}
        body = {key: value for key, value in node.items() if key not in ("title", "description", "default")}
        if "properties" in body:
            start = path if path.endswith(" ") else f"{path}."
            fields = {name: self.written(it, f"{start}{name}") for name, it in body["properties"].items()}
            return body | {"properties": fields, "additionalProperties": False}
        if "additionalProperties" in body:
            return body | {
                "additionalProperties": self.written(body["additionalProperties"], f"{path}.<name>")
            }
        if "items" in body:
            return body | {"items": self.written(body["items"], f"{path}[]")}
        return body
