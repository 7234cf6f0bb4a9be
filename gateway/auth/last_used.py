"""When keys were last used: noted in memory on the path, kept in the table once a minute.

Fails open: a use that is not kept yet is no reason to refuse one. A table that gives no answer leaves the notes for the next time; a killed
process loses those of its last minute.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from tenants.directory.uses import Use, Uses
from tenants.errors import TableUnavailable
from tenants.ports import MOST_ITEMS

MOST_NOTES: Final = 100_000
"""That a table out of reach leaves here; beyond them those that were noted first are dropped."""
_CLOSE_SECONDS: Final = 2.0

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class LastUsed:
    """`answer_seconds`: a write that takes longer has no answer. Not shared between loops."""

    uses: Uses
    answer_seconds: float = 1.0
    notes: dict[str, Use] = field(default_factory=dict)
    """By the keys' ids; whoever admits a key writes here, and nothing else happens on its path."""

    async def flush(self) -> None:
        """All that was noted is kept. Raises TableUnavailable, TimeoutError: what is not kept is noted still."""
        taken = dict(self.notes)
        self.notes.clear()
        try:
            while batch := dict(islice(taken.items(), MOST_ITEMS)):
                async with asyncio.timeout(self.answer_seconds):
                    await self.uses.note(batch)
                for key_id in batch:
                    del taken[key_id]
        finally:
            self._put_back(taken)

    async def close(self) -> None:
        """The last flush, in a bounded time. Never raises for a table that gives no answer."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.flush()
        except (TableUnavailable, TimeoutError) as fault:
            _log.warning("the last use of %d keys was not kept: %s", len(self.notes), fault or "too slow")

    def _put_back(self, left: dict[str, Use]) -> None:
        """Before what was noted meanwhile, which is newer."""
        if not left:
            return
        newer = dict(self.notes)
        self.notes.clear()
        self.notes.update(left | newer)
        for key_id in list(islice(self.notes, max(0, len(self.notes) - MOST_NOTES))):
            del self.notes[key_id]
