"""A tenant opens its records with what the README says, the answer to `/audit/v1/keys`, and nothing of ours."""

import re
from base64 import urlsafe_b64encode
from typing import Any

import msgspec
import pytest
from cryptography.exceptions import InvalidTag

from gateway.audit.segment import StoredRecord
from gateway.envelope.series import segment_of, series_key
from tests.conftest import ROOT
from tests.gateway.audit.test_reading import of_tenant
from tests.worlds.keyring import KeyringWorld

README = ROOT / "gateway" / "audit" / "README.md"


def example() -> dict[str, Any]:
    (block,) = re.findall(r"<!-- run by a test -->\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert "gateway" not in block
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102 - it is our own page
    return names


def told(keys: KeyringWorld, body: bytes) -> dict[str, Any]:
    """As the API answers (`tests/tenants/api/test_records.py` holds it to this)."""
    found = series_key(keys.made("t_a", "audit"), "t_a", segment_of(body))
    texts = {
        "key": urlsafe_b64encode(found.key.reveal()).decode(),
        "commitment": urlsafe_b64encode(found.commitment).decode(),
    }
    return {"keys": [{"series": found.segment, "data_key": found.data_key, **texts}]}


def entry_of(record: StoredRecord) -> Any:
    return msgspec.to_builtins(record.entry)


async def test_the_example_opens_every_body_of_its_tenants() -> None:
    keys, names = KeyringWorld(), example()
    stored = await of_tenant(keys)
    found = [names["opened"](entry_of(it), it.body, told(keys, it.present)) for it in stored]
    assert [it.get("address") for it in found] == ["192.0.2.7", None, "192.0.2.7"]
    assert found[1]["status"] == "done"


async def test_the_example_opens_no_body_as_another_records() -> None:
    keys, names = KeyringWorld(), example()
    intent, outcome = (await of_tenant(keys))[:2]
    with pytest.raises(InvalidTag):
        names["opened"](entry_of(intent), outcome.body, told(keys, outcome.present))
