"""Which names a client's certificate is known by: those of its alternative names alone, and of a sound certificate alone."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from gateway.auth.presented import MOST_BYTES, MOST_NAMES, of_der, of_pem
from tests.worlds.certificates import new_key

URI = "spiffe://acme.example/ingest"
ENDS = datetime(2030, 1, 1, tzinfo=UTC)
_AUTHORITY = new_key()
WEAK = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that it is refused is what is tested
Key = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


def made(*names: x509.GeneralName, key: Key | None = None) -> bytes:
    """DER of a certificate whose common name is a host name that some tenant may have."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ingest.acme.example")])
    it = x509.CertificateBuilder(name, name, key or new_key().public_key(), 7)
    it = it.not_valid_before(ENDS - timedelta(days=1)).not_valid_after(ENDS)
    if names:
        it = it.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return it.sign(_AUTHORITY, SHA256()).public_bytes(Encoding.DER)


def test_names_are_known_by_their_sort_each_once_and_the_common_name_is_none() -> None:
    uri, dns = x509.UniformResourceIdentifier(URI), x509.DNSName("Batch.Acme.example")
    found = of_der(made(uri, dns, uri, x509.RFC822Name("A@acme.example"), x509.RegisteredID(NameOID.TITLE)))
    assert found.why == ""
    assert found.identities == (("uri", URI), ("dns", "batch.acme.example"), ("email", "A@acme.example"))
    assert found.ends_us == ENDS.timestamp() * 1_000_000
    assert found.begins_us == found.ends_us - 86_400_000_000


def raw(name: str) -> x509.DNSName:
    """As no honest authority writes it."""
    return x509.DNSName._init_without_validation(name)


@pytest.mark.parametrize(
    "name",
    [
        raw("batch.acme.example\0.evil.example"),
        raw("batch.acme.example."),
        raw(".batch.acme.example"),
        raw(" batch.acme.example"),
        raw("*.acme.example"),
        raw("*"),
        raw("batch.acme.example\n"),
        raw("batch\\.acme.example"),
        x509.UniformResourceIdentifier(f"{URI}\0"),
        x509.UniformResourceIdentifier(f"{URI}/"),
        x509.UniformResourceIdentifier(f"{URI}#"),
        x509.UniformResourceIdentifier(URI.replace("spiffe:", "SPIFFE:")),
        x509.UniformResourceIdentifier(URI.replace("ingest", "%69ngest")),
        x509.UniformResourceIdentifier("batch.acme.example"),
        x509.RFC822Name(URI),
        x509.RFC822Name("batch.acme.example"),
        x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "batch.acme.example")])),
        x509.OtherName(NameOID.COMMON_NAME, b"\x0c\x12batch.acme.example"),
    ],
    ids=repr,
)
def test_a_name_that_only_looks_like_one_is_another(name: x509.GeneralName) -> None:
    found = of_der(made(name))
    assert not {("dns", "batch.acme.example"), ("uri", URI)} & set(found.identities)


def test_a_host_name_beyond_ascii_is_none_though_its_small_letters_may_be_a_hosts() -> None:
    der = made(x509.DNSName("aaaK.example"))
    assert of_der(der).identities == (("dns", "aaak.example"),)
    kelvin = der.replace(b"aaaK.example", "\N{KELVIN SIGN}.example".encode().rjust(12, b"a"))
    assert kelvin != der
    assert of_der(kelvin).identities == ()


def test_pem_is_read_as_its_der_is() -> None:
    der = made(x509.UniformResourceIdentifier(URI))
    pem = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
    assert of_pem(pem) == of_pem(pem + pem) == of_der(der)
    assert of_der(der).digest == f"certificate {of_der(der).fingerprint}"


@pytest.mark.parametrize(
    ("der", "why"),
    [
        (made(), "no alternative names"),
        (made(*(x509.DNSName(f"a{it}.example") for it in range(MOST_NAMES + 1))), "more than 100"),
        (made(x509.DNSName("a"), key=WEAK.public_key()), "key is weak"),
        (made(x509.DNSName("a"), key=ec.generate_private_key(ec.SECP256K1()).public_key()), "key is none"),
        (b"", "cannot be read"),
        (made(x509.DNSName("a"))[:-1], "cannot be read"),
        (b"0" * (MOST_BYTES + 1), "more than"),
    ],
)
def test_one_that_is_unsound_says_why_and_raises_nothing(der: bytes, why: str) -> None:
    assert why in of_der(der).why


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_in_pem_says_so(pem: bytes) -> None:
    assert of_pem(pem).why


def test_keys_of_the_curves_that_tokens_use_are_sound() -> None:
    for key in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())):
        assert of_der(made(x509.DNSName("a.example"), key=key.public_key())).why == ""
