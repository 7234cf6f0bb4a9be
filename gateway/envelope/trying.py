"""Whether what wraps data keys does so now: for people who look."""

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from gateway.envelope.keys import Context, Material
from gateway.envelope.ports import KeyRefused, KeyService, KeysUnavailable
from gateway.loops import at_once
from tenants.directory.data_keys import DataKeys

_AT_ONCE: Final = 8


class Own(NamedTuple):
    """A tenant by its name, and the ARN of its own KMS key."""

    tenant: str
    kms_key: str


async def own_keys(directory: DataKeys) -> list[Own]:
    """Of all tenants that are not closed, by name. Raises TenantsError."""
    owners = [await directory.owner(tenant_id) for tenant_id in await directory.tenant_ids()]
    return sorted(Own(it.name, it.kms_key) for it in owners if it.kms_key and it.state != "closed")


async def attempt(service: KeyService, record: str, value: bytes, with_key: str | None = None) -> None:
    """`value`, of a data key's size and of no worth, is wrapped and unwrapped. Raises KeysUnavailable, KeyRefused."""
    context = Context("doctor", "check", record)
    found = await service.unwrap(await service.wrap(Material(value), context, with_key), context, with_key)
    if found.reveal() != value:
        raise KeyRefused("it opens something else than what it wrapped")


async def attempts(
    service: KeyService, own: Collection[Own], record: str, value: bytes
) -> Mapping[Own, Exception | None]:
    """How it went with each, some at a time: None is well."""
    found: dict[Own, Exception | None] = dict.fromkeys(own)

    async def one(it: Own) -> None:
        try:
            await attempt(service, record, value, it.kms_key)
        except (KeyRefused, KeysUnavailable) as fault:
            found[it] = fault

    await at_once(_AT_ONCE, map(one, own))
    return found
