"""What each tenant has asked of each model: a tenant's own share of a model's statistics, in the protocol's shape.

Never Triton's own: those count everybody's calls. Counted here since this process started; at most 10,000 models of tenants are kept, the
one that was called longest ago goes first. Specification: Triton's "statistics extension".
"""

from collections import OrderedDict
from dataclasses import dataclass, field

import msgspec

_MOST = 10_000


class _Duration(msgspec.Struct):
    """`ns`: nanoseconds in all."""

    count: int = 0
    ns: int = 0

    def add(self, microseconds: int) -> None:
        self.count += 1
        self.ns += microseconds * 1_000


class _Durations(msgspec.Struct):
    """`queue` is the time that calls waited for a place here. What only Triton knows of one call is not counted: 0 of 0."""

    success: _Duration = msgspec.field(default_factory=_Duration)
    fail: _Duration = msgspec.field(default_factory=_Duration)
    queue: _Duration = msgspec.field(default_factory=_Duration)
    compute_input: _Duration = msgspec.field(default_factory=_Duration)
    compute_infer: _Duration = msgspec.field(default_factory=_Duration)
    compute_output: _Duration = msgspec.field(default_factory=_Duration)
    cache_hit: _Duration = msgspec.field(default_factory=_Duration)
    cache_miss: _Duration = msgspec.field(default_factory=_Duration)


class Statistics(msgspec.Struct):
    """One call counts as one inference, whatever its batch. `last_inference`: milliseconds since the Unix epoch."""

    name: str
    version: str
    last_inference: int = 0
    inference_count: int = 0
    execution_count: int = 0
    inference_stats: _Durations = msgspec.field(default_factory=_Durations)
    batch_stats: tuple[()] = ()


class _Answer(msgspec.Struct):
    model_stats: list[Statistics]


@dataclass(slots=True)
class Shares:
    """By tenant's id and model's name, then by version."""

    _of: OrderedDict[tuple[str, str], dict[str, Statistics]] = field(default_factory=OrderedDict)

    def settled(
        self,
        tenant_id: str,
        model: str,
        version: str,
        *,
        succeeded: bool,
        now_us: int,
        waited_us: int,
        total_us: int,
    ) -> None:
        """A call that went to a server has ended."""
        key = (tenant_id, model)
        versions = self._of.get(key)
        if versions is None:
            versions = self._of[key] = {}
            if len(self._of) > _MOST:
                self._of.popitem(last=False)
        else:
            self._of.move_to_end(key)
        counts = versions.get(version)
        if counts is None:
            counts = versions[version] = Statistics(model, version)
        durations = counts.inference_stats
        counts.last_inference = now_us // 1_000
        durations.queue.add(waited_us)
        (durations.success if succeeded else durations.fail).add(total_us)
        if succeeded:
            counts.inference_count += 1
            counts.execution_count += 1

    def rows(self, tenant_id: str, model: str, version: str) -> list[Statistics]:
        """Of one version, or of all that were called, "" for that."""
        found = self._of.get((tenant_id, model), {})
        if version:
            return [found.get(version) or Statistics(model, version)]
        return [found[one] for one in sorted(found, key=int)] or [Statistics(model, "")]

    def statistics(self, tenant_id: str, model: str, version: str) -> bytes:
        """The same, as REST answers it."""
        return msgspec.json.encode(_Answer(self.rows(tenant_id, model, version)))
