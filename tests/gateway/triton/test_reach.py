"""HTTP in the clear goes to this host and to declared networks, HTTPS to public addresses and to those; whatever a name says of itself."""

import ssl

import pytest

from gateway.settings import Settings, SettingsError, load
from gateway.triton.client import Client, NotSent
from gateway.triton.reach import LOOPBACK, Reach
from tests.worlds.openai import OpenAiWorld

TLS = LOOPBACK.over_tls()
DECLARED = Reach.of(("10.1.0.0/16", "fd00::/8"))


@pytest.mark.parametrize(
    ("address", "alone", "declared"),
    [
        ("127.0.0.1", True, True),
        ("127.9.9.9", True, True),
        ("::1", True, True),
        ("::ffff:127.0.0.1", True, True),
        ("10.1.2.3", False, True),
        ("::ffff:10.1.2.3", False, True),
        ("fd00::7", False, True),
        ("10.2.0.1", False, False),
        ("192.168.1.1", False, False),
        ("169.254.169.254", False, False),
        ("fe80::1%eth0", False, False),
        ("0.0.0.0", False, False),  # noqa: S104 - nobody listens there
        ("::", False, False),
        ("8.8.8.8", False, False),
        ("localhost", False, False),
        ("", False, False),
    ],
)
def test_what_may_be_called_in_the_clear(address: str, alone: bool, declared: bool) -> None:  # noqa: FBT001 - columns
    assert (LOOPBACK.holds(address), DECLARED.holds(address)) == (alone, declared)


@pytest.mark.parametrize("host", ["192.0.2.7", "::", "0", "3221225991"])
async def test_nobody_beyond_is_connected_to_however_the_address_is_written(host: str) -> None:
    with pytest.raises(NotSent, match=r"neither this host nor in a network of upstream\.private_networks"):
        await Client(host, 9).ask("GET", "/")


@pytest.mark.parametrize(
    ("address", "alone", "declared"),
    [
        ("8.8.8.8", True, True),
        ("::ffff:8.8.8.8", True, True),
        ("2606:4700::1", True, True),
        ("10.1.2.3", False, True),
        ("fd00::7", False, True),
        ("10.2.0.1", False, False),
        ("127.0.0.1", False, False),
        ("::1", False, False),
        ("::ffff:127.0.0.1", False, False),
        ("169.254.169.254", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("64:ff9b::a9fe:a9fe", False, False),
        ("fd00:ec2::254", False, True),
        ("100.100.100.200", False, False),
        ("fe80::1%eth0", False, False),
        ("0.0.0.0", False, False),  # noqa: S104 - nobody listens there
        ("::", False, False),
        ("localhost", False, False),
        ("", False, False),
    ],
)
def test_what_may_be_called_over_tls(address: str, alone: bool, declared: bool) -> None:  # noqa: FBT001 - columns
    assert (TLS.holds(address), DECLARED.over_tls().holds(address)) == (alone, declared)


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "10.0.0.8"])
async def test_a_name_leads_no_call_over_tls_to_this_host_or_where_only_this_host_can_go(
    address: str,
) -> None:
    async def names(_: str) -> list[str]:
        return [address]

    client = Client("far.example", 9, reach=TLS, trust=ssl.create_default_context, names=names)
    with pytest.raises(NotSent, match=rf"far\.example is at {address}: neither public nor in a network"):
        await client.ask("GET", "/")


async def test_a_name_is_called_at_the_address_that_was_judged() -> None:
    async with OpenAiWorld() as server:
        client = Client("localhost", server.port)  # ::1 may come first, where nobody listens
        assert (await client.ask("GET", "/health/ready")).status == 200
        client.close()


async def test_an_address_in_the_clothes_of_a_number_is_judged_by_what_it_is() -> None:
    async with OpenAiWorld() as server:
        client = Client(str(0x7F000001), server.port)
        assert (await client.ask("GET", "/health/ready")).status == 200
        client.close()


async def test_each_address_of_a_name_is_judged_and_no_second_answer_comes_in_between() -> None:
    answers = [["192.0.2.7", "127.0.0.1"], ["192.0.2.7"]]

    async def names(_: str) -> list[str]:
        return answers.pop(0)

    async with OpenAiWorld() as server:
        client = Client("far.example", server.port, names=names)
        assert (await client.ask("GET", "/health/ready")).status == 200
        client.abort()
        assert len(answers) == 1  # a connection is one look-up
        with pytest.raises(NotSent, match=r"far\.example is at 192\.0\.2\.7: neither"):
            await Client("far.example", server.port, names=names).ask("GET", "/")


def test_the_networks_are_declared_by_setting_and_a_fault_is_named() -> None:
    found = load({"GATEWAY_UPSTREAM_PRIVATE_NETWORKS": "10.1.0.0/16, fd00::/8"}).upstream
    assert Reach.of(found.networks) == DECLARED
    assert Settings().upstream.networks == ()
    for text in ("10.1.0.1/16", "10.1.0.0/16,", "everywhere", "10.1.0.0/16,10.1.0.0/16"):
        with pytest.raises(
            SettingsError, match=r"GATEWAY_UPSTREAM_PRIVATE_NETWORKS: upstream\.private_networks\["
        ):
            load({"GATEWAY_UPSTREAM_PRIVATE_NETWORKS": text})
