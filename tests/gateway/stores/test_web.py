"""What a provider, a name server or a URL does, a fetch goes where its issuer says or nowhere, and ends in time."""

import asyncio
import gzip
import os
import socket
import sys
import threading
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from gateway.auth.key_sets import Unreachable
from gateway.stores.web import SystemNames, Web, _public_socket
from tenants.urls import faults
from tests.gateway.stores.web_world import LOOPBACK, NAME, Answer, Authority, Site, Zone, json, serving
from tests.tenants.test_urls import NOT_PUBLIC, PUBLIC

MOST = 1000


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


async def fetched(site: Site, *, web: Web | None = None, path: str = "/keys") -> bytes:
    web = web or Web(Zone(**LOOPBACK))
    return await web.get(site.url(path=path), insecure=True, most_bytes=MOST)


async def refusal(answer: Answer | bytes, *, answer_seconds: float = 5.0) -> str:
    """Why this answer is not taken."""
    async with serving(answer) as site:
        with pytest.raises(Unreachable) as refused:
            await fetched(site, web=Web(Zone(**LOOPBACK), answer_seconds=answer_seconds))
    return str(refused.value)


# Where it goes


async def test_a_document_is_fetched_once_and_plainly() -> None:
    async with serving(json(more="Set-Cookie: a=b\r\n")) as site:
        web = Web(Zone(**LOOPBACK))
        for _ in range(2):
            assert await fetched(site, web=web, path="/a%2Fb/keys?p=x%20y") == b'{"keys":[]}'
    assert site.connections == 2
    first, second = site.heads
    assert first == second
    assert first.startswith(b"GET /a%2Fb/keys?p=x%20y HTTP/1.1\r\n")
    for name in (b"cookie", b"authorization", b"proxy", b"referer"):
        assert b"\r\n" + name not in first.lower()
    assert b"\r\naccept-encoding: identity\r\n" in first.lower()


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["::ffff:127.0.0.1"], ["127.0.0.1", "10.0.0.1", "::1"]])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_name_that_looks_public_and_is_not_is_refused_before_a_byte_is_sent(
    scheme: str, addresses: list[str]
) -> None:
    async with serving(json()) as site:
        with pytest.raises(Unreachable) as refused:
            await Web(Zone(login_example=[addresses])).get(site.url(scheme), insecure=False, most_bytes=MOST)
    assert site.connections == 0
    assert ("https" in str(refused.value)) if scheme == "http" else ("public" in str(refused.value))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "localhost", "0x7f.1", "2130706433"]
)
async def test_an_address_in_the_url_is_judged_like_a_names(host: str) -> None:
    async with serving(json()) as site:
        zone = Zone(**LOOPBACK, localhost=[["127.0.0.1"]])
        with pytest.raises(Unreachable):
            await Web(zone).get(site.url("https", host), insecure=False, most_bytes=MOST)
    assert (site.connections, zone.asked) == (0, [])


async def test_a_name_that_changes_its_answer_gains_nothing() -> None:
    """It is asked once for a fetch, and what it said then is what is connected to."""
    zone = Zone(login_example=[["127.0.0.1"], ["127.0.0.2"]])
    async with serving(json()) as site:
        assert await fetched(site, web=Web(zone)) == b'{"keys":[]}'
        assert zone.asked == [NAME]
        with pytest.raises(Unreachable, match=r"127\.0\.0\.2 is not a public"):
            await Web(zone).get(site.url("https"), insecure=False, most_bytes=MOST)
    assert (zone.asked, site.connections) == ([NAME, NAME], 1)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_no_socket_is_made_for_an_address_that_is_not_public(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(OSError, match="not a public address"):
        _public_socket((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 443, 0, 0)))


@pytest.mark.parametrize("address", PUBLIC)
def test_one_is_made_for_an_address_that_is_public(address: str) -> None:
    family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
    with _public_socket((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 443, 0, 0))) as made:
        assert (made.family, made.type) == (family, socket.SOCK_STREAM)


