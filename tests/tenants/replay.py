"""What the events of a table tell is what its rows say: each subject's images are a chain, and its end is stored. Sequence numbers have no
gap, and each event is in the record of its number.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from tenants.events import Action, Changed, Event
from tenants.ports import Key, Row
from tenants.rows import DOCUMENTS_AT, HEAD_AT

_NOT_REPLAYED = ("tenants", "head", "events", "changes", "receipts", "stages", "format", "documents")
SINGULAR = {"plans": "plan", "privacies": "privacy", "fleets": "fleet", "issuers": "issuer"}
_NOTHING = msgspec.json.decode(b"null")


def faults(rows: Mapping[Key, Row]) -> list[str]:
    """What is told and not so, or so and not told; none of a table whose every change was made wholly or not at all."""
    events = {key: msgspec.json.decode(row.value, type=Event) for key, row in rows.items() if _is_event(key)}
    records = [
        msgspec.json.decode(row.value, type=Changed)
        for key, row in sorted(rows.items())
        if key.partition == "changes"
    ]
    return [
        *_order_faults(records, events, rows[HEAD_AT].version if HEAD_AT in rows else 0),
        *_image_faults(events, rows),
    ]


def _order_faults(records: list[Changed], events: Mapping[Key, Event], last: int) -> Iterable[str]:
    if [it.sequence for it in records] != list(range(1, last + 1)):
        yield f"the numbers {[it.sequence for it in records]} are not 1 to {last}"
    told = {Key(*at): record.sequence for record in records for at in record.events}
    if told != {key: event.sequence for key, event in events.items()}:
        yield f"records and events differ: {told.keys() ^ events.keys()}"


def _image_faults(events: Mapping[Key, Event], rows: Mapping[Key, Row]) -> Iterable[str]:
    images: dict[str, Any] = {}
    for _, event in sorted(events.items(), key=lambda it: (it[1].sequence, it[0].sort)):
        subject = "documents" if event.action == Action.DOCUMENTS_APPLIED else event.subject
        before = msgspec.json.decode(event.before)
        if images.get(subject) != before:
            yield f"{subject} was {images.get(subject)} and event {event.sequence} found {before}"
        images[subject] = msgspec.json.decode(event.after)
    left = {subject: image for subject, image in images.items() if image is not None}
    stored = {
        _subject(key, msgspec.json.decode(row.value)): msgspec.json.decode(row.value)
        for key, row in rows.items()
        if _is_replayed(key)
    }
    for subject in left.keys() | stored.keys():
        if left.get(subject) != stored.get(subject):
            yield f"{subject} is {stored.get(subject)} and its events say {left.get(subject)}"


def _is_event(key: Key) -> bool:
    return key.partition == "events" or (
        key.partition.startswith("tenant/") and key.sort.startswith("event/")
    )


def _is_replayed(key: Key) -> bool:
    """Whether the row is what an event shows, and not a pointer or of the order itself."""
    if key == DOCUMENTS_AT:
        return True
    aside = ("digest/", "plan/", "privacy/", "stage/", "issuer/", "certificate/", "datakeys/")
    return not (_is_event(key) or key.partition in _NOT_REPLAYED or key.partition.startswith(aside))


def _subject(key: Key, image: dict[str, Any]) -> str:
    if key.sort == "issuers":
        return f"issuer/{image['tenant_id']}"
    if key.sort == "certificates":
        return f"certificate/{image['tenant_id']}"
    if key.partition in SINGULAR:
        return f"{SINGULAR[key.partition]}/{key.sort}"
    if key == DOCUMENTS_AT:
        return "documents"
    what = "model" if key.partition == "models" else key.sort.partition("/")[0]
    return f"{what}/{image['id']}"
