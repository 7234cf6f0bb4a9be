"""What may be a name or an id: they end up in paths, in URLs and in the audit log."""

import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants import customer, fleet, model, names, plans, tenant
from tenants.acts import Act
from tenants.customer import TenantDocument
from tenants.directory import Directory
from tenants.errors import Invalid
from tenants.fleet import Fleet
from tenants.ids import is_id, new_id
from tenants.model import Model
from tenants.names import Names
from tenants.plans import Limits, Plan
from tests.tenants.conftest import BY, NOW


@pytest.mark.parametrize("name", ["a", "0", "acme", "a-1", "a" * 63])
def test_a_good_tenant_name_passes(name: str) -> None:
    names.TENANT.check(name, "name")


@pytest.mark.parametrize("name", ["", "-a", "A", "a_b", "a.b", "a/b", "a\n", "ä", "a" * 64])
def test_a_bad_tenant_name_is_refused(name: str) -> None:
    with pytest.raises(Invalid) as refusal:
        names.TENANT.check(name, "tenants[3]")
    assert refusal.value.path == "tenants[3]"


@pytest.mark.parametrize("name", ["a", "_", "-", "Llama-3.1_8B", "a..b", "a" * 128])
def test_a_good_model_name_passes(name: str) -> None:
    names.MODEL.check(name, "name")


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "a/b", "a\\b", "a b", "a\n", "a%2e", "ä", "a" * 129])
def test_a_model_name_that_could_lead_out_of_the_repository_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        names.MODEL.check(name, "name")


LABELS = (names.TENANT, names.PLAN, names.FLEET, names.SERVICE_ACCOUNT, names.TAG)


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("a", True),
        ("demo", True),
        ("a" * 63, True),
        ("", False),
        ("A", False),
        ("-a", False),
        ("a" * 64, False),
    ],
)
def test_what_ends_up_in_urls_has_one_form(kind: Names, name: str, good: bool) -> None:  # noqa: FBT001
    assert (not list(kind.faults(name, "name"))) == good


@pytest.mark.parametrize(
    "name", ["a@b", "Ann.Lee+x@acme.example", "ä@acme.example", f"{'a' * 241}@acme.example"]
)
def test_an_address_that_mail_may_reach_passes(name: str) -> None:
    names.MEMBER.check(name, "email")


@pytest.mark.parametrize(
    "name",
    [
        *("", "a", "@b", "a@", "ab", "a@b@c", "a b@c", "a@b c", " a@b", "a@b\n", "a\t@b", "a\0@b"),
        *("a\u00a0b@c", "a\u202e@b", "a\u200b@b", f"{'a' * 242}@acme.example"),
    ],
)
def test_what_is_no_address_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="email address"):
        names.MEMBER.check(name, "email")


@pytest.mark.parametrize("name", ["", "ci", "for the nightly job (Ann)", "a" * 64])
async def test_a_key_may_be_called_anything_that_can_be_shown(acme: Directory, name: str) -> None:
    names.KEY.check(name, "name")
    assert (await acme.keys.create("acme", name=name, act=Act(BY, NOW))).key.name == name


@pytest.mark.parametrize("name", ["a\n", "a\0", "a\x1b[31m", "\u202ea", "a" * 65])
async def test_a_key_is_called_nothing_that_cannot_be_shown(acme: Directory, name: str) -> None:
    with pytest.raises(Invalid):
        names.KEY.check(name, "name")
    with pytest.raises(Invalid):
        await acme.keys.create("acme", name=name, act=Act(BY, NOW))


# Words that are kept back


@pytest.mark.parametrize("name", sorted(names.TENANT.reserved))
def test_no_new_tenant_is_taken_for_somebody_else_and_one_that_is_there_is_found(name: str) -> None:
    with pytest.raises(Invalid, match="a word of the gateway's own"):
        names.TENANT.check_new(name, "name")
    assert list(customer.faults(TenantDocument(name, "team"))) == []
    names.TENANT.check(name, "name")
    names.TENANT.check(name, "tenant")
    assert list(model.faults(Model("m_1", "digits", "/m", (name,)))) == []


def test_a_word_that_is_kept_back_could_be_a_name_else() -> None:
    assert {"operator", "system", "audit"} <= names.TENANT.reserved
    assert not [name for name in names.TENANT.reserved if list(names.TENANT.faults(name, ""))]


@pytest.mark.parametrize("name", ["demo", "operatoren", "acme-admin", "all-hands"])
def test_a_word_that_only_holds_one_of_them_is_free(name: str) -> None:
    names.TENANT.check_new(name, "name")


@pytest.mark.parametrize("name", ["admin", "public"])
def test_what_is_kept_from_tenants_others_may_have(name: str) -> None:
    assert list(fleet.faults(Fleet(name))) == list(plans.faults(Plan(name, 1, Limits(1)))) == []


def test_a_model_serves_the_tenants_that_it_names_and_no_other() -> None:
    assert Model("m_1", "digits", "models", "*").serves("acme")
    assert Model("m_1", "digits", "models", ("acme", "beta")).serves("beta")
    assert not Model("m_1", "digits", "models", ("acme",)).serves("acm")
    assert not Model("m_1", "digits", "models", ()).serves("acme")


def test_a_closed_tenant_stays_closed() -> None:
    assert {after for (before, _), after in tenant.NEXT.items() if before == "closed"} == {"closed"}
    assert {*tenant.NEXT.values()} == {*get_args(tenant.State)}


@given(st.sampled_from("tkme"), st.binary(min_size=24, max_size=24))
def test_an_id_has_its_form(prefix: str, random: bytes) -> None:
    made = new_id(prefix, random)
    assert re.fullmatch(rf"{prefix}_[0-9a-z]{{20}}", made)
    assert is_id(made)
    assert not any(is_id(other) for other in (made[:-1], made + "0", made + "\n", made.upper()))


def test_an_id_is_not_made_from_too_little_randomness() -> None:
    with pytest.raises(ValueError, match="random bytes"):
        new_id("t", bytes(23))
