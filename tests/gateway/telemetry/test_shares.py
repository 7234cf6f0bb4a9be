"""A tenant sees its own share of a model's statistics and nobody else's."""

import json
from typing import Any

from gateway.telemetry import shares
from gateway.telemetry.shares import Shares


def called(of: Shares, tenant: str, model: str = "digits", version: str = "1", **given: bool) -> None:
    of.settled(
        tenant,
        model,
        version,
        succeeded=given.get("succeeded", True),
        now_us=1_700_000_000_123_456,
        waited_us=5,
        total_us=1_000,
    )


def rows(of: Shares, tenant: str, version: str = "", model: str = "digits") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(of.statistics(tenant, model, version))["model_stats"]
    return found


def test_only_the_tenants_own_calls_are_counted() -> None:
    of = Shares()
    for tenant, times in (("ours", 2), ("theirs", 5)):
        for _ in range(times):
            called(of, tenant)
    called(of, "ours", succeeded=False)
    called(of, "ours", model="forecast")
    (row,) = rows(of, "ours")
    assert (row["name"], row["version"], row["last_inference"]) == ("digits", "1", 1_700_000_000_123)
    assert (row["inference_count"], row["execution_count"]) == (2, 2)
    durations = row["inference_stats"]
    assert durations["success"] == {"count": 2, "ns": 2_000_000}
    assert durations["fail"] == {"count": 1, "ns": 1_000_000}
    assert durations["queue"] == {"count": 3, "ns": 15_000}


def test_versions_are_told_apart_and_in_their_order() -> None:
    of = Shares()
    for version in ("10", "9", "9"):
        called(of, "ours", version=version)
    assert [(row["version"], row["inference_count"]) for row in rows(of, "ours")] == [("9", 2), ("10", 1)]
    assert [row["inference_count"] for row in rows(of, "ours", "10")] == [1]


def test_who_never_called_sees_zeros() -> None:
    for version in ("", "3"):
        (row,) = rows(Shares(), "ours", version)
        assert (row["name"], row["version"], row["inference_count"]) == ("digits", version, 0)
        assert row["inference_stats"]["success"] == {"count": 0, "ns": 0}


def test_what_is_kept_is_bounded_and_the_longest_unused_goes_first() -> None:
    of = Shares()
    called(of, "first")
    called(of, "second")
    for number in range(shares._MOST - 1):
        called(of, f"t{number}")
        called(of, "first")
    assert len(of._of) == shares._MOST
    assert rows(of, "first")[0]["inference_count"] == shares._MOST
    assert rows(of, "second")[0]["inference_count"] == 0
