"""What is asked about what a tenant has for itself and nobody else has: all of one sort are one thing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tenants.api.asked import Answer, Asked
from tenants.api.shapes import holding_view
from tenants.certificates import TenantCertificate
from tenants.directory import Directory
from tenants.issuers import TenantIssuer


@dataclass(frozen=True, slots=True)
class Holdings:
    """The operations on one sort; `kind` is that of all of them, and `of` where they are kept."""

    kind: Any
    of: Callable[[Directory], Any]

    async def show(self, asked: Asked) -> Answer:
        return asked.shown(await self.of(asked.directory).find(asked.tenant_name), holding_view)

    async def change(self, asked: Asked) -> Answer:
        name, all_of_them = asked.tenant_name, self.of(asked.directory)
        wanted = msgspec.convert(msgspec.to_builtins(asked.body)[all_of_them.many], self.kind)
        return await asked.changed(
            await all_of_them.find(name),
            holding_view,
            lambda version: all_of_them.put(name, wanted, asked.act, expected=version),
        )


ISSUERS: Final = Holdings(tuple[TenantIssuer, ...], lambda directory: directory.issuers)
CERTIFICATES: Final = Holdings(tuple[TenantCertificate, ...], lambda directory: directory.certificates)
