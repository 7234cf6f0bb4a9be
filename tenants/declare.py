"""From documents to a changed directory: what is declared against what is there, judged as a whole, applied, or refused as a whole.

What is stored and not declared stays: nothing is removed. All changes become true at once (`directory/stages`), or none does. Applying
the same documents again changes nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace

from tenants import catalogue
from tenants.acts import Act
from tenants.catalogue import Misfit, Name, Value, misfits, name_of
from tenants.directory import Directory, stages
from tenants.documents import Documents
from tenants.errors import Conflict, Fault, Faulty, Invalid
from tenants.model import Model

Action = Literal["create", "change", "unchanged"]

_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Stored:
    """What is there already, by kind and name, and those of the tenants that the documents name."""

    values: Mapping[Name, Value] = field(default_factory=dict)
    tenants: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Difference:
    """What applying a document does. `fields` are the paths that change, with the value before and after."""

    value: Value
    action: Action
    fields: Mapping[str, tuple[object, object]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outline:
    """All that applying does, in the documents' order, and what is worth a second look though it is no fault."""

    differences: tuple[Difference, ...]
    notes: tuple[Fault, ...]

    @property
    def changes(self) -> dict[Name, Difference]:
        return {name_of(it.value): it for it in self.differences if it.action != "unchanged"}


async def read(directory: Directory, declared: Documents) -> Stored:
    """What a directory has now."""
    now = await directory.values.catalogue()
    tenants = await directory.tenants.names(
        name for document in declared.documents for name in _tenants(document.value)
    )
    there: list[Value] = [*now.fleets.values(), *now.models.values(), *now.plans.values()]
    return Stored({name_of(value): value for value in there}, tenants)


def outlined(declared: Documents, stored: Stored) -> Outline:
    """What these documents change. Raises Faulty with every fault in them, between them, and with what is there. Pure."""
    faults = [*declared.faults, *_misfits(declared, stored)]
    if faults:
        raise Faulty(faults)
    differences = tuple(_difference(document.value, stored) for document in declared.documents)
    return Outline(differences, tuple(_notes(declared, stored)))


async def apply(directory: Directory, declared: Documents, act: Act) -> Outline:
    """What this call changed, now that the directory is as declared: in one go, or not at all. Repeated: nothing more is written.

    Raises Faulty and Conflict, with nothing written; TableUnavailable when all or nothing of it is.
    """
    for _ in range(_TRIES):
        standing = await directory.journal.standing()
        outline = outlined(declared, await read(directory, declared))
        wanted = [it.value for it in outline.changes.values()]
        if not wanted:
            return outline
        rows = await directory.values.rows()
        found = catalogue.changes(wanted, rows, lambda: directory.journal.new_id("m"))
        names = tuple(sorted(name_of(document.value) for document in declared.documents))
        with suppress(Conflict):  # most likely another process that applies the same: look again
            await stages.apply(directory.journal, standing, found.changes, names, act)
            return outline
    raise Conflict


def _difference(value: Value, stored: Stored) -> Difference:
    before = stored.values.get(name_of(value))
    if before is None:
        return Difference(value, "create")
    if isinstance(value, Model) and isinstance(before, Model):
        value = replace(value, id=before.id)
    old, new = dict(_leaves(msgspec.to_builtins(before))), dict(_leaves(msgspec.to_builtins(value)))
    fields = {path: (old.get(path), new.get(path)) for path in old | new if old.get(path) != new.get(path)}
    return Difference(value, "change" if fields else "unchanged", fields)


def _leaves(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, object]]:
    """Values by path; a canary is one value."""
    for name, value in tree.items():
        if isinstance(value, dict) and name != "canary":
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _misfits(declared: Documents, stored: Stored) -> Iterator[Fault]:
    """What each is right and together is not. It is a fault of the model's document, or of its fleet's where only that is declared."""
    documents = {name_of(document.value): document for document in declared.documents}
    world = {**stored.values, **{name: document.value for name, document in documents.items()}}
    for misfit in misfits(world.values()):
        if ("Fleet", misfit.model.fleet) in declared.broken:
            continue  # what it would be, nobody knows
        if document := documents.get(name_of(misfit.model)):
            yield document.fault(misfit.why)
        elif document := documents.get(("Fleet", misfit.model.fleet)):
            yield document.fault(_too_small(misfit))


def _too_small(misfit: Misfit) -> Invalid:
    path = "memory_bytes" if misfit.why.path == "memory_bytes" else "replicas.max"
    return Invalid(path, f"the model {misfit.model.name!r} is there already, and its {misfit.why.sentence}")


def _notes(declared: Documents, stored: Stored) -> Iterator[Fault]:
    for document in declared.documents:
        for position, name in enumerate(_tenants(document.value)):
            if name not in stored.tenants:
                yield document.fault(Invalid(f"tenants[{position}]", f"there is no tenant {name!r} yet"))


def _tenants(value: Value) -> tuple[str, ...]:
    return value.tenants if isinstance(value, Model) and value.tenants != "*" else ()
