"""Nobody gives more than they are bound to themselves."""

import pytest

from tenants import hours
from tenants.conditions import UNBOUND, KeyLimits, Terms
from tenants.plans import Rate

OFFICE = Terms(
    ("192.0.2.0/24",),
    hours.read("mon-fri 08:00-18:00 Europe/Berlin"),
    KeyLimits(Rate(5.0, 10), 2),
)


@pytest.mark.parametrize(
    ("terms", "within"),
    [
        (OFFICE, True),
        (UNBOUND, False),
        (
            Terms(("192.0.2.7/32",), hours.read("mon 08:00-09:00 Europe/Berlin"), KeyLimits(Rate(1, 10), 1)),
            True,
        ),
        (Terms(None, OFFICE.hours, OFFICE.limits), False),
        (Terms(OFFICE.networks, None, OFFICE.limits), False),
        (Terms(OFFICE.networks, OFFICE.hours, None), False),
        (Terms(("0.0.0.0/0",), OFFICE.hours, OFFICE.limits), False),
        (Terms(OFFICE.networks, hours.read("sat 08:00-09:00 Europe/Berlin"), OFFICE.limits), False),
        (Terms(OFFICE.networks, OFFICE.hours, KeyLimits(Rate(5.1, 10), 2)), False),
        (Terms(OFFICE.networks, OFFICE.hours, KeyLimits(Rate(5.0, 11), 2)), False),
        (Terms(OFFICE.networks, OFFICE.hours, KeyLimits(Rate(5.0, 10), 3)), False),
        (Terms(OFFICE.networks, OFFICE.hours, KeyLimits(None, 2)), False),
        (Terms(OFFICE.networks, OFFICE.hours, KeyLimits(Rate(5.0, 10), None)), False),
    ],
)
def test_terms_are_within_others_when_nothing_works_that_would_not_there(terms: Terms, within: bool) -> None:  # noqa: FBT001
    assert terms.are_within(OFFICE) == within
    assert terms.are_within(UNBOUND)


def test_terms_that_cannot_be_read_are_within_none() -> None:
    assert not Terms(("nonsense",)).are_within(Terms(("0.0.0.0/0",)))


def test_each_fault_of_terms_has_its_place() -> None:
    wrong = Terms(("192.0.2.1/24",), hours.Hours((), "UTC"), KeyLimits())
    assert [it.path for it in wrong.faults()] == ["networks[0]", "hours.windows", "limits"]
