"""What is asked about the client certificates of one tenant: all of them are one thing."""

import msgspec

from tenants.api.asked import Answer, Asked
from tenants.api.shapes import own_certificates_view
from tenants.certificates import TenantCertificate


async def show(asked: Asked) -> Answer:
    return asked.shown(await asked.directory.certificates.find(asked.tenant_name), own_certificates_view)


async def change(asked: Asked) -> Answer:
    name, certificates = asked.tenant_name, asked.directory.certificates
    wanted = msgspec.convert(msgspec.to_builtins(asked.body)["certificates"], tuple[TenantCertificate, ...])
    return await asked.changed(
        await certificates.find(name),
        own_certificates_view,
        lambda version: certificates.put(name, wanted, asked.act, expected=version),
    )
