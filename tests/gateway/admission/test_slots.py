"""What the leader hands out: all slots and no more, none that may be in use elsewhere, to each what its tenants should have."""

import os
from collections.abc import Mapping
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admission.slots import Demand, Grant, Report, Slots, max_min, slots_of

MEMBERS = "mnopq"
SEEDS = range(200 if os.environ.get("CHAOS") == "full" else 20)
calls = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 50), max_size=4)
loads = st.dictionaries(st.sampled_from(MEMBERS), calls, min_size=1, max_size=5)


def reports(
    loads: Mapping[str, Mapping[str, int]],
    grants: Mapping[str, Grant],
    weights: Mapping[str, float] | None = None,
) -> dict[str, Report | None]:
    """Of members that use all they have, as far as they have calls, and heard of the last round."""
    weights = weights or {}
    found: dict[str, Report | None] = {}
    for member, it in loads.items():
        grant = grants.get(member, Grant())
        demands = {tenant: Demand(weights.get(tenant, 1.0), n) for tenant, n in it.items()}
        running = min(grant.slots, sum(it.values()))
        found[member] = Report(grant.round, grant.slots, running, demands)
    return found


def settled(
    total: int,
    loads: Mapping[str, Mapping[str, int]],
    rounds: int = 12,
    weights: Mapping[str, float] | None = None,
) -> list[Mapping[str, Grant]]:
    leader, grants = Slots(), dict[str, Grant]()
    seen: list[Mapping[str, Grant]] = []
    for _ in range(rounds):
        grants = dict(leader.hand_out(total, reports(loads, grants, weights)))
        seen.append(grants)
    return seen


def counts(grants: Mapping[str, Grant]) -> dict[str, int]:
    return {member: grant.slots for member, grant in grants.items()}


@given(st.integers(0, 40), loads)
def test_once_it_is_settled_all_slots_are_handed_out_and_no_more(
    total: int, loads: dict[str, dict[str, int]]
) -> None:
    leader, grants = Slots(), dict[str, Grant]()
    sums = []
    for _ in range(8):
        grants = dict(leader.hand_out(total, reports(loads, grants)))
        grants = dict(leader.pass_on(total, reports(loads, grants)))
        sums.append(sum(counts(grants).values()))
    assert sums == [total] * 8


class Hasty(Slots):
    """The negative control: what a member does not use now it gives to others at once."""

    def _update(self, reports: Mapping[str, Report | None]) -> None:
        super()._update(reports)
        for member, it in reports.items():
            if it is not None:
                self._members[member].most = it.running


def most_at_once(leader: Slots, total: int, random: Random) -> int:
    """Members that hear late or not at all, fall silent, come back, and use all that they know of; calls take long."""
    knows = {member: Grant() for member in MEMBERS}
    running = dict.fromkeys(MEMBERS, 0)
    most = 0
    for _ in range(40):
        told: dict[str, Report | None] = {}
        for member in MEMBERS:
            grant = knows[member]
            running[member] = max(random.randint(0, running[member]), random.randint(0, grant.slots))
            demands = {
                tenant: Demand(1.0, random.randint(1, 20)) for tenant in "abc" if random.random() < 0.5
            }
            report = Report(grant.round, grant.slots, running[member], demands)
            told[member] = report if random.random() < 0.8 else None
        act = leader.hand_out if random.random() < 0.7 else leader.pass_on
        grants = act(total, told)
        assert set(grants) <= {member for member, it in told.items() if it is not None}
        may_use = {member: max(running[member], knows[member].slots) for member in MEMBERS}
        for member, grant in grants.items():
            if random.random() < 0.7:
                knows[member] = grant
            may_use[member] = max(may_use[member], grant.slots)
        most = max(most, sum(may_use.values()))
        running = {member: max(running[member], knows[member].slots) for member in MEMBERS}
    return most


@pytest.mark.chaos
@pytest.mark.parametrize("seed", SEEDS)
def test_what_may_be_in_use_at_one_member_is_at_no_other(seed: int) -> None:
    for case in range(10):
        random = Random(f"{seed} {case}")
        total = random.randint(1, 20)
        assert most_at_once(Slots(), total, random) <= total


def test_to_give_what_is_not_in_use_now_would_give_it_twice() -> None:
    assert most_at_once(Hasty(), 8, Random(0)) > 8


def test_a_silent_member_gets_none_and_its_slots_come_back_when_it_is_gone() -> None:
    load = {"m": {"a": 10}, "n": {"a": 10}}
    leader = Slots()
    grants = leader.hand_out(4, reports(load, {}))
    assert counts(grants) == {"m": 2, "n": 2}
    for _ in range(3):
        told = reports(load, grants)
        told["m"] = None
        grants = leader.hand_out(4, told)
        assert counts(grants) == {"n": 2}  # what m may have in use is not given again
    grants = leader.hand_out(4, reports({"n": {"a": 10}}, grants))
    assert counts(grants) == {"n": 4}


