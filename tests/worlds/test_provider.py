"""The provider keeps the contract that it stands for, and its keys, its counts and its ends are what they say."""

import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.worlds.provider import DISCOVERY, JWKS, Algorithm, Client, Provider, Refused, providing

USERS = {
    "dora": {"email": "dora@acme.example", "email_verified": True, "roles": ["developer"], "tenant": "acme"},
    "una": {"email": "una@acme.example", "email_verified": False},
}
CLIENTS = {
    "gateway": Client(claims={"aud": "gateway", "roles": ["developer"]}),
    "es": Client("ES256"),
    "ed": Client("EdDSA"),
}


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """One that every test may use, and whose keys any may rotate."""
    with providing(tmp_path_factory.mktemp("provider"), USERS, CLIENTS) as provider:
        yield provider


def kid(token: str) -> str:
    said: str = jwt.get_unverified_header(token)["kid"]
    return said


def kids(provider: Provider) -> list[str]:
    return [key["kid"] for key in provider.published()]


def verified(token: str, provider: Provider, audience: str = "gateway") -> Mapping[str, Any]:
    """What it says, by PyJWT and the published key of its kid."""
    header = jwt.get_unverified_header(token)
    (key,) = [key for key in provider.published() if key["kid"] == header["kid"]]
    algorithm = header["alg"]
    said: dict[str, Any] = jwt.decode(
        token,
        jwt.PyJWK(key, algorithm).key,
        [algorithm],
        audience=audience,
        issuer=provider.issuer,
        options={"require": ["iss", "aud", "exp", "iat", "sub"]},
    )
    return said


@pytest.mark.parametrize(("client", "algorithm"), [("gateway", "RS256"), ("es", "ES256"), ("ed", "EdDSA")])
def test_a_login_gives_a_token_of_the_user_that_a_published_key_verifies(
    provider: Provider, client: str, algorithm: Algorithm
) -> None:
    before = time.time()
    tokens = provider.login("dora", client)
    assert jwt.get_unverified_header(tokens.id_token)["alg"] == algorithm
    for token in (tokens.id_token, tokens.access_token):
        said = verified(token, provider, client)
        assert {"sub": "dora", **USERS["dora"]}.items() <= said.items()
        assert said["aud"] == [client]
        assert before - 1 <= said["iat"] <= time.time()
        assert said["exp"] - said["iat"] == provider.lifetime_seconds


def test_a_token_says_what_its_scopes_let_it_and_what_the_user_has(provider: Provider) -> None:
    mail = verified(provider.login("dora", scope="openid email").id_token, provider)
    work = verified(provider.login("dora", scope="openid work").id_token, provider)
    assert ("email" in mail, "roles" in mail) == (True, False)
    assert ("email" in work, "roles" in work) == (False, True)
    una = verified(provider.login("una").id_token, provider)
    assert (una["email_verified"], una.get("roles")) == (False, None)


def test_who_has_an_access_token_is_told_who_it_is_of(provider: Provider) -> None:
    told = provider.userinfo(provider.login("dora").access_token)
    assert {"sub": "dora", **USERS["dora"]}.items() <= told.items()
    with pytest.raises(Refused):
        provider.userinfo("no token")


def test_a_client_has_tokens_of_its_own(provider: Provider) -> None:
    said = verified(provider.client_credentials(), provider)
    assert (said["sub"], said["roles"]) == ("gateway", ["developer"])
    with pytest.raises(jwt.MissingRequiredClaimError):
        verified(provider.client_credentials("es"), provider)


def test_a_code_is_good_once_for_who_began_the_login(provider: Provider) -> None:
    verifier = secrets.token_urlsafe(48)
    code = provider.code("dora", "gateway", verifier=verifier, state="s")
    with pytest.raises(Refused, match="PKCE"):
        provider.redeem(code, "gateway", verifier=secrets.token_urlsafe(48))
    provider.redeem(code, "gateway", verifier=verifier)
    with pytest.raises(Refused):
        provider.redeem(code, "gateway", verifier=verifier)


def test_a_wrong_password_signs_nobody_in(tmp_path: Path) -> None:
    with providing(tmp_path, USERS) as provider:
        provider.passwords["dora"] = "wrong"
        with pytest.raises(Refused, match="403"):
            provider.login("dora")


def test_discovery_says_where_the_keys_are_and_holds_none(provider: Provider) -> None:
    said = provider.discovered()
    assert said["issuer"] == provider.issuer
    assert said["jwks_uri"] == provider.issuer + JWKS
    assert "jwks" not in said
    assert not any("d" in key for key in provider.published())


def test_after_a_rotation_new_tokens_have_a_new_key_and_the_old_one_verifies_until_it_is_gone(
    provider: Provider,
) -> None:
    before = provider.login("dora").id_token
    provider.rotate()
    after = provider.login("dora").id_token
    assert kid(before) != kid(after)
    assert verified(before, provider)["sub"] == verified(after, provider)["sub"] == "dora"
    provider.retire()
    assert kid(before) not in kids(provider)
    assert verified(after, provider)["sub"] == "dora"


@pytest.mark.parametrize("end", [Provider.stop, Provider.kill])
def test_who_starts_again_has_its_port_and_its_keys(tmp_path: Path, end: Any) -> None:
    with providing(tmp_path, USERS) as provider:
        provider.rotate()
        token, published = provider.login("dora").id_token, kids(provider)
        end(provider)
        with pytest.raises(ConnectionRefusedError):
            provider.published()
        provider.start()
        assert kids(provider) == published
        assert verified(token, provider)["sub"] == "dora"
        assert kid(provider.login("dora").id_token) == kid(token)


def test_who_is_suspended_answers_nobody_until_it_is_resumed(tmp_path: Path) -> None:
    with providing(tmp_path, USERS) as provider:
        token = provider.login("dora").id_token
        provider.suspend()
        with pytest.raises(TimeoutError):
            provider.published(timeout_seconds=0.3)
        assert kid(provider.minted(provider.claims("dora"))) == kid(token)
        provider.resume()
        assert verified(token, provider)["sub"] == "dora"


def test_every_request_is_counted_through_all_lives(tmp_path: Path) -> None:
    with providing(tmp_path, USERS) as provider:
        assert (provider.asked(JWKS), provider.asked(DISCOVERY)) == (0, 0)
        provider.login("dora")
        assert (provider.asked(JWKS), provider.asked("/token")) == (0, 1)
        for count in (1, 2, 3):
            provider.published()
            assert provider.asked(JWKS) == count
        provider.kill()
        assert provider.asked(JWKS) == 3
        provider.start()
        provider.discovered()
        assert (provider.asked(JWKS), provider.asked(DISCOVERY)) == (3, 1)


def test_a_minted_token_is_one_of_the_provider_but_for_what_was_changed(provider: Provider) -> None:
    assert verified(provider.minted(provider.claims("dora")), provider)["roles"] == ["developer"]
    with pytest.raises(jwt.ExpiredSignatureError):
        verified(provider.minted(provider.claims("dora", exp=int(time.time()) - 1)), provider)
    assert kid(provider.minted(provider.claims("dora"), kid="unknown")) == "unknown"
    assert verified(provider.minted(provider.claims("una"), algorithm="EdDSA"), provider)["sub"] == "una"


def test_nothing_is_left_of_a_provider_and_it_complained_of_nothing(tmp_path: Path) -> None:
    with providing(tmp_path, USERS) as provider:
        provider.login("dora")
        pid = provider.pid
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()
    assert (tmp_path / "stderr").read_text() == ""
