"""What documents change: each against what is there, all of them together, and what is declared no more. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import fields, replace

from tenants import kms, names
from tenants.catalogue import Declared, Misfit, Name, misfits, name_of
from tenants.certificates import TenantCertificate
from tenants.customer import NO_PRIVACY, TenantDocument
from tenants.documents import Document, Documents
from tenants.errors import Fault, Faulty, Invalid
from tenants.holdings import Held
from tenants.issuers import Issuer, TenantIssuer
from tenants.model import Model
from tenants.restrictions import kept
from tenants.tenant import State

Action = Literal["create", "change", "remove", "unchanged"]

_CLOSED: Final = ("closing", "closed")
_OF_TENANTS: Final = ("Plan", "Privacy")
"""What tenants have, by its name."""


class Prune(Enum):
    """What becomes of what documents declared before and do not declare any more."""

    NOTHING = "it stays"
    CATALOGUE = "fleets, models, plans, privacies and issuers are removed; tenants stay"
    ALL = "tenants are closed too"


@dataclass(frozen=True, slots=True)
class Stored:
    """What is there already, behind the change with that number. `values` are by kind and name, tenants that are open among them.

    Of tenants only those are there that are declared, now or before; `tenants` are all names that documents name and somebody has or had.
    `declared` is what documents declared before, and `users` who has the plans and privacies among that which they declare no more.
    """

    sequence: int = 0
    values: Mapping[Name, Declared] = field(default_factory=dict)
    tenants: Mapping[str, State] = field(default_factory=dict)
    declared: frozenset[Name] = frozenset()
    users: Mapping[Name, Mapping[str, State]] = field(default_factory=dict)
    owners: Mapping[Held, Name] = field(default_factory=dict)
    """Who has what documents say is theirs: a tenant, or the platform under the issuer itself."""
    has_kms: bool = False
    """Tenants may have KMS keys of their own."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What applying does to one thing. `fields` are the paths that change, with the value before and after."""

    value: Declared
    action: Action
    fields: Mapping[str, tuple[object, object]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outline:
    """All that applying does: the documents in their order, then what goes. `notes` are worth a second look though they are no faults.

    `declared` is what documents will have declared that is there, and `sequence` that of the change behind which all this was seen.
    """

    differences: tuple[Difference, ...]
    notes: tuple[Fault, ...]
    declared: frozenset[Name]
    sequence: int

    @property
    def changes(self) -> dict[Name, Difference]:
        return {name_of(it.value): it for it in self.differences if it.action != "unchanged"}


def outlined(declared: Documents, stored: Stored, prune: Prune = Prune.NOTHING) -> Outline:
    """What these documents change. Raises Faulty with every fault in them, between them, and with what is there."""
    documented = frozenset(name_of(document.value) for document in declared.documents)
    going, staying = _gone(stored, documented, prune)
    world = {name: value for name, value in stored.values.items() if name not in going}
    world |= {name_of(document.value): document.value for document in declared.documents}
    faults = [*declared.faults, *_misfits(declared, world), *_tenant_faults(declared, world, stored)]
    faults += [*_owner_faults(declared, stored), *_still_used(going, world, stored, documented)]
    if faults:
        raise Faulty(faults)
    differences = [_difference(document.value, stored) for document in declared.documents]
    differences += [Difference(stored.values[name], "remove") for name in sorted(going)]
    left = stored.declared.intersection(stored.values) - going
    notes = (*_notes(declared, stored, documented), *(Fault("", 0, "", why) for why in staying.values()))
    return Outline(tuple(differences), notes, documented | left, stored.sequence)


def as_declared(value: TenantDocument, before: TenantDocument | None) -> TenantDocument:
    """With its state, members, issuers, certificates, restrictions, privacy and KMS key: where the document does not say, they are as they
    were; addresses as they are stored.
    """
    restricted = before.restrictions if value.restrictions is None and before else value.restrictions
    private = before.privacy if value.privacy is None and before else value.privacy
    own = before.kms_key if value.kms_key is None and before else value.kms_key
    value = replace(
        value,
        restrictions=kept(restricted),
        privacy=None if private == NO_PRIVACY else private,
        kms_key=None if own == kms.NONE else own,
    )
    state = value.state or (before.state if before else None) or "active"
    people, trusted = value.members, value.issuers
    if people is None:
        people = before.members if before else ()
    if trusted is None:
        trusted = before.issuers if before else ()
    shown = value.certificates
    if shown is None:
        shown = before.certificates if before else ()
    people = tuple(replace(member, email=member.key) for member in people or ())
    return replace(value, state=state, members=people, issuers=trusted, certificates=shown or ())


def _gone(
    stored: Stored, documented: frozenset[Name], prune: Prune
) -> tuple[frozenset[Name], dict[Name, str]]:
    """What goes of what is declared no more, and why the rest stays that was asked to go."""
    going, staying = set[Name](), dict[Name, str]()
    for name in sorted((stored.declared & stored.values.keys()) - documented):
        kind, text = name
        if prune is Prune.NOTHING:
            continue
        if kind == "Tenant" and prune is not Prune.ALL:
            staying[name] = f"the tenant {text!r} is declared no more and stays: --prune-tenants closes it"
        else:
            going.add(name)
    for name in [name for name in going if name[0] in _OF_TENANTS]:
        left = {
            tenant: state
            for tenant, state in stored.users.get(name, {}).items()
            if ("Tenant", tenant) not in documented
        }
        if left and all(state == "closed" or ("Tenant", it) in going for it, state in left.items()):
            going.discard(name)
            what = f"the {name[0].lower()} {name[1]!r}"
            staying[name] = f"{what} is declared no more and stays: {_some(left)} had it"
    return frozenset(going), staying


def _difference(value: Declared, stored: Stored) -> Difference:
    before = stored.values.get(name_of(value))
    if isinstance(value, TenantDocument):
        value = as_declared(value, before if isinstance(before, TenantDocument) else None)
    if before is None:
        return Difference(value, "create")
    if isinstance(value, Model) and isinstance(before, Model):
        value = replace(value, id=before.id)
    old, new = dict(_leaves(_tree(before))), dict(_leaves(_tree(value)))
    fields = {path: (old.get(path), new.get(path)) for path in old | new if old.get(path) != new.get(path)}
    return Difference(value, "change" if fields else "unchanged", fields)


def _tree(value: Declared) -> dict[str, Any]:
    tree: dict[str, Any] = msgspec.to_builtins(value)
    if isinstance(value, TenantDocument):  # whoever is named first
        tree["members"] = {member.key: member.role for member in value.members or ()}
        tree["issuers"] = {" ".join(issuer.pair): _options(issuer) for issuer in value.issuers or ()}
        tree["certificates"] = {one.name: _options(one) for one in value.certificates or ()}
    return tree


def _leaves(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, object]]:
    """Values by path; a canary, an issuer and a certificate are one value each."""
    for name, value in tree.items():
        if isinstance(value, dict) and name != "canary" and path not in ("issuers.", "certificates."):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _options(one: TenantIssuer | TenantCertificate) -> dict[str, Any]:
    """What its document says beside what it is called."""
    said, optional = msgspec.to_builtins(one), (it for it in fields(one) if not it.required)
    return {it.name: said[it.name] for it in optional if said[it.name] != it.default}


