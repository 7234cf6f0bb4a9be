"""Which files may be shown as a certificate, and how others come into use while the gateway serves."""

import logging
import time
from base64 import b64encode
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from gateway.settings import SettingsError, Tls, load
from gateway.tls.current import Certificates, Clients, Files, Shown
from gateway.tls.errors import TlsRefused
from tests.worlds.certificates import Authority, Pair, new_key, pem_of

_EC_KEY = bytes.fromhex("06072a8648ce3d0201")  # id-ecPublicKey, RFC 5480


def now_us() -> int:
    return time.time_ns() // 1000


@dataclass(slots=True)
class World:
    folder: Path
    authority: Authority

    def write(self, pair: Pair) -> Files:
        return Files(*pair.write(self.folder), None)

    def shown(self) -> Shown:
        return Shown.load(Files(self.folder / "tls.crt", self.folder / "tls.key", None), "off", now_us)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, Authority())


async def test_a_new_pair_is_shown_when_two_looks_have_found_it(world: World) -> None:
    world.write(world.authority.gives())
    shown = world.shown()
    before, context = shown.material, shown.context
    world.write(world.authority.gives())
    await shown.look()
    assert shown.material is before  # somebody may still be writing
    await shown.look()
    assert shown.material.fingerprint != before.fingerprint
    assert shown.context is not context
    assert (shown.replaced, shown.refused) == (1, 0)


async def test_a_bad_pair_is_refused_once_and_the_one_before_is_shown_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    good = world.authority.gives()
    world.write(good)
    shown = world.shown()
    before = shown.material
    world.write(Pair(world.authority.gives().certificate, good.key))
    for _ in range(4):
        await shown.look()
    assert shown.material is before
    assert (shown.replaced, shown.refused) == (0, 1)
    assert "is not the key of the first certificate" in caplog.text
    world.write(good)
    for _ in range(2):
        await shown.look()
    assert (shown.replaced, shown.refused) == (0, 1)
    world.write(world.authority.gives())
    for _ in range(2):
        await shown.look()
    assert shown.replaced == 1


async def test_a_certificate_of_a_key_that_nobody_can_read_is_refused_and_the_looks_go_on(
    world: World,
) -> None:
    world.write(world.authority.gives())
    shown = world.shown()
    before = shown.material
    pair = world.authority.gives()
    whole = load_pem_x509_certificate(pair.certificate).public_bytes(Encoding.DER)
    assert _EC_KEY in whole
    unknown = b64encode(whole.replace(_EC_KEY, _EC_KEY[:-1] + b"\x09"))
    world.write(Pair(b"-----BEGIN CERTIFICATE-----\n" + unknown + b"\n-----END CERTIFICATE-----\n", pair.key))
    for _ in range(2):
        await shown.look()
    assert shown.material is before
    assert (shown.replaced, shown.refused) == (0, 1)


async def test_files_that_are_gone_leave_what_is_shown(world: World) -> None:
    world.write(world.authority.gives())
    shown = world.shown()
    (world.folder / "tls.key").unlink()
    for _ in range(3):
        await shown.look()
    assert (shown.replaced, shown.refused) == (0, 1)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o620, 0o644])
def test_a_key_that_others_may_read_or_change_is_refused(world: World, mode: int) -> None:
    world.write(world.authority.gives())
    (world.folder / "tls.key").chmod(mode)
    with pytest.raises(TlsRefused, match=r"tls\.key, and it is a private key: chmod 600 it"):
        world.shown()


def test_a_key_that_its_group_may_read_is_taken_as_secrets_are_mounted_so(world: World) -> None:
    world.write(world.authority.gives())
    (world.folder / "tls.key").chmod(0o440)
    assert world.shown().left_seconds > 0


