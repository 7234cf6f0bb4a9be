"""What is asked about the issuers of one tenant: all of them are one thing."""

import msgspec

from tenants.api.asked import Answer, Asked
from tenants.api.shapes import own_issuers_view
from tenants.issuers import TenantIssuer


async def show(asked: Asked) -> Answer:
    return asked.shown(await asked.directory.issuers.find(asked.tenant_name), own_issuers_view)


async def change(asked: Asked) -> Answer:
    name, issuers = asked.tenant_name, asked.directory.issuers
    wanted = msgspec.convert(msgspec.to_builtins(asked.body)["issuers"], tuple[TenantIssuer, ...])
    return await asked.changed(
        await issuers.find(name),
        own_issuers_view,
        lambda version: issuers.put(name, wanted, asked.act, expected=version),
    )
