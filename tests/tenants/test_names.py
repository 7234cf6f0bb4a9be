"""What may be a name or an id: they end up in paths, in URLs and in the audit log."""

import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants import model, tenant
from tenants.errors import Invalid
from tenants.ids import is_id, new_id
from tenants.model import Model


@pytest.mark.parametrize("name", ["a", "0", "acme", "a-1", "a" * 63])
def test_a_good_tenant_name_passes(name: str) -> None:
    tenant.check_name(name, "name")


@pytest.mark.parametrize("name", ["", "-a", "A", "a_b", "a.b", "a/b", "a\n", "ä", "a" * 64])
def test_a_bad_tenant_name_is_refused(name: str) -> None:
    with pytest.raises(Invalid) as refusal:
        tenant.check_name(name, "tenants[3]")
    assert refusal.value.path == "tenants[3]"


@pytest.mark.parametrize("name", ["a", "_", "-", "Llama-3.1_8B", "a..b", "a" * 128])
def test_a_good_model_name_passes(name: str) -> None:
    model.check_name(name, "name")


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "a/b", "a\\b", "a b", "a\n", "a%2e", "ä", "a" * 129])
def test_a_model_name_that_could_lead_out_of_the_repository_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        model.check_name(name, "name")


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
