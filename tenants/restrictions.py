"""What a tenant restricts itself to: where its requests may run, with which models, and from which networks they may come. Pure.

    restrictions: {regions: [eu-west], models: [digits], networks: [192.0.2.0/24]}

Each is optional, and holds for every credential of the tenant beside whatever that one is limited to. None gives anybody a model. Regions
and models are judged by the policies (`policies/inference.cedar`), networks where a credential is recognized.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Final

from msgspec import Meta, Struct

from tenants import names, networks
from tenants.errors import Invalid
from tenants.names import ModelName, Names, RegionName
from tenants.networks import Ranges

MOST: Final = 100
"""Of regions, and of models."""

_Some = Meta(min_length=1, max_length=MOST)


class Restrictions(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """None: no such restriction. A list is never empty: that would be a door for nobody, and a tenant that is suspended says it better.

    Stored in a tenant's row. A field that is not known refuses the row, as passing over it would open a door.
    """

    regions: Annotated[tuple[RegionName, ...], _Some] | None = None
    """Only models that run there; one of which nobody says where it runs is in none of them."""
    models: Annotated[tuple[ModelName, ...], _Some] | None = None
    networks: Ranges | None = None
    """Only from there, as `networks.py` writes them."""


def faults(restrictions: Restrictions, path: str = "") -> Iterator[Invalid]:
    """What is wrong with them beyond the types of their fields; `path` is where they are, as "restrictions."."""
    yield from _named(restrictions.regions, names.REGION, f"{path}regions")
    yield from _named(restrictions.models, names.MODEL, f"{path}models")
    if restrictions.networks is not None:
        yield from networks.faults(restrictions.networks, f"{path}networks")


def kept(restrictions: Restrictions | None) -> Restrictions | None:
    """As a tenant has them: none at all is None."""
    return None if restrictions == Restrictions() else restrictions


def _named(found: tuple[str, ...] | None, kind: Names, path: str) -> Iterator[Invalid]:
    if found is None:
        return
    if not 1 <= len(found) <= MOST:
        yield Invalid(path, f"has {len(found)} names: 1 to {MOST}; leave it out for no restriction")
        return
    for position, name in enumerate(found):
        yield from kind.faults(name, f"{path}[{position}]")
    yield from (Invalid(path, f"names {name!r} twice") for name, many in Counter(found).items() if many > 1)