def _misfits(declared: Documents, world: Mapping[Name, Declared]) -> Iterator[Fault]:
    """What each is right and together is not. It is a fault of the model's document, or of its fleet's where only that is declared."""
    documents = {name_of(document.value): document for document in declared.documents}
    for misfit in misfits(it for it in world.values() if not isinstance(it, TenantDocument)):
        if ("Fleet", misfit.model.fleet) in declared.broken:
            continue  # what it would be, nobody knows
        if document := documents.get(name_of(misfit.model)):
            yield document.fault(misfit.why)
        elif document := documents.get(("Fleet", misfit.model.fleet)):
            yield document.fault(_too_small(misfit))


def _too_small(misfit: Misfit) -> Invalid:
    path = "memory_bytes" if misfit.why.path == "memory_bytes" else "replicas.max"
    return Invalid(path, f"the model {misfit.model.name!r} is there already, and its {misfit.why.sentence}")


def _tenant_faults(declared: Documents, world: Mapping[Name, Declared], stored: Stored) -> Iterator[Fault]:
    for document in declared.documents:
        value = document.value
        if not isinstance(value, TenantDocument):
            continue
        state = stored.tenants.get(value.name)
        if state is None:
            yield from map(document.fault, names.TENANT.new_faults(value.name, "name"))
        elif state in _CLOSED:
            yield document.fault(
                Invalid("name", f"the tenant {value.name!r} is {state}: take its document away")
            )
        plan = ("Plan", value.plan)
        if plan not in world and plan not in declared.broken:
            yield document.fault(Invalid("plan", f"there is no plan {value.plan!r}"))
        found = stored.values.get(name_of(value))
        before = found if isinstance(found, TenantDocument) else None
        wanted = as_declared(value, before)
        own = wanted.privacy
        if own is not None and ("Privacy", own) not in world and ("Privacy", own) not in declared.broken:
            yield document.fault(Invalid("privacy", f"there is no privacy {own!r}"))
        key_before = before.kms_key if before else None
        yield from map(
            document.fault, kms.own_faults(wanted.kms_key, key_before, "kms_key", has_kms=stored.has_kms)
        )


