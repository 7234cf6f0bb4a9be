"""What is remembered of tokens, and that each change drops all that it concerns and nothing of anybody else's."""

from collections.abc import Mapping

import pytest

from gateway.auth.key_sets import Source
from gateway.auth.principal import Principal
from gateway.auth.trust import Trust
from gateway.authz.cedar import Subject
from tenants.directory.issuers import Belonging, Trusted
from tenants.issuers import TenantIssuer, id_of
from tenants.plans import Limits, Plan
from tenants.tenant import Tenant

ACME, GLOBEX = "t_acme", "t_globex"
PLANS = {ACME: "team", GLOBEX: "big"}
URLS = {ACME: "https://login.acme.example", GLOBEX: "https://login.globex.example"}


def principal(tenant_id: str, number: int = 0) -> Principal:
    subject = Subject(f"p_{number}", tenant_id, tenant_id[2:], "active", PLANS[tenant_id], None)
    plan = Plan(PLANS[tenant_id], 1, Limits(1))
    return Principal(
        f"p_{number}",
        "",
        tenant_id,
        tenant_id[2:],
        plan,
        subject,
        None,
        source=Source(URLS[tenant_id], None, insecure=False),
    )


def full() -> Trust:
    """A token, the issuer and the tenant of acme, and of globex."""
    trust = Trust()
    for tenant_id, url in URLS.items():
        trust.learn_token(f"token of {tenant_id}", principal(tenant_id))
        trust.learn_issuers(url, (Trusted(TenantIssuer(url, "gateway"), tenant_id),))
        owner = Tenant(tenant_id, tenant_id[2:], PLANS[tenant_id], "active", 1)
        trust.learn_tenant(tenant_id, Belonging(owner, Plan(PLANS[tenant_id], 1, Limits(1)), {}))
    return trust


def held(trust: Trust) -> set[str]:
    found = {f"token of {it}" for it in URLS if trust.token(f"token of {it}")}
    found |= {f"issuer of {it}" for it, url in URLS.items() if trust.issuers(url)}
    return found | {f"tenant {it}" for it in URLS if trust.tenant(it)}


ALL = held(full())
ISSUERS, TENANTS = {"issuer of t_acme", "issuer of t_globex"}, {"tenant t_acme", "tenant t_globex"}


@pytest.mark.parametrize(
    ("subjects", "left"),
    [
        ({"tenant": {ACME}}, {"token of t_globex", "tenant t_globex"} | ISSUERS),
        ({"people": {GLOBEX}, "member": {"u_1"}}, {"token of t_acme", "tenant t_acme"} | ISSUERS),
        ({"plan": {"team"}}, {"token of t_globex", "tenant t_globex"} | ISSUERS),
        ({"issuer": {ACME}}, {"token of t_globex"} | TENANTS),
        ({"issuer": {id_of(URLS[GLOBEX])}}, {"token of t_acme"} | TENANTS),
        ({"key": {"k_1"}, "account": {"s_1"}, "model": {"m_1"}, "fleet": {"local"}}, ALL),
        ({"documents": {"head"}}, ALL - ISSUERS),
    ],
)
def test_a_change_drops_what_it_concerns(subjects: Mapping[str, set[str]], left: set[str]) -> None:
    trust = full()
    trust.concerned(subjects)
    assert held(trust) == left


def test_other_keys_of_an_issuer_drop_its_tokens_alone() -> None:
    trust = full()
    trust.rekeyed(Source(URLS[ACME], "https://elsewhere.example/keys", insecure=False))
    assert held(trust) == ALL
    trust.rekeyed(Source(URLS[ACME], None, insecure=False))
    assert held(trust) == ALL - {"token of t_acme"}


def test_who_is_behind_knows_nothing() -> None:
    trust = full()
    trust.empty()
    assert held(trust) == set()
    assert len(trust) == 0


def test_a_tenant_with_many_tokens_drives_out_its_own_alone() -> None:
    trust = Trust(most_tokens=100, most_of_one=10)
    trust.learn_token("quiet", principal(GLOBEX))
    for number in range(1_000):
        trust.learn_token(f"loud {number}", principal(ACME, number))
    assert trust.token("quiet")
    assert [n for n in range(1_000) if trust.token(f"loud {n}")] == list(range(990, 1_000))
    assert (len(trust), trust.dropped) == (11, 990)


def test_all_tokens_together_are_bounded_and_the_oldest_goes() -> None:
    trust = Trust(most_tokens=3, most_of_one=3)
    for number, tenant_id in enumerate((ACME, GLOBEX, ACME, GLOBEX)):
        trust.learn_token(f"{number}", principal(tenant_id, number))
    assert [n for n in range(4) if trust.token(f"{n}")] == [1, 2, 3]


def test_a_token_that_is_verified_twice_counts_once() -> None:
    trust = Trust(most_tokens=2, most_of_one=2)
    for _ in range(5):
        trust.learn_token("same", principal(ACME))
    trust.learn_token("other", principal(ACME, 1))
    assert trust.token("same")
    assert trust.token("other")
    trust.concerned({"tenant": {ACME}})
    assert len(trust) == 0


def test_a_token_that_was_one_tenants_and_is_anothers_goes_with_the_other_alone() -> None:
    trust = Trust()
    trust.learn_token("moved", principal(ACME))
    trust.learn_token("moved", principal(GLOBEX))
    trust.concerned({"tenant": {ACME}})
    assert trust.token("moved")
    trust.concerned({"tenant": {GLOBEX}})
    assert (trust.token("moved"), len(trust), trust.dropped) == (None, 0, 1)


def test_a_token_that_is_verified_again_is_the_last_to_go() -> None:
    trust = Trust(most_tokens=2, most_of_one=2)
    for digest in ("first", "second", "first", "third"):
        trust.learn_token(digest, principal(ACME))
    assert [it for it in ("first", "second", "third") if trust.token(it)] == ["first", "third"]


def test_the_issuers_and_tenants_that_are_known_are_bounded_and_the_longest_unused_goes() -> None:
    trust, url = full(), URLS[ACME]
    (issuer,) = trust.issuers(url) or ()
    belonging = trust.tenant(ACME)
    assert belonging is not None
    for number in range(1_500):
        trust.learn_issuers(f"https://login.s{number}.example", (issuer,))
        trust.learn_tenant(f"t_{number}", belonging)
        assert trust.issuers(url)
        assert trust.tenant(ACME)
    assert [trust.issuers("https://login.s499.example"), trust.tenant("t_499")] == [None, None]
    assert trust.issuers("https://login.s1499.example")
    assert trust.tenant("t_1499")
