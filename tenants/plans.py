"""A plan: what a tenant bought. Pure; whoever reads a file of `policies/plans` passes its content here."""

from collections.abc import Iterator, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from tenants import names
from tenants.errors import Invalid
from tenants.names import PlanName


class Rate(Struct, frozen=True, forbid_unknown_fields=True):
    """`rate` a second in the long run, `burst` at once."""

    rate: Annotated[float, Meta(ge=0.0001, le=1_000_000)]
    burst: Annotated[int, Meta(ge=1, le=1_000_000)]


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """None means that the plan has no such limit. A body always has one."""

    body_bytes: Annotated[int, Meta(ge=1, le=2**50)]
    requests_per_second: Rate | None = None
    concurrent_requests: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None


class Plan(Struct, frozen=True, forbid_unknown_fields=True, tag_field="v", tag=1):
    """Limits under a name; `weight` is its share when tenants wait for the same model.

    Stored as JSON, version 1. Unlike other rows, one with a field that the reader does not know is refused:
    to overlook a limit would be to lift it. So a new limit reaches every reader before the first plan that
    has it; what changes a meaning is version 2.
    """

    name: PlanName
    weight: Annotated[int, Meta(ge=1, le=1000)]
    limits: Limits


def parse(document: Mapping[str, object]) -> Plan:
    """The plan of a document. Unknown keys, wrong types, numbers out of bounds: Invalid, with the path."""
    try:
        plan = msgspec.convert(document, Plan)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")  # as msgspec says it
        raise Invalid(path.strip(".`"), reason) from error
    for fault in faults(plan):
        raise fault
    return plan


def faults(plan: Plan) -> Iterator[Invalid]:
    """What is wrong with it beyond the types of its fields."""
    yield from names.PLAN.faults(plan.name, "name")