@given(st.from_regex(r"https?://[0-9A-Za-z\[\]:.@\\#?/%_~ -]{1,40}", fullmatch=True))
def test_whoever_reads_a_url_that_is_taken_reads_the_same_host_and_port(url: str) -> None:
    if list(faults(url, insecure=True)):
        return
    by_us, by_client = urlsplit(url), URL(url, encoded=True)
    assert by_us.hostname == str(by_client.raw_host).lower()
    assert (by_us.port or {"http": 80, "https": 443}[by_us.scheme]) == by_client.port
    assert by_us.username is by_client.raw_user is None


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with serving(json()) as elsewhere:
        location = f"Location: {elsewhere.url(host='127.0.0.1')}\r\n"
        answer = f"HTTP/1.1 {status} Found\r\n{location}Content-Length: 0\r\n\r\n".encode()
        assert f"answered {status} (redirects are not followed)" in await refusal(answer)
    assert elsewhere.connections == 0


# TLS


@pytest.mark.parametrize("host", [NAME, "127.0.0.1"])
async def test_a_certificate_that_is_trusted_and_of_this_name_is_taken(
    authority: Authority, host: str
) -> None:
    async with serving(json(), authority.server([NAME, "127.0.0.1"])) as site:
        web = Web(Zone(**LOOPBACK), authority.trusting)
        assert await web.get(site.url("https", host), insecure=True, most_bytes=MOST) == b'{"keys":[]}'


@pytest.mark.parametrize("flaw", ["wrong name", "expired", "self-signed", "unknown authority"])
async def test_any_other_certificate_is_refused_for_insecure_issuers_too(
    authority: Authority, flaw: str
) -> None:
    names = ["other.example"] if flaw == "wrong name" else [NAME]
    server = authority.server(names, ended=flaw == "expired", own=flaw == "self-signed")
    trusting = None if flaw == "unknown authority" else authority.trusting
    async with serving(json(), server) as site:
        with pytest.raises(Unreachable) as refused:
            await Web(Zone(**LOOPBACK), trusting).get(site.url("https"), insecure=True, most_bytes=MOST)
    assert site.heads == []  # nothing was asked of whoever it is
    expected = {
        "wrong name": "not valid for 'login.example'",
        "expired": "expired",
        "self-signed": "self-signed",
        "unknown authority": "unable to get local issuer certificate",
    }
    assert expected[flaw] in str(refused.value)


async def test_what_speaks_no_tls_is_told_nothing(authority: Authority) -> None:
    said: list[bytes] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said.append(await reader.read(1000))
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(converse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match="cannot be connected to"):
            await Web(Zone(**LOOPBACK), authority.trusting).get(
                f"https://{NAME}:{port}/keys", insecure=True, most_bytes=MOST
            )
    assert b"/keys" not in b"".join(said)


async def test_a_companys_own_authority_is_named_by_ssl_cert_file_and_proxies_are_not_used(
    authority: Authority,
) -> None:
    script = (
        "import asyncio, sys\n"
        "from gateway.stores.web import Web\n"
        "print(asyncio.run(Web().get(sys.argv[1], insecure=True, most_bytes=100)).decode())"
    )
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        nowhere = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        environ = {
            **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY"), nowhere),
            "SSL_CERT_FILE": str(authority.file),
            "PATH": os.environ["PATH"],
        }
        async with serving(json(), authority.server(["127.0.0.1"])) as site:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", script, site.url("https", "127.0.0.1")),
                env=environ,
                cwd=Path(__file__).parents[3],
                stdout=asyncio.subprocess.PIPE,
            )
            async with asyncio.timeout(30):
                output, _ = await process.communicate()
    assert (output.strip(), process.returncode) == (b'{"keys":[]}', 0)


