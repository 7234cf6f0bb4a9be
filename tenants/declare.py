"""From documents to a changed directory: what is declared against what is there, judged as a whole, applied, or refused as a whole.

What is stored and not declared stays, unless it was declared before and is to be pruned. All changes become true at once
(`directory/stages`), or none does. Applying the same documents again changes nothing.
"""

from contextlib import suppress
from typing import Final

import msgspec

from tenants import catalogue
from tenants.acts import Act
from tenants.catalogue import Declared, Name, Value, name_of
from tenants.customer import TenantDocument
from tenants.directory import Directory, customers, holdings, stages
from tenants.documents import Documents
from tenants.errors import Conflict, Fault, Faulty, Moved
from tenants.events import Action, Event
from tenants.model import MOST_ROW_BYTES
from tenants.outline import Outline, Prune, Stored, held_of, named_tenants, outlined
from tenants.ports import Key
from tenants.rows import Change, encoded, readable

_TRIES: Final = 20

# What refers to something comes behind it, and goes before it.
_ORDER: Final = {
    Action.MODEL_REMOVED: 6,
    Action.FLEET_REMOVED: 7,
    Action.PLAN_REMOVED: 8,
    Action.PRIVACY_REMOVED: 8,
}
_KINDS: Final = ("plan", "privacy", "fleet", "model", "tenant", "member", "issuer", "certificate")


async def read(directory: Directory, declared: Documents, prune: Prune = Prune.ALL) -> Stored:
    """What a directory has now. Who has a plan or a privacy, which may be every tenant, is read only where that may go."""
    now = await directory.values.catalogue()
    before = frozenset((await directory.values.generation()).declared)
    documented = frozenset(name_of(document.value) for document in declared.documents)
    owners = [name for kind, name in before | documented if kind == "Tenant"]
    found = await customers.read_all(directory.journal, owners)
    held = [it for document in declared.documents for _, it in held_of(document.value)]
    has = await holdings.owners(directory.journal, held)
    there: list[Declared] = [*now.fleets.values(), *now.models.values(), *now.plans.values()]
    there += [*now.issuers.values(), *now.privacies.values()]
    there += [document for it in found.values() if (document := it.document) is not None]
    others = await directory.tenants.states(
        name for document in declared.documents for name in named_tenants(document.value)
    )
    return Stored(
        sequence=now.sequence,
        values={name_of(value): value for value in there},
        tenants=others | {name: it.tenant.state for name, it in found.items()},
        declared=before,
        owners={
            one: ("Issuer", one.name) if it.tenant_name is None else ("Tenant", it.tenant_name)
            for one, it in has.items()
        },
        users={
            name: await directory.tenants.having(*name)
            for name in before - documented
            if name[0] in ("Plan", "Privacy") and prune is not Prune.NOTHING
        },
        has_kms=directory.tenants.has_kms,
    )


async def everything(directory: Directory) -> list[Declared]:
    """All of one instant that documents may declare: plans, privacies, fleets, models, issuers, tenants that are open, each by name."""
    for _ in range(_TRIES):
        now = await directory.values.catalogue()
        names = [row.key.sort for row in await directory.journal.partition("tenants")]
        found = await customers.read_all(directory.journal, names)
        if await directory.journal.sequence() == now.sequence:
            tenants = [it.document for _, it in sorted(found.items())]
            values: list[Declared] = [*now.plans.values(), *now.privacies.values(), *now.fleets.values()]
            values += now.models.values()
            values += [now.issuers[url] for url in sorted(now.issuers)]
            return values + [it for it in tenants if it is not None]
    raise Conflict


async def apply(
    directory: Directory,
    declared: Documents,
    act: Act,
    *,
    prune: Prune = Prune.NOTHING,
    seen: Outline | None = None,
) -> Outline:
    """What this call changed, now that the directory is as declared: in one go, or not at all. Repeated: nothing more is written.

    Raises Faulty and Conflict, with nothing written; Moved where that would be something else than somebody has `seen`, as somebody
    else was faster; TableUnavailable when all or nothing of it is written.
    """
    for _ in range(_TRIES):
        standing = await directory.journal.standing()
        stored = await read(directory, declared, prune)
        try:
            outline = outlined(declared, stored, prune)
        except Faulty as fault:
            if seen is None or seen.sequence == stored.sequence:
                raise
            raise await _moved(directory, seen) from fault
        if seen is not None and any(seen.changes.get(name) != it for name, it in outline.changes.items()):
            raise await _moved(directory, seen)
        if not outline.changes and outline.declared == stored.declared:
            return outline
        names = _remembered(outline)
        with suppress(Conflict):  # most likely another process that applies the same: look again
            changes = await _changes(directory, outline, act)
            await stages.apply(directory.journal, standing, changes, names, act)
            return outline
    raise Conflict


async def _changes(directory: Directory, outline: Outline, act: Act) -> list[Change]:
    """What is written for the outline. Raises Conflict where it is not of what is there any more."""
    wanted: list[Value] = []
    unwanted: list[Value] = []
    tenants: list[tuple[TenantDocument, bool]] = []
    for it in outline.changes.values():
        if isinstance(it.value, TenantDocument):
            tenants.append((it.value, it.action == "remove"))
        else:
            (unwanted if it.action == "remove" else wanted).append(it.value)
    journal = directory.journal
    rows = await directory.values.rows()
    there = await customers.read_all(journal, (value.name for value, _ in tenants))
    if await journal.sequence() != outline.sequence:
        raise Conflict
    changes = list(catalogue.changes(wanted, rows, lambda: journal.new_id("m"), unwanted).changes)
    for value, goes in tenants:
        if goes:
            changes.append(customers.closing(there[value.name], act.at_us))
        else:
            changes += customers.changes(value, there.get(value.name), journal.new_id, act.at_us)
    return sorted(changes, key=_place)


def _place(change: Change) -> int:
    return _ORDER.get(change.action, _KINDS.index(change.action.partition(".")[0]))


def _remembered(outline: Outline) -> tuple[Name, ...]:
    """What is to be known of the documents later. Raises Faulty for more than there is room for: the event has it twice."""
    names = tuple(sorted(outline.declared))
    if len(encoded(stages.Generation(0, names))) > MOST_ROW_BYTES:
        why = f"documents have declared {len(names)} things by now, more than can be remembered: remove some with --prune"
        raise Faulty([Fault("", 0, "", why)])
    return names


async def _moved(directory: Directory, seen: Outline) -> Moved:
    """Who was faster, and with what."""
    journal = directory.journal
    records = await journal.changes(seen.sequence)
    rows = await journal.many(Key(*at) for record in records for at in record.events)
    told = sorted(readable(rows, Event).values(), key=lambda event: event.sequence)
    return Moved([(it.actor, it.at_us, _called(it)) for it in told if it.action != Action.DOCUMENTS_APPLIED])


def _called(event: Event) -> str:
    """What the event is of, as people call it."""
    images = [msgspec.json.decode(image) for image in (event.after, event.before)]
    image = next((it for it in images if isinstance(it, dict)), {})
    what, _, one = event.subject.partition("/")
    return f"{what} {image.get('name') or image.get('email') or image.get('issuer') or one}"