def test_a_slot_that_is_taken_is_given_once_it_is_known_to_be_free() -> None:
    leader = Slots()
    grants = leader.hand_out(4, reports({"m": {"a": 10}, "n": {}}, {}))
    assert counts(grants) == {"m": 4, "n": 0}
    load = {"m": {"a": 10}, "n": {"b": 10}}
    grants = leader.hand_out(4, reports(load, grants))
    grants = leader.hand_out(4, reports(load, grants)) if counts(grants)["m"] == 4 else grants
    assert counts(grants)["n"] == 0
    told = reports(load, grants)
    told["m"] = Report(
        grants["m"].round, grants["m"].slots, 4, {"a": Demand(1.0, 10)}
    )  # it heard; its calls go on
    grants = leader.pass_on(4, told)
    assert counts(grants)["n"] == 0
    grants = leader.pass_on(4, reports(load, grants))
    assert sum(counts(grants).values()) == 4
    assert counts(grants)["n"] > 0


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 30))
def test_with_fewer_slots_than_members_each_has_one_in_turn(total: int, calls: int) -> None:
    load = {member: {"a": calls, "b": calls} for member in MEMBERS}
    seen = settled(total, load, rounds=80)
    for start in (0, 20, 40):
        had = [member for grants in seen[start : start + 40] for member, n in counts(grants).items() if n]
        assert set(had) == set(MEMBERS)


@given(loads, st.integers(4, 40))
def test_what_does_not_change_moves_nothing_but_parts_of_slots(
    load: dict[str, dict[str, int]], total: int
) -> None:
    seen = settled(total, load, rounds=24)[12:]
    for member in load:
        had = [counts(grants)[member] for grants in seen]
        assert max(had) - min(had) <= 3
    moved = sum(
        max(0, counts(after)[member] - counts(before)[member])
        for before, after in pairwise(seen)
        for member in load
    )
    assert moved <= len(seen) * len(load) / 2


def test_a_little_more_load_moves_nothing() -> None:
    leader = Slots()
    grants: Mapping[str, Grant] = {}
    for extra in (0, 1, 2, 1, 0, 3):
        load = {"m": {"a": 100 + extra}, "n": {"a": 100}, "o": {"b": 200 - extra}, "p": {"b": 200}}
        grants = leader.hand_out(16, reports(load, grants))
        assert counts(grants) == dict.fromkeys("mnop", 4)


def test_members_have_slots_by_the_shares_of_those_who_wait_there() -> None:
    load = {"m": {"a": 90, "b": 50}, "n": {"a": 10, "b": 50}}
    assert counts(settled(20, load)[-1]) == {"m": 14, "n": 6}
    assert counts(settled(16, {"m": {"a": 99}, "n": {"b": 99}}, weights={"a": 3.0})[-1]) == {"m": 12, "n": 4}


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 40), min_size=1), st.integers(1, 60))
def test_shares_are_max_min_fair(calls: dict[str, int], total: int) -> None:
    weights = {tenant: 1.0 + index for index, tenant in enumerate(sorted(calls))}
    shares = max_min(total, calls, weights)
    assert abs(sum(shares.values()) - min(total, sum(calls.values()))) < 1e-6
    level = max(shares[tenant] / weights[tenant] for tenant in calls)
    for tenant, share in shares.items():
        assert share <= calls[tenant]
        assert share >= min(calls[tenant], weights[tenant] * level) - 1e-6


def test_a_tenants_weight_is_divided_so_that_it_gets_its_share_of_all_slots() -> None:
    """Three of four slots are where only a has calls beyond one: it has the rest of its two from the one place where b is."""
    load = {"m": {"a": 30, "b": 60}, "n": {"a": 30}}
    grants = settled(8, load)[-1]
    assert counts(grants) == {"m": 6, "n": 2}
    here = grants["m"].fractions["a"]
    assert abs(6 * here / (here + 1.0) - 2) < 0.05
    assert "b" not in grants["m"].fractions  # all its calls are here


def test_a_new_leader_begins_with_what_members_have() -> None:
    load = {"m": {"a": 10}, "n": {"a": 10}}
    grants = settled(4, load)[-1]
    grants = Slots().hand_out(4, reports(load, grants))
    assert counts(grants) == {"m": 2, "n": 2}
    assert all(grant.round > 12 for grant in grants.values())


def test_the_next_batch_is_sent_ahead_where_batches_are_short() -> None:
    assert slots_of(2, 8, 0.011) == 32
    assert slots_of(2, 8, 0.006) == 64
    assert slots_of(2, 8, 0.0) == 32
    assert slots_of(2, 8, 0.05) == 32
    assert slots_of(2, 1, 0.05) == 2
    assert slots_of(1, 1, 0.05) == 1
