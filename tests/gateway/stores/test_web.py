"""What a provider, a name server or a URL does, a fetch goes where its issuer says or nowhere, and ends in time."""

import asyncio
import os
import shutil
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
from tests.gateway.stores.web_world import (
    LOOPBACK,
    MOST,
    NAME,
    Authority,
    Zone,
    fetched,
    json,
    refusal,
    serving,
)
from tests.tenants.test_urls import NOT_PUBLIC, PUBLIC


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


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


PUBLIC_WORLD = """
import asyncio, pathlib, sys
from gateway.stores.web import Web
from tests.gateway.stores.web_world import NAME, Authority, Zone, serving, json
async def main():
    authority = Authority(pathlib.Path(sys.argv[1]))
    async with serving(json(), authority.server([NAME]), "8.8.8.8") as site:
        zone = Zone(login_example=[["127.0.0.1", "8.8.8.8"]])
        print(await Web(zone, authority.trusting).get(site.url("https"), insecure=False, most_bytes=100))
asyncio.run(main())
"""


async def test_a_public_address_is_connected_to_and_the_private_one_beside_it_is_not(tmp_path: Path) -> None:
    """In a network of its own, of which loopback is all there is, and has a public address."""
    alone = ("unshare", "--user", "--map-root-user", "--net")
    if not shutil.which("ip") or await (await asyncio.create_subprocess_exec(*alone, "true")).wait():
        pytest.skip("this machine lets nobody have a network of his own")
    network = 'ip link set lo up && ip address add 8.8.8.8/32 dev lo && exec "$@"'
    process = await asyncio.create_subprocess_exec(
        *(*alone, "sh", "-c", network, "sh", sys.executable, "-c", PUBLIC_WORLD, str(tmp_path)),
        cwd=Path(__file__).parents[3],
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        output, _ = await process.communicate()
    assert (output.strip(), process.returncode) == (b"b'{\"keys\":[]}'", 0)


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


async def test_a_name_that_no_thread_could_be_had_for_is_looked_up_the_next_time() -> None:
    names = SystemNames(lambda _: ["127.0.0.1"])
    before = threading.stack_size(1 << 46)  # more than any machine has
    try:
        with pytest.raises(Unreachable, match="cannot be looked up"):
            await Web(names).get("https://login.example/", insecure=False, most_bytes=MOST)
    finally:
        threading.stack_size(before)
    assert await names("login.example") == ["127.0.0.1"]


async def test_the_systems_names_are_numbers() -> None:
    found = await SystemNames()("localhost")
    assert found
    assert all(ip_address(address).is_loopback for address in found)


async def test_what_fetches_is_loaded_by_the_first_fetch_and_not_by_a_gateway_that_starts() -> None:
    script = (
        "import asyncio, sys\n"
        "import gateway.app\n"
        "from gateway.state import opened_web\n"
        "web = opened_web(5.0)\n"
        "print('aiohttp' in sys.modules)\n"
        "async def both():\n"
        "    return await asyncio.gather(*(web.get(sys.argv[1], insecure=True, most_bytes=100) for _ in range(2)))\n"
        "print(asyncio.run(both()))"
    )
    async with serving(json()) as site:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script, site.url(host="127.0.0.1")),
            cwd=Path(__file__).parents[3],
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            said, _ = await process.communicate()
    assert said.decode().splitlines() == ["False", str([b'{"keys":[]}'] * 2)]