# What it takes


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/jwk-set+json"]
)
async def test_json_by_any_of_its_names_is_taken(kind: str) -> None:
    async with serving(json(kind=kind)) as site:
        assert await fetched(site) == b'{"keys":[]}'


async def test_a_body_of_the_largest_size_is_taken_chunked_and_by_length() -> None:
    content = b" " * MOST
    chunked = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%s\r\n0\r\n\r\n" % (MOST, content)
    )
    for answer in (json(content), chunked):
        async with serving(answer) as site:
            assert await fetched(site) == content


@pytest.mark.parametrize("status", ["201 Created", "202 Accepted", "206 Partial", "404 No", "503 No"])
async def test_anything_but_200_is_refused(status: str) -> None:
    assert f"answered {status[:3]}" in await refusal(json().replace(b"200 OK", status.encode()))


@pytest.mark.parametrize(
    "kind",
    [
        "text/html",
        "text/plain",
        "",
        "application/javascript",
        "application/jsonp",
        "application/x+jsonx",
        "json",
        "\x7f",
    ],
)
async def test_what_is_not_json_by_its_type_is_refused(kind: str) -> None:
    assert "is not JSON" in await refusal(json(kind=kind))


async def test_a_body_without_a_type_is_refused() -> None:
    assert "is not JSON" in await refusal(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "x"])
async def test_a_bomb_stays_closed(encoding: str) -> None:
    bomb = gzip.compress(bytes(10_000_000))[:MOST]
    assert "content encoding" in await refusal(json(bomb, more=f"Content-Encoding: {encoding}\r\n"))


async def test_two_lines_of_encodings_are_no_way_around() -> None:
    assert "content encoding" in await refusal(
        json(more="Content-Encoding: identity\r\nContent-Encoding: gzip\r\n")
    )


@pytest.mark.parametrize("framing", ["length", "chunked", "until the end"])
async def test_a_body_that_is_too_large_is_left_and_not_kept(framing: str) -> None:
    fields = {
        "length": b"Content-Length: 1000000000\r\n",
        "chunked": b"Transfer-Encoding: chunked\r\n",
        "until the end": b"",
    }
    sent = 0

    async def answer(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + fields[framing] + b"\r\n")
        while sent < 1_000_000_000:
            writer.write(b"100\r\n%s\r\n" % bytes(256) if framing == "chunked" else bytes(256))
            sent += 256
            await writer.drain()

    assert f"answered more than {MOST} bytes" in await refusal(answer)
    assert sent < 10_000_000  # what the sockets hold between them


CHUNKED = json(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"X"),
        (b"HTTP/1.1 200 OK\r\nX-A: ", b"b"),
        (b"HTTP/1.1 200 ", b"b"),
        (b"", b"x"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"),
        (CHUNKED + b"1;x=", b"y"),
        (CHUNKED + b"0\r\n", b"X-A: b\r\n"),
        (CHUNKED + b"0\r\n", b"X"),
    ],
)
async def test_what_has_no_end_around_a_body_is_left_at_once(head: bytes, piece: bytes) -> None:
    sent = 0

    async def answer(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(head)
        while True:
            writer.write(piece * 1000)
            sent += len(piece) * 1000
            await writer.drain()

    assert "no HTTP that is whole" in (told := await refusal(answer)) or "more than" in told
    assert sent < 10_000_000  # what the sockets hold between them


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", json()[:-5]])
async def test_an_answer_that_drips_is_left_in_time(start: bytes) -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(b" " if start.endswith(b":") else b"")
            await asyncio.sleep(0.01)

    assert "no answer in 0.2 s" in await refusal(answer, answer_seconds=0.2)


async def test_a_server_that_accepts_and_says_nothing_is_left_in_time(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for scheme in ("http", "https"):
            with pytest.raises(Unreachable, match=r"no answer in 0\.2 s"):
                await Web(Zone(**LOOPBACK), authority.trusting, answer_seconds=0.2).get(
                    f"{scheme}://{NAME}:{port}/", insecure=True, most_bytes=MOST
                )


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n",
        b"nonsense\r\n\r\n",
        json()[:-1],
        json()[:20],
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: x\r\n\r\n{}",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n{}",
    ],
)
async def test_an_answer_that_is_cut_or_no_http_is_refused(answer: bytes) -> None:
    assert await refusal(answer)


