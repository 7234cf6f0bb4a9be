"""Whose word is taken for a server's, and how others come to be trusted while the gateway serves."""

import ssl
from pathlib import Path

import pytest

from gateway.settings import load
from gateway.tls.errors import TlsRefused
from gateway.tls.trusted import Trusted
from tests.worlds.certificates import Authority, new_key, pem_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "authorities.pem"
    found.write_bytes(Authority().pem)
    return found


def _names(trusted: Trusted) -> list[str]:
    return [dict(part[0] for part in it["subject"])["commonName"] for it in trusted.context().get_ca_certs()]  # type: ignore[misc]


def test_a_file_is_all_that_is_trusted_and_without_one_it_is_the_system(file: Path) -> None:
    file.write_bytes(Authority("one").pem + Authority("two").pem)
    assert _names(Trusted.load(file)) == ["one", "two"]
    system = Trusted.load(None)
    assert system.context() is system.context()
    assert system.context().cert_store_stats() == ssl.create_default_context().cert_store_stats()


@pytest.mark.parametrize("named", [True, False])
def test_certificate_and_name_are_verified_over_tls_of_today(file: Path, named: bool) -> None:  # noqa: FBT001 - a column
    context = Trusted.load(file if named else None).context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert {it["name"].partition("-")[0] for it in context.get_ciphers()} <= {
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_GCM_SHA256",
        "ECDHE",
    }


async def test_other_authorities_are_trusted_when_two_looks_have_found_them(file: Path) -> None:
    trusted = Trusted.load(file)
    before = trusted.context()
    file.write_bytes(Authority("another").pem)
    await trusted.look()
    assert trusted.context() is before  # somebody may still be writing
    await trusted.look()
    assert _names(trusted) == ["another"]


@pytest.mark.parametrize("content", [b"", b"nonsense", pem_of(new_key()), None])
async def test_what_is_no_authority_is_refused_once_and_those_before_are_trusted_on(
    file: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    trusted = Trusted.load(file)
    before, good = trusted.context(), file.read_bytes()
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    for _ in range(4):
        await trusted.look()
    assert (trusted.context() is before, trusted.refused) == (True, 1)
    assert caplog.text.count("are refused") == 1
    assert "authorities.pem" in caplog.text
    with pytest.raises(TlsRefused, match=r"authorities\.pem"):
        Trusted.load(file)
    file.write_bytes(good)
    for _ in range(2):
        await trusted.look()
    assert (trusted.context() is before, trusted.refused) == (True, 1)


async def test_without_a_file_there_is_nothing_to_look_at() -> None:
    trusted = Trusted.load(None)
    await trusted.look()
    assert trusted.refused == 0


def test_the_file_is_named_by_a_setting() -> None:
    assert load({"GATEWAY_UPSTREAM_AUTHORITIES": "/ca.pem"}).upstream.authorities == Path("/ca.pem")
    assert load({}).upstream.authorities is None
