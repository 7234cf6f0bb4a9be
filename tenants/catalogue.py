"""What a directory keeps as it is declared, together: what is wanted against the rows that are there, judged and made changes. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from tenants import customer, fleet, issuers, model, plans, privacy
from tenants.customer import TenantDocument
from tenants.errors import InUse, Invalid
from tenants.events import Action
from tenants.fleet import Fleet
from tenants.holdings import Held
from tenants.issuers import Issuer
from tenants.model import Model
from tenants.plans import Plan
from tenants.ports import Item, Key, Row
from tenants.privacy import Privacy
from tenants.rows import (
    Change,
    encoded,
    fleet_at,
    handed_over,
    issuer_at,
    model_at,
    plan_at,
    privacy_at,
    read,
    readable,
)

Value = Fleet | Issuer | Model | Plan | Privacy
"""What a directory keeps as it is declared."""
Declared = Value | TenantDocument
"""What documents declare."""
Name = tuple[str, str]
"""Kind and name, as `("Model", "digits")`."""

PARTITIONS: Final = ("fleets", "issuers", "models", "plans", "privacies")

_FAULTS: Final[dict[type[Declared], Callable[[Any], Iterator[Invalid]]]] = {
    Fleet: fleet.faults,
    Issuer: issuers.faults,
    Model: model.faults,
    Plan: plans.faults,
    Privacy: privacy.faults,
    TenantDocument: customer.faults,
}
_CREATED: Final = {
    Fleet: Action.FLEET_CREATED,
    Issuer: Action.ISSUER_CREATED,
    Model: Action.MODEL_CREATED,
    Plan: Action.PLAN_CREATED,
    Privacy: Action.PRIVACY_CREATED,
}
_CHANGED: Final = {
    Fleet: Action.FLEET_CHANGED,
    Issuer: Action.ISSUER_CHANGED,
    Model: Action.MODEL_CHANGED,
    Plan: Action.PLAN_CHANGED,
    Privacy: Action.PRIVACY_CHANGED,
}
_REMOVED: Final = {
    Fleet: Action.FLEET_REMOVED,
    Issuer: Action.ISSUER_REMOVED,
    Model: Action.MODEL_REMOVED,
    Plan: Action.PLAN_REMOVED,
    Privacy: Action.PRIVACY_REMOVED,
}
_AT: Final = {Fleet: fleet_at, Issuer: issuer_at, Model: model_at, Plan: plan_at, Privacy: privacy_at}

_Value = TypeVar("_Value", bound=Value)


@dataclass(frozen=True, slots=True)
class Misfit:
    """A model that cannot be on its fleet as it asks to be; the path of `why` is one of the model's."""

    model: Model
    why: Invalid


@dataclass(frozen=True, slots=True)
class Changes:
    """All values as they will be, and what is written for that."""

    values: tuple[Value, ...]
    changes: tuple[Change, ...]


def name_of(value: Declared) -> Name:
    return type(value).__name__.removesuffix("Document"), value.name


def plural(kind: str) -> str:
    """Of a kind of things, as partitions, paths and files have it: `Privacy` to `privacies`."""
    return f"{kind.lower().removesuffix('y')}ies" if kind.endswith("y") else f"{kind.lower()}s"


def faults(value: Declared) -> Iterator[Invalid]:
    """What is wrong with the value by itself, beyond the types of its fields."""
    return _FAULTS[type(value)](value)


def misfits(world: Iterable[Value]) -> Iterator[Misfit]:
    """What is wrong between values that are each right."""
    values = list(world)
    fleets = {value.name: value for value in values if isinstance(value, Fleet)}
    for value in values:
        if isinstance(value, Model) and not value.is_elsewhere:
            own = fleets.get(value.fleet)
            if own is None:
                yield Misfit(value, Invalid("fleet", f"there is no fleet {value.fleet!r}"))
            else:
                yield from (Misfit(value, why) for why in model.misfits(value, own))


def changes(
    wanted: Sequence[Value],
    rows: Mapping[Key, Row],
    new_id: Callable[[], str],
    unwanted: Sequence[Value] = (),
) -> Changes:
    """What makes the rows as wanted, and removes what is not. Raises Invalid or InUse when that would not be right, Unreadable for a row
    that cannot be judged. Whether tenants are on a plan or have a privacy, and whether an issuer is somebody else's, is for the caller
    to know.
    """
    for value in wanted:
        for fault in faults(value):
            raise fault
    values = tuple(_with_id(value, rows, new_id) for value in wanted)
    written = [change for value in values if (change := _change(value, rows))]
    written += [_removal(value, rows) for value in unwanted]
    touched = {value.name for value in (*values, *unwanted) if isinstance(value, Fleet)} | {
        value.fleet for value in values if isinstance(value, Model)
    }
    for misfit in misfits(_world(values, unwanted, rows)):
        if misfit.model in values:
            raise Invalid(misfit.why.path, f"of model {misfit.model.name!r} {misfit.why.reason}")
        if misfit.model.fleet in {value.name for value in unwanted if isinstance(value, Fleet)}:
            raise InUse("fleet", misfit.model.fleet, f"the model {misfit.model.name!r}")
        if misfit.model.fleet in touched:
            raise Invalid(misfit.why.path, f"of model {misfit.model.name!r} {misfit.why.reason}")
    return Changes(values, tuple(written))


def at(value: Value) -> Key:
    """Where its row is."""
    return _AT[type(value)](_place(value))


def _with_id(value: _Value, rows: Mapping[Key, Row], new_id: Callable[[], str]) -> _Value:
    """A model keeps its id, or gets one."""
    if not isinstance(value, Model):
        return value
    row = rows.get(at(value))
    return replace(value, id=read(row, Model).id if row else new_id())


def _change(value: Value, rows: Mapping[Key, Row]) -> Change | None:
    row = rows.get(at(value))
    if row is not None and read(row, type(value)) == value:
        return None
    action = (_CREATED if row is None else _CHANGED)[type(value)]
    also = _also(row, [value.held]) if isinstance(value, Issuer) else ()
    return Change(action, _subject(value), at(value), row, encoded(value), also=also)


def _removal(value: Value, rows: Mapping[Key, Row]) -> Change:
    row = rows[at(value)]
    also = _also(row, []) if isinstance(value, Issuer) else ()
    return Change(_REMOVED[type(value)], _subject(value), at(value), row, None, also=also)


def _also(row: Row | None, held: Sequence[Held]) -> tuple[Item, ...]:
    """The platform has these issuers for what it had."""
    return handed_over([read(row, Issuer).held] if row else [], held, None)


def _subject(value: Value) -> str:
    return value.id if isinstance(value, Model | Issuer) else value.name


def _place(value: Value) -> str:
    """A URL is no part of a place."""
    return value.id if isinstance(value, Issuer) else value.name


def _world(values: Iterable[Value], unwanted: Iterable[Value], rows: Mapping[Key, Row]) -> list[Value]:
    """The fleets and models that there will be; a row that cannot be read is none."""
    there: dict[Key, Value] = {}
    for kind, partition in ((Fleet, "fleets"), (Model, "models")):
        there |= readable({key: row for key, row in rows.items() if key.partition == partition}, kind)
    there |= {at(value): value for value in values}
    gone = {at(value) for value in unwanted}
    return [value for place, value in there.items() if place not in gone]
