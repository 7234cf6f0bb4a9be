"""From documents to a changed directory: what is declared against what is there, judged as a whole, applied, or refused as a whole.

What is stored and not declared stays: nothing is removed. What fits in one transaction is one; more goes in several, in an order in which
what is there is valid after each (`catalogue.batches`). Applying the same documents again changes nothing, and finishes what broke off.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace

from tenants.catalogue import Misfit, Name, Value, batches, misfits, name_of
from tenants.directory import Directory
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
    there: list[Value] = [
        *(await directory.fleets()).values(),
        *(await directory.models()).values(),
        *(await directory.plans()).values(),
    ]
    tenants = await directory.tenant_names(
        name for document in declared.documents for name in _tenants(document.value)
    )
    return Stored({name_of(value): value for value in there}, tenants)


def outlined(declared: Documents, stored: Stored) -> Outline:
    """What these documents change. Raises Faulty with every fault in them, between them, and with what is there. Pure."""
    faults = [*declared.faults, *_misfits(declared, stored)]
    if faults:
        raise Faulty(faults)
    differences = tuple(_difference(document.value, stored) for document in declared.documents)
    return Outline(differences, tuple(_notes(declared, stored)))


async def apply(directory: Directory, declared: Documents, *, actor: str, now_us: int) -> Outline:
    """What this call changed, now that the directory is as declared. Repeated: nothing more is written.

    Raises Faulty, with nothing written; Conflict when others kept changing the same; TableUnavailable when some of it may be written.
    """
    done: dict[Name, Difference] = {}
    for attempt in range(_TRIES):
        stored = await read(directory, declared)
        outline = outlined(declared, stored)
        try:
            for batch in batches((it.value for it in outline.changes.values()), stored.values):
                await directory.put(*batch, actor=actor, now_us=now_us)
                done |= {name_of(value): outline.changes[name_of(value)] for value in batch}
            break
        except Conflict:  # most likely another process that applies the same: look again
            if attempt == _TRIES - 1:
                raise
    changed = (done.get(name_of(it.value), Difference(it.value, "unchanged")) for it in outline.differences)
    return Outline(tuple(changed), outline.notes)


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