@pytest.mark.parametrize(
    ("begins", "lasts", "reason"),
    [(-2, -1, "is over since"), (1, 2, "is not valid before")],
)
def test_a_certificate_that_is_not_valid_today_is_refused(
    world: World, begins: int, lasts: int, reason: str
) -> None:
    world.write(world.authority.gives(begins=timedelta(days=begins), lasts=timedelta(days=lasts)))
    with pytest.raises(TlsRefused, match=reason):
        world.shown()


def test_what_holds_the_wrong_thing_is_named_without_a_byte_of_it(world: World) -> None:
    pair = world.authority.gives()
    cases = {
        "must hold certificates in PEM .* holds a private key": Pair(pair.key, pair.key),
        "must hold a private key in PEM .* holds a certificate": Pair(pair.certificate, pair.certificate),
        "is empty": Pair(b"", pair.key),
        "holds nothing of the kind": Pair(b"hello", pair.key),
        "is not the key of the first certificate": Pair(pair.certificate, pem_of(new_key())),
        "is encrypted": Pair(pair.certificate, b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n"),
    }
    for reason, case in cases.items():
        world.write(case)
        with pytest.raises(TlsRefused, match=reason) as refused:
            world.shown()
        assert pair.key.splitlines()[1].decode() not in str(refused.value)


@pytest.mark.parametrize("clients", ["optional", "required"])
def test_authorities_that_are_an_empty_file_are_refused(world: World, clients: Clients) -> None:
    files = world.write(world.authority.gives())
    empty = world.folder / "authorities.pem"
    empty.touch()
    with pytest.raises(TlsRefused, match=r"authorities\.pem is empty, and no client would be known by it"):
        Shown.load(Files(files.certificate, files.key, empty), clients, now_us)


def test_a_certificate_that_ends_soon_is_warned_of_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "gateway")
    world.write(world.authority.gives(begins=timedelta(days=-90), lasts=timedelta(days=13)))
    world.shown()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    world.write(world.authority.gives(lasts=timedelta(hours=1), begins=timedelta(minutes=-1)))
    world.shown()
    assert len(caplog.records) == 1  # a short life has just begun


def test_the_operators_listener_shows_the_same_unless_it_has_one_of_its_own(world: World) -> None:
    certificate, key = world.authority.gives().write(world.folder)
    same = Certificates.load(Tls(certificate=certificate, key=key), now_us)
    assert same.operator is same.public is not None
    own, of_own = world.authority.gives().write(world.folder, "operator")
    apart = Certificates.load(
        Tls(certificate=certificate, key=key, operator_certificate=own, operator_key=of_own), now_us
    )
    assert apart.operator is not None
    assert apart.public is not None
    assert apart.operator.material.fingerprint != apart.public.material.fingerprint
    assert Certificates.load(Tls(), now_us) == Certificates()


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        (
            {"CERTIFICATE": "a"},
            "GATEWAY_TLS_CERTIFICATE needs GATEWAY_TLS_KEY; in a file: tls.certificate, tls.key",
        ),
        ({"KEY": "a"}, "GATEWAY_TLS_KEY needs GATEWAY_TLS_CERTIFICATE"),
        ({"CLIENT_CERTIFICATES": "required"}, "CLIENT_CERTIFICATES needs GATEWAY_TLS_CERTIFICATE"),
        (
            {"CERTIFICATE": "a", "KEY": "b", "CLIENT_CERTIFICATES": "required"},
            "CLIENT_CERTIFICATES needs GATEWAY_TLS_CLIENT_AUTHORITIES",
        ),
        ({"CLIENT_CERTIFICATES": "yes"}, "must be one of off, optional, required, not 'yes'"),
        (
            {"OPERATOR_CERTIFICATE": "a", "OPERATOR_KEY": "b"},
            "OPERATOR_CERTIFICATE needs GATEWAY_TLS_CERTIFICATE",
        ),
    ],
)
def test_settings_that_are_not_whole_are_refused(environ: dict[str, str], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        load({f"GATEWAY_TLS_{name}": value for name, value in environ.items()})
