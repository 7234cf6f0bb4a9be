"""What is printed, and when: lists of any length come as they are read, and programs get what they always got."""

import argparse
import json
from collections.abc import Callable

import pytest

from gateway.commands.printing import card, show, show_all
from tenants.directory import Page


def given(**more: object) -> argparse.Namespace:
    return argparse.Namespace(**{"json": False, "after": None, "limit": None, **more})


class Numbers:
    """A listing of the numbers below `many`, from the highest down; it notes what was asked, and what was printed before that."""

    def __init__(self, many: int, printed: Callable[[], str] = lambda: "") -> None:
        self.many = many
        self.asked: list[tuple[str | None, int]] = []
        self.printed_before: list[str] = []
        self._printed = printed

    async def __call__(self, after: str | None, limit: int) -> Page[int]:
        self.asked.append((after, limit))
        self.printed_before.append(self._printed())
        first = self.many - 1 if after is None else int(after) - 1
        last = max(first - limit, -1)
        return Page(tuple(range(first, last, -1)), None if last < 0 else str(last + 1))


def row(number: int) -> dict[str, object]:
    return {"number": number, "twice": f"{number * 2}"}


async def test_a_long_list_is_printed_page_by_page_and_never_held(capsys: pytest.CaptureFixture[str]) -> None:
    listing = Numbers(2500, lambda: capsys.readouterr().out)
    assert await show_all(given(), listing, row) == 0
    assert listing.asked == [(None, 1000), ("1500", 1000), ("500", 1000)]
    first, second = listing.printed_before[1:]
    assert first.splitlines()[:2] == ["NUMBER  TWICE", "2499    4998"]
    assert len(first.splitlines()) == 1001
    assert len(second.splitlines()) == 1000
    assert len(capsys.readouterr().out.splitlines()) == 500


async def test_a_long_list_for_programs_is_one_array(capsys: pytest.CaptureFixture[str]) -> None:
    await show_all(given(json=True), Numbers(2500), row)
    printed = capsys.readouterr().out
    assert printed == json.dumps([row(number) for number in range(2499, -1, -1)]) + "\n"


async def test_nothing_is_none_for_people_and_an_empty_array_for_programs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    await show_all(given(), Numbers(0), row)
    await show_all(given(json=True), Numbers(0), row)
    assert capsys.readouterr().out == "none\n[]\n"


async def test_a_list_that_fits_in_one_page_has_its_own_order_and_a_longer_one_that_of_the_pages(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for many, first in ((1000, 0), (1001, 1000)):
        await show_all(given(json=True), Numbers(many), row, first=lambda number: number)
        assert json.loads(capsys.readouterr().out)[0]["number"] == first


async def test_a_part_of_a_list_says_where_the_next_part_begins(capsys: pytest.CaptureFixture[str]) -> None:
    listing = Numbers(30)
    await show_all(given(limit=20, json=True), listing, row, first=lambda number: number)
    printed = capsys.readouterr()
    assert [it["number"] for it in json.loads(printed.out)] == list(range(29, 9, -1))
    assert printed.err == "gateway: there is more: --after 10\n"
    await show_all(given(limit=20, after="10", json=True), listing, row, first=lambda number: number)
    printed = capsys.readouterr()
    assert [it["number"] for it in json.loads(printed.out)] == list(range(9, -1, -1))
    assert printed.err == ""
    assert listing.asked == [(None, 20), ("10", 20)]


async def test_pages_that_are_short_or_empty_end_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    async def listing(after: str | None, limit: int) -> Page[int]:
        assert limit in (3, 2, 1)
        return {None: Page((), "a"), "a": Page((1,), "b"), "b": Page((), "c"), "c": Page((2, 3), "d")}[after]

    await show_all(given(limit=3, json=True), listing, row)
    assert [it["number"] for it in json.loads(capsys.readouterr().out)] == [1, 2, 3]


def test_all_of_one_thing_is_a_line_for_each_field(capsys: pytest.CaptureFixture[str]) -> None:
    thing = {"name": "a", "limits": {"rate": {"burst": 2}, "none": None}, "tags": ["x"], "empty": ""}
    card(thing, given())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["name", "a"],
        ["limits.rate.burst", "2"],
        ["limits.none", "none"],
        ["tags", '["x"]'],
        ["empty"],
    ]
    card(thing, given(json=True))
    show(thing, given(json=True))
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [thing, thing]
