"""Which calls were where, and when: what the log says of the last minutes, for whoever shares out compute. Nothing here is stored: who
starts reads again what is not folded to its end.
"""

from typing import Final, NamedTuple

from gateway.audit.record import Entry
from gateway.usage.apportion import Ran, Who

_KEPT_US: Final = 600_000_000
_MOST: Final = 500_000  # calls, some 200 bytes each
_MOST_ENDED: Final = 20_000
"""More than what is read again at once: behind an intent that is heard once more its outcome is, too."""


class Spot(NamedTuple):
    """A place by the ids that the log has: of the replica, and of the model."""

    replica: str
    model: str


class _Open(NamedTuple):
    who: Who
    model: str
    since_us: int


class Calls:
    """Heard as the log is read, a record once or more."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}
        self._runs: dict[Spot, dict[str, Ran]] = {}
        self._ended: dict[str, None] = {}  # the newest ones, so that none opens again

    def hear(self, entry: Entry) -> None:
        who = Who(entry.tenant or "", entry.key or "")
        if entry.kind == "intent" and entry.request not in self._ended:
            self._open[entry.request] = _Open(who, entry.model or "", entry.at_us)
        elif entry.kind == "outcome":
            self._open.pop(entry.request, None)
            self._ended[entry.request] = None
            if entry.replica and entry.interval_us:
                spot = Spot(entry.replica, entry.model or "")
                self.ran(spot, entry.request, Ran(who, *entry.interval_us, max(entry.weight, 1)))
        if len(self._ended) > _MOST_ENDED:
            del self._ended[next(iter(self._ended))]

    def ran(self, spot: Spot, name: str, run: Ran) -> None:
        """Also for what is nobody's call, as a canary."""
        runs = self._runs.setdefault(spot, {})
        runs[name] = run
        if len(runs) > _MOST:
            del runs[next(iter(runs))]

    def on(self, spot: Spot, now_us: int) -> list[Ran]:
        """Those that were there; a call that is still open counts for each place of its model, since it was announced."""
        found = list(self._runs.get(spot, {}).values())
        return found + [
            Ran(it.who, it.since_us, now_us) for it in self._open.values() if it.model == spot.model
        ]

    def forget(self, spot: Spot, before_us: int) -> None:
        """What ended before that is asked for no more."""
        if runs := self._runs.get(spot):
            for name in [name for name, run in runs.items() if run.end_us <= before_us]:
                del runs[name]

    def forget_old(self, now_us: int) -> None:
        """Of places that nobody measures, and of calls whose end nobody will tell."""
        for spot in list(self._runs):
            self.forget(spot, now_us - _KEPT_US)
            if not self._runs[spot]:
                del self._runs[spot]
        for request in [it for it, found in self._open.items() if found.since_us < now_us - 100 * _KEPT_US]:
            del self._open[request]
