"""Commands over a real state directory: what is kept of a change, what is refused, and what to do then."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import cli
from gateway.commands import advice
from tenants.acts import Act
from tenants.directory import Directory
from tenants.errors import Conflict, InUse, NotFound, Reused, Stale, TableUnavailable, Unreadable
from tenants.issuers import id_of
from tenants.plans import Limits, Plan
from tests.e2e.world import change

PLANS = "kind: Plan\nname: {name}\nweight: 1\nlimits: {{body_bytes: 10}}\n---\n"

Told = Callable[..., Any]
Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Said:
    """Runs a command over one state: its exit code, what it printed, and what it printed as a failure."""

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([*words, "--state", str(tmp_path / "state")])
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, printed.out, printed.err

    return run


@pytest.fixture
def told(said: Said) -> Told:
    """Runs a command that must succeed; what it printed, read as JSON."""

    def run(*words: str) -> Any:
        code, out, err = said(*words, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    return run


def test_a_change_keeps_who_made_it_why_and_what_was_before_and_after(told: Told) -> None:
    told("tenants", "create", "acme")
    told("tenants", "suspend", "acme", "--reason", "bill 17")
    created, suspended = told("audit", "events", "--tenant", "acme")
    assert (created["action"], created["before"], created["reason"]) == ("tenant.created", None, "")
    assert (suspended["action"], suspended["reason"]) == ("tenant.suspended", "bill 17")
    assert (suspended["before"]["state"], suspended["after"]["state"]) == ("active", "suspended")
    assert suspended["actor"].startswith("cli:")
    assert suspended["sequence"] > created["sequence"]
    assert [it["action"] for it in told("audit", "events")] == ["plan.created"]


def test_a_reason_that_is_no_line_is_refused_before_anything_is_made(said: Said, tmp_path: Path) -> None:
    code, out, err = said("tenants", "create", "acme", "--reason", "two\nlines")
    assert (code, out) == (1, "")
    assert "reason" in err
    assert not (tmp_path / "state").exists()


def test_a_tenant_is_closed_after_a_while_or_at_once(told: Told) -> None:
    made = told("tenants", "create", "acme")
    closing = told("tenants", "close", "acme", "--after", "7d")
    assert (closing["id"], closing["state"]) == (made["id"], "closing")
    assert told("tenants", "show", "acme")["closes"] == closing["closes"]
    assert told("tenants", "list")[0]["state"] == "closing"
    assert told("tenants", "reopen", "acme") == made
    assert told("tenants", "close", "acme") == {"name": "acme", "id": made["id"], "state": "closed"}


def test_where_a_tenant_and_a_key_stand_is_judged_by_the_clock_and_not_by_what_is_stored(
    told: Told, tmp_path: Path
) -> None:
    async def long_ago(directory: Directory) -> None:
        await directory.values.put(Plan("team", 1, Limits(10)), act=Act("test", 1))
        await directory.tenants.create("acme", "team", Act("test", 1))
        await directory.keys.create("acme", Act("test", 1), expires_us=2)
        await directory.tenants.do("acme", "close", Act("test", 1), closes_us=2)
        stored = await directory.tenants.show("acme")
        assert stored.state == "closing"

    change(tmp_path / "state", long_ago)
    assert [it["state"] for it in told("tenants", "list")] == ["closed"]
    assert told("tenants", "show", "acme")["state"] == "closed"
    assert [it["state"] for it in told("keys", "list", "--tenant", "acme")] == ["expired"]


def test_a_key_is_told_with_its_account_and_its_successor(told: Told) -> None:
    told("tenants", "create", "acme")
    account = told("accounts", "create", "ci", "--tenant", "acme", "--role", "developer")
    key = told("keys", "create", "--tenant", "acme", "--account", account["id"])
    after = told("keys", "rotate", key["id"], "--tenant", "acme")
    shown = told("keys", "show", key["id"], "--tenant", "acme")
    assert (shown["account"], shown["successor"], shown["state"]) == (account["id"], after["id"], "rotating")
    assert [it["id"] for it in told("keys", "list", "--tenant", "acme")] == [key["id"], after["id"]]


def test_models_that_are_named_by_an_empty_text_are_not_all_models(told: Told, said: Said) -> None:
    told("tenants", "create", "acme")
    code, out, err = said("keys", "create", "--tenant", "acme", "--models", "")
    assert (code, out) == (1, "")
    assert "models[0]" in err
    assert told("keys", "list", "--tenant", "acme") == []


def test_only_documents_of_the_kind_are_put_and_all_of_a_file_or_none(
    told: Told, said: Said, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed.yaml"
    mixed.write_text(PLANS.format(name="a") + "kind: Fleet\nname: local\n")
    code, out, err = said("plans", "put", "-f", str(mixed))
    assert (code, out) == (1, "")
    assert f"{mixed}:6: kind: must be Plan here" in err
    many = tmp_path / "many.yaml"
    many.write_text("".join(PLANS.format(name=f"p{number}") for number in range(9)))
    code, out, err = said("plans", "put", "-f", str(many))
    assert (code, out) == (1, "")
    assert "9 documents" in err
    assert "apply" in err
    broken = tmp_path / "broken.yaml"
    broken.write_text(PLANS.format(name="a") + PLANS.format(name="No Name"))
    assert said("plans", "put", "-f", str(broken))[0] == 1
    assert told("plans", "list") == []
    broken.write_text(PLANS.format(name="a") + PLANS.format(name="b"))
    assert told("plans", "put", "-f", str(broken)) == [{"kind": "Plan", "name": it} for it in "ab"]
    assert [plan["name"] for plan in told("plans", "list")] == ["a", "b"]


ACME = ("--issuer", "https://login.acme.example", "--audience", "gateway")
ISSUER = 'kind: Issuer\nissuer: "https://i{number}.example"\naudience: gateway\ntenant_claim: tenant\n---\n'


def test_an_issuer_is_added_replaced_and_taken_away_and_the_others_stay(told: Told, said: Said) -> None:
    told("tenants", "create", "acme")
    other = (*ACME[:3], "else")
    told("tenants", "trust", "acme", *other, "--insecure")
    told("tenants", "trust", "acme", *ACME)
    roles = ("--roles-claim", "groups", "--role", "a=admin", "--role", "b=c=viewer")
    put = told("tenants", "trust", "acme", *ACME, *roles, "--jwks-url", "https://keys.acme.example/jwks")
    assert put == told("tenants", "issuers", "acme")
    assert [(it["audience"], it["insecure"], it["roles"]) for it in put] == [
        ("else", True, None),
        ("gateway", False, {"a": "admin", "b=c": "viewer"}),
    ]
    assert put[1]["jwks_url"] == "https://keys.acme.example/jwks"
    assert [it["audience"] for it in told("tenants", "distrust", "acme", *ACME)] == ["else"]
    code, out, err = said("tenants", "distrust", "acme", *ACME)
    assert (code, out) == (1, "")
    assert "tenants issuers NAME" in err
    assert said("tenants", "trust", "acme", *ACME, "--role", "admin")[0] == 64
    assert said("tenants", "trust", "acme", *ACME, "--role", "a=operator")[0] == 64


def test_shared_issuers_are_put_a_few_at_once_and_called_by_their_url_or_id(
    told: Told, said: Said, tmp_path: Path
) -> None:
    file = tmp_path / "issuers.yaml"
    file.write_text("".join(ISSUER.format(number=number) for number in range(6)))
    assert "5 can be put at once" in said("issuers", "put", "-f", str(file))[2]
    file.write_text("".join(ISSUER.format(number=number) for number in range(5)))
    assert len(told("issuers", "put", "-f", str(file))) == 5
    first = told("issuers", "show", "https://i0.example")
    assert told("issuers", "show", id_of("https://i0.example")) == first
    assert (first["kind"], first["tenant_claim"]) == ("Issuer", "tenant")
    told("issuers", "delete", "https://i0.example")
    assert "issuers list" in said("issuers", "show", "https://i0.example")[2]
    assert len(told("issuers", "list")) == 4


def test_a_part_of_a_list_is_continued_behind_its_last(told: Told, said: Said) -> None:
    for name in ("acme", "beta", "gamma"):
        told("tenants", "create", name)
    code, out, err = said("tenants", "list", "--limit", "2", "--json")
    assert (code, [it["name"] for it in json.loads(out)]) == (0, ["acme", "beta"])
    assert err == "gateway: there is more: --after beta\n"
    assert [it["name"] for it in told("tenants", "list", "--limit", "2", "--after", "beta")] == ["gamma"]
    assert [it["action"] for it in told("audit", "events", "--tenant", "beta")] == ["tenant.created"]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("members show u_00000000000000000000 --tenant acme", "members list --tenant"),
        ("members remove u_00000000000000000000 --tenant nobody", "tenants list"),
        ("accounts change ci --tenant acme --role viewer", "accounts list --tenant"),
        ("keys revoke k_00000000000000000000 --operator", "keys list --tenant"),
        ("plans delete gold", "apply -f"),
        ("fleet show gpu", "apply -f"),
        ("models list --tenant nobody", "tenants list"),
        ("audit events --tenant nobody", "tenants list"),
        ("plans delete demo", "tenants move"),
    ],
)
def test_a_refusal_says_what_to_do(told: Told, said: Said, words: str, what: str) -> None:
    told("tenants", "create", "acme")
    code, out, err = said(*words.split())
    assert (code, out) == (1, "")
    assert what in err
    assert err.startswith("gateway: ")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (InUse("plan", "team", "tenants"), "tenants move"),
        (InUse("fleet", "local", "the model 'digits'"), "models put"),
        (Stale("plan", "team"), "decide again"),
        (TableUnavailable(), "look at what is there"),
        (Unreadable("a row"), "restore FROM"),
        (NotFound("member", "u_1"), "members list"),
        (NotFound("what nobody knows", "x"), ""),
    ],
    ids=repr,
)
def test_there_is_advice_where_the_sentence_has_none(fault: Any, words: str) -> None:
    assert words in advice.of_refusal(fault)


@pytest.mark.parametrize("fault", [Conflict(), Reused()], ids=repr)
def test_a_sentence_that_says_what_to_do_gets_no_more(fault: Any) -> None:
    assert advice.of_refusal(fault) == ""
