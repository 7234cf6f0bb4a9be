"""What operators declare, as YAML documents, several to a file: bytes become values, or every fault is named. Pure.

    kind: Model
    name: digits
    repository: models      # relative to this file
    tenants: "*"

A document has the fields of its value (`fleet.py`, `model.py`, `plans.py`, `privacy.py`, `customer.py`, `issuers.py`) and `kind`. How
they fit one another and what is there already is judged in `declare.py`.
"""

import os.path
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec.structs import replace

from tenants import catalogue, nodes
from tenants.catalogue import Declared, Name, name_of
from tenants.customer import TenantDocument
from tenants.errors import Fault, Invalid
from tenants.fleet import Fleet
from tenants.issuers import Issuer
from tenants.model import ABSENT_ELSEWHERE, ELSEWHERE, Model
from tenants.openai import PassThrough
from tenants.plans import Plan
from tenants.privacy import Privacy
from tenants.reading import Reader

MOST_DOCUMENTS: Final = 1000

KINDS: Final[dict[str, type[Declared]]] = {
    "Fleet": Fleet,
    "Issuer": Issuer,
    "Model": Model,
    "Plan": Plan,
    "Privacy": Privacy,
    "Tenant": TenantDocument,
}
_INSTEAD: Final[dict[type[Declared], dict[str, str]]] = {
    Fleet: {"scaler.type": "must be process; ecs and kubernetes are not built yet"},
}


@dataclass(frozen=True, slots=True)
class Source:
    """A file: its name as people know it, the absolute folder that it is in, and its bytes."""

    name: str
    folder: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Document:
    """A declared value, and the lines that it was declared in. A model's id is for the directory to say and empty here."""

    value: Declared
    file: str = ""
    line: int = 0
    lines: Mapping[str, int] = field(default_factory=dict)

    def fault(self, invalid: Invalid) -> Fault:
        """The fault, in the line that is nearest to its path."""
        path = invalid.path
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return Fault(self.file, self.lines.get(path, self.line), invalid.path, invalid.reason)


@dataclass(frozen=True, slots=True)
class Documents:
    """What could be read of some files, and what could not. `broken` are kind and name of those with faults."""

    documents: tuple[Document, ...]
    faults: tuple[Fault, ...] = ()
    broken: frozenset[Name] = frozenset()


def parse(sources: Iterable[Source]) -> Documents:
    """All documents of some files. Never fails; what has a fault is not among the documents."""
    faults: list[Fault] = []
    found: list[Document] = []
    broken: set[Name] = set()
    many = 0
    for source in sources:
        for node in nodes.read(source.content, source.name, faults):
            many += 1
            if many > MOST_DOCUMENTS:
                faults.append(
                    Fault(source.name, node.line, "", f"there are more than {MOST_DOCUMENTS} documents")
                )
                return Documents(tuple(found), tuple(faults), frozenset(broken))
            document = _document(node, source, faults)
            if document is None:
                broken.add(_named(node))
            else:
                found.append(document)
    twice = set(_twice(found, faults))
    return Documents(
        tuple(it for it in found if name_of(it.value) not in twice),
        tuple(faults),
        frozenset(broken | twice),
    )


def _document(node: nodes.Node, source: Source, faults: list[Fault]) -> Document | None:
    before = len(faults)
    if not isinstance(node, nodes.Mapping):
        Reader(source.name, faults).expected("a mapping with a kind", node, "")
        return None
    kind = _kind(node, source, faults)
    if kind is None:
        return None
    fields = {name: entry for name, entry in node.entries.items() if name != "kind"}
    given: dict[str, Any] = {"id": ""} if kind is Model else {}
    instead = _INSTEAD.get(kind, {})
    if kind is Model and _is_elsewhere(fields):
        given |= ABSENT_ELSEWHERE
        instead = instead | dict.fromkeys(ABSENT_ELSEWHERE, ELSEWHERE)
    reader = Reader(source.name, faults, instead=instead)
    value = reader.struct(nodes.Mapping(node.line, fields), kind, **given)
    if value is None or len(faults) > before:
        return None
    if isinstance(value, Model) and "://" not in value.repository and value.repository:
        folder = os.path.normpath(os.path.join(source.folder, value.repository))
        value = replace(value, repository=folder)
    document = Document(value, source.name, node.line, reader.lines)
    faults += map(document.fault, catalogue.faults(value))
    return document if len(faults) == before else None


def _is_elsewhere(fields: Mapping[str, tuple[int, nodes.Node]]) -> bool:
    """Whether a model's document says so, whatever else it says."""
    section = fields.get("openai", (0, None))[1]
    backend = section.entries.get("backend", (0, None))[1] if isinstance(section, nodes.Mapping) else None
    return isinstance(backend, nodes.Scalar) and backend.text == PassThrough.__struct_config__.tag


def _kind(node: nodes.Mapping, source: Source, faults: list[Fault]) -> type[Declared] | None:
    line, entry = node.entries.get("kind", (node.line, None))
    name = entry.text if isinstance(entry, nodes.Scalar) else ""
    if name in KINDS:
        return KINDS[name]
    known = f"must be one of {', '.join(KINDS)}"
    reason = known if entry is not None else f"is missing; {known}"
    faults.append(Fault(source.name, line, "kind", reason))
    return None


def _named(node: nodes.Node) -> Name:
    """What a document with faults seems to declare."""
    entries = node.entries if isinstance(node, nodes.Mapping) else {}
    kind, *named = (getattr(entries.get(key, (0, None))[1], "text", "") for key in ("kind", "name", "issuer"))
    return kind, named[kind == "Issuer"]


def _twice(documents: Sequence[Document], faults: list[Fault]) -> Iterator[Name]:
    first: dict[Name, Document] = {}
    for document in documents:
        name = name_of(document.value)
        before = first.setdefault(name, document)
        if before is not document:
            path = "issuer" if isinstance(document.value, Issuer) else "name"
            article = "an" if path == "issuer" else "a"
            reason = f"{article} {name[0]} of this {path} is declared in {before.file}:{before.line} already"
            faults.append(document.fault(Invalid(path, reason)))
            yield name
