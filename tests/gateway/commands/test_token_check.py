"""`gateway issuers check`: a real provider's tokens, over the standard input and never among the arguments."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e import warm
from tests.worlds.provider import Provider, providing

USERS = {"dora": {"email": "dora@acme.example", "email_verified": True, "roles": ["developer"]}}
Ran = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with providing(tmp_path_factory.mktemp("provider"), USERS) as found:
        yield found


@pytest.fixture
def ran(tmp_path: Path, provider: Provider) -> Ran:
    """Runs a command over a state where acme trusts the provider, with that on its standard input."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}

    def run(*words: str, given: str = "") -> tuple[int, str, str]:
        line = [warm.program(), *words, "--state", str(tmp_path / "state")]
        done = subprocess.run(
            line, input=given, env=environ, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout, done.stderr

    run("tenants", "create", "acme")
    trust = ("tenants", "trust", "acme", "--issuer", provider.issuer, "--audience", "gateway", "--insecure")
    assert run(*trust, "--roles-claim", "roles")[0] == 0
    return run


def test_a_token_of_a_real_provider_is_good_and_says_by_what(ran: Ran, provider: Provider) -> None:
    token = provider.login("dora").id_token
    code, out, err = ran("issuers", "check", "-", "--json", given=f"{token}\n")
    told = json.loads(out)
    assert (code, err, told["good"]) == (0, "", True)
    found = {it["step"]: it["found"] for it in told["steps"]}
    assert found["keys"] == f"from 127.0.0.1:{provider.port}: {len(provider.published())} can be used"
    assert found["role"].startswith("developer, by the claim 'roles'")
    code, out, err = ran("issuers", "check", "-", given=token)
    assert (code, err, out.splitlines()[-1]) == (0, "", "The gateway takes it.")
    assert "dora" not in out
    assert token.split(".")[1] not in out


def test_a_token_that_is_not_good_ends_with_1_and_says_what_to_do(ran: Ran, provider: Provider) -> None:
    token = provider.minted(provider.claims("dora", "shop"))
    code, out, _ = ran("issuers", "check", "-", given=token)
    assert (code, out.splitlines()[-1]) == (1, "The gateway does not take it.")
    assert "the token is for 'shop', and the tenant acme has 'gateway'" in out
    assert "Set the client's audience at the provider" in out
    code, out, _ = ran("issuers", "check", "-", "--operator", given=provider.login("dora").id_token)
    assert (code, "the issuer is a tenant's" in out) == (1, True)


@pytest.mark.parametrize("words", [("TOKEN",), ("-", "TOKEN")])
def test_a_token_among_the_arguments_is_refused_and_not_repeated(
    ran: Ran, provider: Provider, words: tuple[str, ...]
) -> None:
    token = provider.login("dora").id_token
    code, out, err = ran("issuers", "check", *(token if it == "TOKEN" else it for it in words))
    assert (code, out, token in err) == (64, "", False)
    assert "from the standard input" in err


def test_what_is_no_line_and_what_is_too_long_is_refused(ran: Ran) -> None:
    code, _, err = ran("issuers", "check", "-")
    assert (code, "no line with a token" in err) == (1, True)
    code, out, _ = ran("issuers", "check", "-", given="a" * 100_000)
    assert (code, "it is too long" in out) == (1, True)
