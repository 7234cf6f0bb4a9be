# ruff: noqa: RUF001 - letters of many scripts are meant
"""What is found in a text, what is not, and that no text takes long."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.privacy import cards, detect, emails, ibans, phones, plain, runs
from gateway.privacy.detect import find
from gateway.privacy.national_ids import LETTERED
from tenants.privacy import KINDS, Kind
from tests.work import Sliced, calls, looks_far

REGIONS = ("US", "DE", "FR", "GB", "ES")

FOUND = [
    ("email", "Write to {jane.doe+tag@example.co.uk}."),
    ("email", "请联系{foo@bar.com}。"),
    ("email", "{josé.garcía@exämple.de} and"),
    ("email", 'from {"john doe"@example.com}'),
    ("email", "?email={bob@example.org}&x=1"),
    ("phone", "call {+1 (415) 555-2671} now"),
    ("phone", "Ruf mich an: {0171/2345678}"),
    ("phone", "tél. {06 12 34 56 78}"),
    ("phone", "電話：{＋８１ ９０ １２３４ ５６７８}"),
    ("payment_card", "card {4111 1111 1111 1111} exp 12/27 123"),
    ("payment_card", "card {4111\u00a01111\u00a01111\u00a01111}"),
    ("payment_card", "card {41\u00ad11111111111111}"),
    ("payment_card", "{378282246310005}"),
    ("iban", "pay {DE89 3704 0044 0532 0130 00} and more"),
    ("iban", "{gb29nwbk60161331926819}"),
    ("national_id", "SSN {123-45-6789}"),
    ("national_id", "NINO {AB 12 34 56 C}"),
    ("national_id", "NHS no. {943 476 5870}"),
    ("national_id", "Steuer-ID: {86095742719}"),
    ("national_id", "NIR {2 95 10 99 126 111 93}"),
    ("national_id", "DNI {12345678Z}"),
    ("national_id", "身份证号{110101199003074477}"),
    ("national_id", '{{"bsn": "{111222333}"}}'),
    ("national_id", "hetu {131052-308T}"),
    ("national_id", "CPF {529.982.247-25}"),
]
NOTHING = [
    "card 4111 1111 1111 1112",
    "order number 4111111111111111",
    "DE89 3704 0044 0532 0130 01",
    "SSN 000-12-3456",
    "order 123-45-6789",
    "PESEL 44051401358",
    "DNI 12345678A",
    "on 2024-01-15, 15.01.2024 or 2024 01 15",
    "192.168.100.200 and 1.2.3.4",
    "37.774929, -122.419416",
    "550e8400-e29b-41d4-a716-446655440000",
    "git@github.com:org/repo.git",
    "@app.route('/x') @scope/package user@host",
    "logo@2x.png",
    "https://user:pass@example.com/x",
    "q@k.transpose(-2, -1)",
    "total 1.234.567 EUR",
    "111222333",
]


@pytest.mark.parametrize(("kind", "marked"), FOUND)
def test_personal_data_is_found_where_it_stands(kind: str, marked: str) -> None:
    marked = marked.replace("{{", "\x00").replace("}}", "\x01")
    before, rest = marked.split("{")
    value, after = rest.split("}")
    text = (before + value + after).replace("\x00", "{").replace("\x01", "}")
    assert [(span.kind, text[span.start : span.end]) for span in find(text, KINDS, REGIONS)] == [
        (kind, value)
    ]


@pytest.mark.parametrize("text", NOTHING)
def test_what_only_looks_like_personal_data_is_left(text: str) -> None:
    assert find(text, KINDS, REGIONS) == []


def test_national_numbers_count_only_in_the_regions_that_are_given() -> None:
    assert find("tél. 06 12 34 56 78", KINDS) == []
    assert find("tél. 06 12 34 56 78", KINDS, ("FR",)) != []


def test_a_kind_that_is_not_asked_for_is_not_found() -> None:
    text = "a@example.com +49 30 901820 4111111111111111 DE89370400440532013000 SSN 123-45-6789"
    assert {span.kind for span in find(text, KINDS)} == set(KINDS)
    for kind in KINDS:
        assert {span.kind for span in find(text, (kind,))} == {kind}


@given(st.text() | st.text(alphabet="0123456789 +-./()@aZX\u00ad１\n", max_size=80))
def test_spans_lie_in_the_text_in_order_and_do_not_overlap(text: str) -> None:
    done = 0
    for span in find(text, KINDS, REGIONS):
        assert done <= span.start < span.end <= len(text)
        done = span.end


HOSTILE = [
    *(
        "a@",
        "@",
        "a.a@a.",
        "1",
        "1 ",
        "12 ",
        "1-",
        "1   ",
        "0123 4567 ",
        "4111111111111111 ",
        "4111111111111111 0171 2345678 ",
        "DE89 3704 0044 0532 0130 01 ",
    ),
    *(
        "A1",
        "+1",
        "+",
        "(1",
        "1\u00ad",
        "１",
        "１　",
        '"a',
        "AB 12 34 56 ",
        "2024-01-15 10:20 ",
        "ssh a@b.cd ",
        "a@b.cd:",
        "a@b.cd/b.",
        "tel order ",
        "0100 ",
        "+1.000 ",
        "1.000.",
        "[EMAIL_1]",
    ),
]


PASSED = {"runs._RUN", "runs._GROUP"}
"""What one of these has found is passed over, so that no character is looked at for a second one."""


@pytest.mark.parametrize("piece", HOSTILE)
def test_work_grows_with_the_length_of_a_hostile_text_and_no_faster(piece: str) -> None:
    def work(length: int) -> tuple[int, int, int]:
        text, steps = Sliced((piece * length)[:length]), list[int]()
        made = calls(lambda: find(text, KINDS, REGIONS, steps.append))
        return made, text.characters, sum(steps)

    find(piece * 1000, KINDS, REGIONS)  # what is loaded once
    for short, long in zip(work(1_000), work(8_000), strict=True):
        assert long <= 10 * short + 100  # eight times as long; squared would be 64 times


def test_no_expression_looks_from_each_of_many_places_at_all_that_is_left_of_a_text() -> None:
    """Those of `words` are given a window, which is cut out of the text."""
    rooms = (cards, detect, emails, ibans, phones, plain, runs)
    found = {
        f"{room.__name__.rpartition('.')[2]}.{name}": value
        for room in rooms
        for name, value in vars(room).items()
        if isinstance(value, re.Pattern)
    }
    assert len(found) > len(rooms)
    assert {name for name, value in found.items() if looks_far(value)} == PASSED
    assert not any(looks_far(one.written) for one in LETTERED)


@pytest.mark.parametrize(
    ("expression", "far"),
    [("a*", True), ("[a]+b", True), ("(?:ab){2,}", True), (r"[*+]{1,9}\+\*[^]+]?", False), (r"\[a*", True)],
)
def test_a_repeat_without_a_bound_is_seen(expression: str, far: bool) -> None:  # noqa: FBT001 - a column of the table
    assert looks_far(re.compile(expression)) is far


def test_each_country_that_shares_a_code_is_counted_as_a_look() -> None:
    looks: list[int] = []
    phone: tuple[Kind, ...] = ("phone",)
    find("001 " * 100, phone, (), looks.append)
    assert sum(looks) > 100 * 100  # of +1 there are 25, and four lengths are tried from each group