def held_of(value: Declared) -> Iterator[tuple[str, Held]]:
    """What it says is its own, each by its path."""
    if isinstance(value, Issuer):
        yield "issuer", value.held
    elif isinstance(value, TenantDocument):
        for position, issuer in enumerate(value.issuers or ()):
            yield f"issuers[{position}]", issuer.held
        for position, one in enumerate(value.certificates or ()):
            yield f"certificates[{position}].{one.held.within}", one.held


def _owner_faults(declared: Documents, stored: Stored) -> Iterator[Fault]:
    """What is held has one owner. Nobody gets in one go what another gives up: the two would be seen to have it."""
    first: dict[Held, Document] = {}
    for document in declared.documents:
        name = name_of(document.value)
        for path, held in held_of(document.value):
            before, owner = first.setdefault(held, document), stored.owners.get(held, name)
            if before is not document:
                why = f"{held} is declared in {before.file}:{before.line} already"
                yield document.fault(Invalid(path, why))
            elif owner != name:
                who = "the platform" if owner[0] == "Issuer" else f"the tenant {owner[1]!r}"
                why = f"{held} is that of {who}, which must give it up first, by an apply of its own"
                yield document.fault(Invalid(path, why))


def _still_used(
    going: frozenset[Name], world: Mapping[Name, Declared], stored: Stored, documented: frozenset[Name]
) -> Iterator[Fault]:
    """By whom, of what no document declares: what one does declare has a fault in its own line already."""
    for name in sorted(going):
        if name[0] == "Fleet":
            on_it = [it.name for it in world.values() if isinstance(it, Model) and it.fleet == name[1]]
            by = [it for it in on_it if ("Model", it) not in documented]
            kind = "model"
        else:
            users = stored.users.get(name, {})
            by = [it for it in users if ("Tenant", it) not in documented | going]
            kind = "tenant"
        if by:
            what = f"the {name[0].lower()} {name[1]!r} is declared no more and cannot go"
            yield Fault("", 0, "", f"{what}: it is in use by the {kind} {_some(by)}")


def _notes(declared: Documents, stored: Stored, documented: frozenset[Name]) -> Iterator[Fault]:
    for document in declared.documents:
        for position, name in enumerate(named_tenants(document.value)):
            if name not in stored.tenants and ("Tenant", name) not in documented:
                yield document.fault(Invalid(f"tenants[{position}]", f"there is no tenant {name!r} yet"))


def named_tenants(value: Declared) -> tuple[str, ...]:
    return value.tenants if isinstance(value, Model) and value.tenants != "*" else ()


_MOST_NAMED: Final = 5


def _some(found: Mapping[str, object] | list[str]) -> str:
    shown = ", ".join(map(repr, sorted(found)[:_MOST_NAMED]))
    return shown + (f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else "")
