"""What a tenant is told to open its own audit records by itself (`gateway/audit/README.md`)."""

import re
from base64 import urlsafe_b64encode
from typing import Final

from tenants.api.asked import Answer, Asked
from tenants.api.problems import Problem
from tenants.api.shapes import RecordKeysView, RecordKeyView
from tenants.errors import NotFound

MOST_SERIES: Final = 100
_SHOWN: Final = 100  # characters of what somebody took for a key's id
_SERIES: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")


async def show_keys(asked: Asked) -> Answer:
    """Of no series there are no keys. A data key of another tenant, or for another purpose, is not there. Nobody checks that a series
    is in the log: its key opens nothing else. Fails closed: nothing is told before its event is written. Raises Problem, TenantsError.
    """
    wanted, key_id = _series(asked.query.get("series", "")), asked.query.get("data_key", "")
    own = asked.caller.who.tenant
    if own is None:
        raise Problem("forbidden", "only a tenant's own people are told what opens its records")
    if not wanted:
        return Answer(RecordKeysView(()), secret=True)
    record = (await asked.directory.data_keys.of(own.id)).get(key_id)
    if record is None or record.purpose != "audit" or asked.record_keys is None:
        raise NotFound("data key", key_id[:_SHOWN])
    found = await asked.record_keys.derived(own.id, key_id, wanted)
    await asked.directory.data_keys.told(own.id, key_id, asked.act)
    keys = (RecordKeyView(it.series, key_id, _text(it.key), _text(it.commitment)) for it in found)
    return Answer(RecordKeysView(tuple(keys)), secret=True)


def _series(text: str) -> list[str]:
    """Without those that are there twice."""
    found = list(dict.fromkeys(text.split(","))) if text else []
    if len(found) > MOST_SERIES:
        raise Problem("invalid", f"at most {MOST_SERIES} at once", path="series")
    if not all(map(_SERIES.fullmatch, found)):
        raise Problem("invalid", "each is 1 to 64 of 0-9A-Za-z_-, with a comma between two", path="series")
    return found


def _text(secret: bytes) -> str:
    return urlsafe_b64encode(secret).decode()
