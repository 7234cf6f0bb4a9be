"""A fleet: one kind of Triton server, how many of them may run, and what the models on one may use together. Pure."""

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta, Struct

from tenants import names
from tenants.errors import Invalid
from tenants.names import FleetName

Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class Process(Struct, frozen=True):
    """Servers are child processes of the gateway, on its own host: the tritonserver of the nvidia-pytriton wheel."""

    type: Literal["process"] = "process"


class Replicas(Struct, frozen=True):
    """`min` run also while nobody calls."""

    min: Annotated[int, Meta(ge=0, le=100)] = 0
    max: Annotated[int, Meta(ge=1, le=100)] = 1


class Fleet(Struct, frozen=True, tag_field="v", tag=1):
    """A kind of server. `memory_bytes` is what the models on one replica may use together.

    Stored as JSON, version 1. A field may be added with a default that means what its absence meant before;
    any other change is version 2. Readers refuse versions they do not know.
    """

    name: FleetName
    scaler: Process = Process()
    replicas: Replicas = Replicas()
    memory_bytes: Annotated[int, Meta(ge=1, le=2**50)] = 2 * 1024**3
    idle_seconds: Seconds = 60.0
    """A replica without a model for so long is stopped."""


def faults(fleet: Fleet) -> Iterator[Invalid]:
    """What is wrong with it beyond the types of its fields, each with the path to it."""
    yield from names.FLEET.faults(fleet.name, "name")
    if fleet.replicas.min > fleet.replicas.max:
        yield Invalid(
            "replicas.min", f"is {fleet.replicas.min}, more than replicas.max ({fleet.replicas.max})"
        )
