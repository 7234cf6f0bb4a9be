"""Which URLs of an identity provider are fetched: hostile forms and addresses that are not public get nowhere."""

from ipaddress import IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.urls import MOST_CHARACTERS, discovery_url, faults, host_of, is_public, issuer_faults

PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255"),
    *("128.0.0.1", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255"),
    *("172.32.0.0", "192.0.1.0", "192.0.3.0", "192.88.98.255", "192.167.255.255", "192.169.0.0"),
    *("198.17.255.255", "198.20.0.0", "203.0.112.255", "203.0.114.0", "223.255.255.255"),
    *("2000::1", "2001:200::1", "2001:4860:4860::8888", "2606:4700:4700::1111", "2a00::1", "3ffe::1"),
    *("::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2001:db7:ffff::1", "2001:db9::1", "2003::1"),
]
NOT_PUBLIC = [
    "0.0.0.0",  # noqa: S104 - nothing is bound to it
    *("0.0.0.1", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.100.100.200"),
    *("100.127.255.255", "127.0.0.1", "127.1.2.3", "127.255.255.255", "168.63.129.16", "169.254.0.1"),
    *("169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.8"),
    *("192.0.0.170", "192.0.0.192", "192.0.0.255", "192.0.2.1", "192.88.99.1", "192.168.0.1"),
    *("192.168.255.255", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.7", "224.0.0.1"),
    *("239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::2", "::127.0.0.1", "::8.8.8.8", "::ffff:0.0.0.0", "::ffff:10.0.0.1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:8.8.8.8", "64:ff9b::10.0.0.1"),
    *("64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::8.8.8.8", "100::1", "1fff::1"),
    *("2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1", "2001:10::1", "2001:20::1"),
    *("2001:1ff:ffff::1", "2001:db8::1", "2002:7f00:1::1", "2002:808:808::1", "3fff::1", "4000::1"),
    *("5f00::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "fe80::1%1", "2000::1%eth0"),
    *("fec0::1", "ff02::1", "ff0e::1"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_connected_to(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_everybodys_is_not_connected_to(address: str) -> None:
    assert not is_public(ip_address(address))


@given(st.ip_addresses())
def test_what_python_calls_private_is_never_public(address: object) -> None:
    parsed = ip_address(str(address))
    within = isinstance(parsed, IPv6Address) and (parsed.ipv4_mapped or str(parsed).startswith("64:ff9b::"))
    assert within or parsed.is_global or not is_public(parsed)


@pytest.mark.parametrize(
    "url",
    [
        "https://login.example",
        "https://login.example/",
        "https://login.example:8443/a/b/jwks.json",
        "https://LOGIN.example/tenants/a%20b/v2.0/keys?p=policy_1&x=/?",
        "https://a_b.login-1.example/~me/(x);v=1,2",
        "https://8.8.8.8/keys",
        "https://[2001:4860:4860::8888]:443/keys",
        "https://xn--bcher-kva.example/",
        "https://" + "a" * 63 + ".example/",
        "https://login.example/" + "a" * (MOST_CHARACTERS - 22),
    ],
)
def test_a_url_of_the_one_form_is_taken(url: str) -> None:
    assert list(faults(url, insecure=False)) == []
    assert list(faults(url, insecure=True)) == []


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "login.example",
            "//login.example",
            "https:",
            "https://",
            "https:///keys",
            "https:login.example",
        ),
        *("HTTPS://login.example", " https://login.example", "https://login.example\n", "https://a b/"),
        *("ftp://login.example", "file:///etc/passwd", "data:application/json,{}", "gopher://login.example"),
        *("https://user@login.example", "https://user:word@login.example", "https://@login.example"),
        *("https://login.example#x", "https://login.example/#", "https://login.example\\@evil.example"),
        *("https://login.example/\\..", "https://login.example%00.evil.example", "https://login%2eexample"),
        *(
            "https://lögin.example",
            "https://lo\uff47in.example",
            "https://login\u3002example",
            "https://\u2460.example",
        ),
        *("https://login.example:", "https://login.example:0", "https://login.example:65536"),
        *("https://login.example:443443", "https://login.example:-1", "https://login.example:\u0663"),
        *("https://login.example.", "https://login..example", "https://.example", "https://-a.example"),
        *("https://a-.example", "https://" + "a" * 64 + ".example", "https://" + "a." * 126 + "example"),
        *(
            "https://127.1",
            "https://0x7f.1",
            "https://0x7f000001",
            "https://2130706433",
            "https://0177.0.0.1",
        ),
        *("https://127.0.0.01", "https://127.0.0.1.", "https://1.2.3.4.5", "https://a.0x", "https://a.1"),
        *("https://256.1.1.1", "https://0x", "https://127.0.0.0x1", "https://4294967296"),
        *("https://[127.0.0.1]", "https://[::1", "https://::1/", "https://[::1%25lo]/", "https://[]/"),
        *(
            "https://[::ffff:127.0.0.256]",
            "https://[v1.a]/",
            "https://login.example/%",
            "https://a.example/%g0",
        ),
        *("https://a.example/a b", "https://a.example/\x00", 'https://a.example/"', "https://a.example?a b"),
        "https://login.example/" + "a" * (MOST_CHARACTERS - 21),
    ],
)
def test_what_programs_could_read_in_two_ways_is_refused_also_when_insecure(url: str) -> None:
    assert list(faults(url, insecure=False))
    assert list(faults(url, insecure=True))


@pytest.mark.parametrize(
    "url",
    [
        *("http://login.example", "https://127.0.0.1", "https://[::1]:8443/keys", "http://10.0.0.1/keys"),
        *("https://169.254.169.254/latest/meta-data", "https://[::ffff:127.0.0.1]", "https://localhost/keys"),
        *("https://login.LOCALHOST", "https://[fd00:ec2::254]/", "https://[0:0:0:0:0:ffff:a9fe:a9fe]/"),
        *("https://0.0.0.0", "https://[64:ff9b::7f00:1]", "https://[fe80::1]", "https://168.63.129.16"),
    ],
)
def test_http_and_addresses_of_a_network_of_ones_own_are_for_insecure_issuers(url: str) -> None:
    assert list(faults(url, insecure=False))
    assert list(faults(url, insecure=True)) == []


def test_a_refusal_tells_nothing_of_the_url() -> None:
    for url in ("https://user:hunter2@login.example/", "https://login.example/hunter2#", "hunter2"):
        assert "hunter2" not in "".join(faults(url, insecure=False)) + host_of(url)
    assert host_of("https://login.example:8443/keys?secret=hunter2") == "login.example:8443"
    assert host_of("https://[2001:db8::1]/keys") == "[2001:db8::1]"


def test_an_issuer_has_no_query() -> None:
    assert list(issuer_faults("https://login.example/a", insecure=False)) == []
    assert list(issuer_faults("https://login.example/a?b", insecure=False)) == ["must have no query"]


@pytest.mark.parametrize(
    ("issuer", "url"),
    [
        ("https://login.example", "https://login.example/.well-known/openid-configuration"),
        ("https://login.example/", "https://login.example/.well-known/openid-configuration"),
        ("https://login.example/a/b/", "https://login.example/a/b/.well-known/openid-configuration"),
        ("https://login.example/a", "https://login.example/a/.well-known/openid-configuration"),
    ],
)
def test_an_issuers_document_is_where_openid_says(issuer: str, url: str) -> None:
    assert discovery_url(issuer) == url
