"""What is kept for a time goes when that is over: bodies of audit records, captured payloads, replies. Passes beside the requests."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

from gateway.audit.ports import SegmentFailed
from gateway.audit.retention import Retention
from gateway.kept.claims import SWEPT
from gateway.kept.expiry import Expiry
from gateway.kept.ports import BlobsUnavailable
from gateway.kept.sweep import Sweep
from gateway.loops import every
from gateway.settings import Settings
from gateway.state import now_us, opened_blobs, opened_claims, opened_segments
from gateway.telemetry.meter import Meter
from gateway.telemetry.rooms import watch_ageing
from tenants.directory import Directory
from tenants.errors import TenantsError
from tenants.privacy import Privacy
from tenants.privacy import Retention as Kept

_PASS_SECONDS: Final = 3600.0
_REPLY_HOURS: Final = SWEPT // timedelta(hours=1)
"""A reply goes when its claim is void by every clock that is right, and not before."""
_DEFAULT: Final = Kept()

Loop = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a tenant's privacy says now, whatever became of the tenant."""

    directory: Directory

    async def body_days(self, tenant_id: str) -> int | None:
        """None: they are kept for ever, as those of a tenant without a privacy are."""
        found = await self._privacy(tenant_id)
        return found.bodies_days if found else None

    async def capture_days(self, tenant_id: str) -> int:
        found = await self._privacy(tenant_id)
        return (found.retention_days if found else _DEFAULT).capture

    async def _privacy(self, tenant_id: str) -> Privacy | None:
        found = await self.directory.issuers.belonging(tenant_id=tenant_id)
        return found.privacy if found else None


@asynccontextmanager
async def opened_ageing(
    settings: Settings, directory: Directory, meter: Meter
) -> AsyncIterator[dict[str, Loop]]:
    """The loops, by name. Segments are opened apart from the ledger's: a long read must not hold up its next segment."""
    lookup = Lookup(directory)
    async with (
        opened_segments(settings) as segments,
        opened_blobs(settings) as blobs,
        opened_claims(settings) as table,
    ):
        retention = Retention(segments, lookup.body_days, now_us)
        expiry = Expiry(blobs, lookup.capture_days, _REPLY_HOURS, lambda: now_us() / 1e6)
        claims = Sweep(table, now_us)
        watch_ageing(meter, retention, expiry, claims)

        async def forget() -> None:
            if await directory.values.privacies():  # else no body is ever over, and no segment is read
                await retention.look()

        yield {
            "retention": partial(every, _PASS_SECONDS, forget, SegmentFailed, TenantsError, TimeoutError),
            "expiry": partial(
                every, _PASS_SECONDS, expiry.look, BlobsUnavailable, TenantsError, TimeoutError
            ),
            "claims": partial(every, _PASS_SECONDS, claims.look, TenantsError, TimeoutError),
        }
