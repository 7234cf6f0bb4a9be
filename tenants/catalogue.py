"""Fleets, models and plans together: what is wanted against the rows that are there, judged as a whole and turned into changes. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from tenants import customer, fleet, model, plans
from tenants.customer import TenantDocument
from tenants.errors import Invalid
from tenants.events import Action
from tenants.fleet import Fleet
from tenants.model import Model
from tenants.plans import Plan
from tenants.ports import MOST_ITEMS, Check, Key, Row
from tenants.rows import Change, changed, created, fleet_at, model_at, new_row, plan_at, read, readable

Value = Fleet | Model | Plan
"""What a directory keeps as it is declared."""
Declared = Value | TenantDocument
"""What documents declare."""
Name = tuple[str, str]
"""Kind and name, as `("Model", "digits")`."""

PARTITIONS: Final = ("fleets", "models", "plans")

_FAULTS: Final[dict[type[Declared], Callable[[Any], Iterator[Invalid]]]] = {
    Fleet: fleet.faults,
    Model: model.faults,
    Plan: plans.faults,
    TenantDocument: customer.faults,
}
_CREATED: Final = {Fleet: Action.FLEET_CREATED, Model: Action.MODEL_CREATED, Plan: Action.PLAN_CREATED}
_CHANGED: Final = {Fleet: Action.FLEET_CHANGED, Model: Action.MODEL_CHANGED, Plan: Action.PLAN_CHANGED}
_AT: Final = {Fleet: fleet_at, Model: model_at, Plan: plan_at}

_Value = TypeVar("_Value", bound=Value)


@dataclass(frozen=True, slots=True)
class Misfit:
    """A model that cannot be on its fleet as it asks to be; the path of `why` is one of the model's."""

    model: Model
    why: Invalid


@dataclass(frozen=True, slots=True)
class Changes:
    """All values as they will be, what is written for that, and the rows that must stay as they are."""

    values: tuple[Value, ...]
    changes: tuple[Change, ...]
    checks: tuple[Check, ...]


def name_of(value: Declared) -> Name:
    return type(value).__name__.removesuffix("Document"), value.name


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


def changes(wanted: Sequence[Value], rows: Mapping[Key, Row], new_id: Callable[[], str]) -> Changes:
    """What makes the rows as wanted. Raises Invalid when that would not be right, Unreadable for a row that cannot be judged."""
    for value in wanted:
        for fault in faults(value):
            raise fault
    values = tuple(_with_id(value, rows, new_id) for value in wanted)
    written = tuple(change for value in values if (change := _change(value, rows)))
    touched = {value.name for value in values if isinstance(value, Fleet)} | {
        value.fleet for value in values if isinstance(value, Model)
    }
    for misfit in misfits(_world(values, rows)):
        if misfit.model in values or misfit.model.fleet in touched:
            raise Invalid(misfit.why.path, f"of model {misfit.model.name!r} {misfit.why.reason}")
    return Changes(values, written, tuple(_relied_on(values, rows)) if written else ())


def items(values: Sequence[Value]) -> int:
    """How many items a transaction has that writes all of them: each with its event, and the checks."""
    fleets = {value.name for value in values if isinstance(value, Fleet)}
    relied_on = {value.fleet for value in values if isinstance(value, Model)} - fleets
    return 2 * len(values) + len(relied_on)


def batches(wanted: Iterable[Value], before: Mapping[Name, Value]) -> Iterator[tuple[Value, ...]]:
    """The transactions that bring the wanted values, each leaving a world without misfits if the first and the last are.

    One if it fits. Else the fleets come first, as wide as they were and as they will be, then models and plans, then the fleets as wanted.
    """
    values = list(wanted)
    if items(values) <= MOST_ITEMS:
        yield from [tuple(values)] if values else []
        return
    fleets = [value for value in values if isinstance(value, Fleet)]
    wide = [_widened(it, before.get(name_of(it))) for it in fleets]
    yield from _filled(it for it in wide if it != before.get(name_of(it)))
    yield from _filled(value for value in values if not isinstance(value, Fleet))
    yield from _filled(it for it, widened in zip(fleets, wide, strict=True) if it != widened)


def _filled(values: Iterable[Value]) -> Iterator[tuple[Value, ...]]:
    batch: list[Value] = []
    for value in values:
        if items([*batch, value]) > MOST_ITEMS:
            yield tuple(batch)
            batch = []
        batch.append(value)
    if batch:
        yield tuple(batch)


def _widened(wanted: Fleet, before: Value | None) -> Fleet:
    """With room for whatever fits the one or the other."""
    if not isinstance(before, Fleet):
        return wanted
    replicas = replace(wanted.replicas, max=max(wanted.replicas.max, before.replicas.max))
    return replace(wanted, replicas=replicas, memory_bytes=max(wanted.memory_bytes, before.memory_bytes))


def _at(value: Value) -> Key:
    return _AT[type(value)](value.name)


def _with_id(value: _Value, rows: Mapping[Key, Row], new_id: Callable[[], str]) -> _Value:
    """A model keeps its id, or gets one."""
    if not isinstance(value, Model):
        return value
    row = rows.get(_at(value))
    return replace(value, id=read(row, Model).id if row else new_id())


def _change(value: Value, rows: Mapping[Key, Row]) -> Change | None:
    row = rows.get(_at(value))
    subject = value.id if isinstance(value, Model) else value.name
    if row is None:
        return created(_CREATED[type(value)], subject, new_row(_at(value), value))
    if read(row, type(value)) == value:
        return None
    return changed(_CHANGED[type(value)], subject, row, value)


def _world(values: Iterable[Value], rows: Mapping[Key, Row]) -> list[Value]:
    """The fleets and models that there will be; a row that cannot be read is none."""
    there: dict[Key, Value] = {}
    for kind, partition in ((Fleet, "fleets"), (Model, "models")):
        there |= readable({key: row for key, row in rows.items() if key.partition == partition}, kind)
    return [*(there | {_at(value): value for value in values}).values()]


def _relied_on(values: Iterable[Value], rows: Mapping[Key, Row]) -> Iterator[Check]:
    """The fleets of the models, where they are not written with them."""
    values = list(values)
    fleets = {value.name for value in values if isinstance(value, Fleet)}
    for name in sorted({value.fleet for value in values if isinstance(value, Model)} - fleets):
        if row := rows.get(fleet_at(name)):
            yield Check(row.key, row.version)
