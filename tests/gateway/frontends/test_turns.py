"""However much a tenant asks for, another waits for one job of each other tenant at most."""

import random

import pytest

from gateway.frontends.turns import MOST_TENANTS, MOST_WAITING, Turns

THREADS = 2


@pytest.mark.parametrize("seed", range(20))
def test_a_flood_of_one_tenant_costs_another_one_turn(seed: int) -> None:
    """Jobs end in any order. Counted is how many jobs of others begin between a job's becoming its tenant's next and its own beginning."""
    rng = random.Random(seed)
    tenants = [f"flood{number}" for number in range(rng.randint(1, 5))] + ["quiet"]
    turns: Turns[int] = Turns()
    under_way: list[str] = []
    waited: int | None = None
    begun = refused = 0
    for step in range(3000):
        for tenant in tenants[:-1]:
            while turns.add(tenant, step):
                pass
            refused += 1
        if waited is None and "quiet" not in under_way and rng.random() < 0.2:
            assert turns.add("quiet", step)
            waited = 0
        while len(under_way) < THREADS and (taken := turns.take()) is not None:
            tenant, _ = taken
            assert tenant not in under_way, "two of a tenant are under way at once"
            under_way.append(tenant)
            if tenant == "quiet":
                begun, waited = begun + 1, None
            elif waited is not None:
                waited += 1
                assert waited <= len(tenants) - 1, "a tenant had two turns before another had one"
        assert len(under_way) == min(THREADS, len(tenants)) or waited is None, (
            "a thread idles while jobs may begin"
        )
        turns.end(under_way.pop(rng.randrange(len(under_way))))
    assert begun > 100
    assert refused


def test_turns_among_equals_are_even() -> None:
    turns: Turns[int] = Turns()
    for tenant in "abc":
        for number in range(MOST_WAITING):
            assert turns.add(tenant, number)
    order = []
    while (taken := turns.take()) is not None:
        turns.end(taken[0])
        order.append(taken)
    assert order == [(tenant, number) for number in range(MOST_WAITING) for tenant in "abc"]


def test_no_more_wait_than_are_told() -> None:
    turns: Turns[int] = Turns()
    assert [turns.add("a", 0) for _ in range(MOST_WAITING + 1)].count(True) == MOST_WAITING
    others = [turns.add(f"other{number}", 0) for number in range(MOST_TENANTS)]
    assert others.count(True) == MOST_TENANTS - 1


def test_what_nobody_waits_for_does_not_begin_and_makes_room() -> None:
    turns: Turns[int] = Turns()
    for number in range(MOST_WAITING):
        turns.add("a", number)
    turns.drop("a", 0)
    assert turns.add("a", 99)
    assert turns.take() == ("a", 1)
    turns.drop("a", 1)
    assert turns.take() is None, "it is under way, dropped or not"
    turns.drop("b", 1)
    for number in (*range(2, MOST_WAITING), 99):
        turns.drop("a", number)
    turns.end("a")
    assert turns.take() is None
