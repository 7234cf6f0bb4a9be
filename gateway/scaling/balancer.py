"""Which of several places takes a call: the one with the fewest under way. Pure."""

from collections.abc import Sequence
from typing import TypeVar

from gateway.scaling.residency import Place

_AnyPlace = TypeVar("_AnyPlace", bound=Place)


def least_loaded(places: Sequence[_AnyPlace]) -> _AnyPlace:
    """Of equals the one that was used longest ago, so that idle ones take turns."""
    best = places[0]
    for place in places:
        if (place.in_flight, place.last_use) < (best.in_flight, best.last_use):
            best = place
    return best