# What is told


async def test_a_refusal_names_the_host_and_nothing_of_path_query_or_answer() -> None:
    planted = "hunter2"
    answers = [
        json(kind="text/html").replace(b"\r\n\r\n", f"\r\nX-A: {planted}\r\n\r\n".encode()),
        f"HTTP/1.1 500 {planted}\r\nContent-Length: 7\r\n\r\n{planted}".encode(),
        f"{planted}\r\n\r\n".encode(),
        f"HTTP/1.1 200 OK\r\nX-A: {planted * 2000}\r\n\r\n".encode(),
        b"",
    ]
    for answer in answers:
        async with serving(answer) as site:
            with pytest.raises(Unreachable) as refused:
                await fetched(site, path=f"/{planted}?{planted}")
        text = str(refused.value)
        assert text.startswith(f"{NAME}:{site.port}: ")
        assert planted not in text
    with pytest.raises(Unreachable) as refused:
        await Web(Zone()).get(f"https://user:{planted}@{NAME}/", insecure=True, most_bytes=MOST)
    assert planted not in str(refused.value)


async def test_what_a_stranger_sent_is_told_short_and_escaped() -> None:
    told = await refusal(json(kind="a\x1b[31m" + "x" * 5000))
    assert len(told) < 200
    assert told.isprintable()


async def test_a_name_that_is_not_there_is_named() -> None:
    for zone, reason in (
        (Zone(), "was not found: Name or service"),
        (Zone(login_example=[[]]), "has no address"),
    ):
        with pytest.raises(Unreachable, match=reason):
            await Web(zone).get(f"https://{NAME}/", insecure=False, most_bytes=MOST)


async def test_a_port_where_nobody_listens_is_named() -> None:
    async with serving(b"") as site:
        pass
    with pytest.raises(Unreachable, match="cannot be connected to"):
        await fetched(site)


# Names


async def test_a_name_server_that_never_answers_costs_one_thread_a_name_and_holds_up_no_other_name() -> None:
    may_answer = threading.Event()
    asked: list[str] = []

    def look_up(host: str) -> Sequence[str]:
        asked.append(host)
        if host == "slow.example":
            assert may_answer.wait(30)
        return ["127.0.0.1"]

    names = SystemNames(look_up, most=2)
    async with serving(json()) as site:
        web = Web(names, answer_seconds=0.2)
        for _ in range(3):
            with pytest.raises(Unreachable, match="no answer"):
                await web.get("http://slow.example/", insecure=True, most_bytes=MOST)
        assert await fetched(site, web=web) == b'{"keys":[]}'
    assert asked == ["slow.example", NAME]
    waiting = asyncio.ensure_future(names("slow.example"))
    await asyncio.sleep(0)
    may_answer.set()
    assert await waiting == ["127.0.0.1"]
    assert asked == ["slow.example", NAME]


async def test_more_dead_names_than_threads_are_refused_at_once() -> None:
    may_answer = threading.Event()

    def look_up(host: str) -> Sequence[str]:
        assert may_answer.wait(30)
        raise OSError("no such name")

    names = SystemNames(look_up, most=2)
    waiting = [asyncio.ensure_future(names(f"{n}.example")) for n in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unreachable, match="too many names"):
        await Web(names).get("http://third.example/", insecure=True, most_bytes=MOST)
    may_answer.set()
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, OSError)


async def test_the_systems_names_are_numbers() -> None:
    found = await SystemNames()("localhost")
    assert found
    assert all(ip_address(address).is_loopback for address in found)
