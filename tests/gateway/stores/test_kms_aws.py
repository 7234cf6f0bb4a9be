"""AWS KMS as a KeyService: what it refuses and what it cannot answer are told apart, and no secret is in any word of it."""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from botocore.credentials import CredentialResolver
from botocore.loaders import Loader

from gateway.envelope.keys import Material
from gateway.envelope.ports import KeyRefused, KeyService, KeysUnavailable
from gateway.stores.kms_aws import MOST_CONNECTIONS, MOST_REGIONS, AwsKms
from tests.contracts.key_service import CONTEXT, SECRET, KeyServiceContract
from tests.worlds.kms import KmsWorld, arn, kms_world
from tests.worlds.moto_process import asked, moto

SDK_DATA = Loader()
"""What the SDK knows of AWS, read from its files once."""


@asynccontextmanager
async def opened(url: str, key: str = arn(1), answer_seconds: float = 10.0) -> AsyncIterator[AwsKms]:
    service = AwsKms(key, answer_seconds, url)
    service._session.set_credentials("test", "test")
    service._session.register_component("data_loader", SDK_DATA)
    async with service:
        yield service


@pytest.fixture
async def world() -> AsyncIterator[KmsWorld]:
    async with kms_world() as found:
        yield found


@pytest.fixture
async def service(world: KmsWorld) -> AsyncIterator[AwsKms]:
    async with opened(world.url) as found:
        yield found


class TestAwsKmsOverAWorldOfKeyStates(KeyServiceContract):
    @pytest.fixture
    async def service(self, world: KmsWorld) -> AsyncIterator[KeyService]:
        async with opened(world.url) as found:
            yield found


@pytest.fixture(scope="session")
def moto_port() -> Iterator[int]:
    with moto() as port:
        yield port


class TestAwsKmsOverMoto(KeyServiceContract):
    @pytest.fixture
    async def service(self, moto_port: int) -> AsyncIterator[KeyService]:
        key = asked(moto_port, "CreateKey")["KeyMetadata"]["Arn"]
        async with opened(f"http://127.0.0.1:{moto_port}", key) as found:
            yield found


async def test_kms_is_told_tenant_purpose_and_record_and_which_key(world: KmsWorld, service: AwsKms) -> None:
    wrapped = await service.wrap(Material(SECRET), CONTEXT, arn(2))
    await service.unwrap(wrapped, CONTEXT, arn(2))
    assert world.acts == [(arn(2), {"tenant": "t_acme", "purpose": "audit", "record": "d_1"})] * 2
    assert wrapped[0] == 2


async def test_what_another_key_wrapped_is_not_opened(service: AwsKms) -> None:
    wrapped = await service.wrap(Material(SECRET), CONTEXT, arn(2))
    with pytest.raises(
        KeyRefused, match=r"IncorrectKeyException .*if keys\.kms_key was changed, set it back"
    ):
        await service.unwrap(wrapped, CONTEXT)


async def test_what_a_key_file_wrapped_is_refused_in_words_and_without_a_call(
    world: KmsWorld, service: AwsKms
) -> None:
    with pytest.raises(KeyRefused, match=r"by a key file, say; then unset keys\.kms_key"):
        await service.unwrap(b"\x01" + bytes(96), CONTEXT)
    assert world.calls == 0


@pytest.mark.parametrize("state", ["Disabled", "PendingDeletion", "Unavailable"])
async def test_a_key_that_is_not_enabled_is_refused_and_opens_again_when_it_is(
    world: KmsWorld, service: AwsKms, state: str
) -> None:
    wrapped = await service.wrap(Material(SECRET), CONTEXT)
    world.states[arn(1)] = state  # type: ignore[assignment]
    with pytest.raises(KeyRefused):
        await service.unwrap(wrapped, CONTEXT)
    with pytest.raises(KeyRefused):
        await service.wrap(Material(SECRET), CONTEXT)
    assert await service.wrap(Material(SECRET), CONTEXT, arn(2))
    world.states[arn(1)] = "Enabled"
    assert (await service.unwrap(wrapped, CONTEXT)).reveal() == SECRET


REFUSED = (
    *("DisabledException", "KMSInvalidStateException", "NotFoundException", "AccessDeniedException"),
    *("InvalidCiphertextException", "IncorrectKeyException", "InvalidKeyUsageException"),
    *("InvalidArnException", "ValidationException"),
)
UNAVAILABLE = (
    (400, "ThrottlingException"),
    (400, "LimitExceededException"),
    (400, "ExpiredTokenException"),
    (400, "UnrecognizedClientException"),
    (400, "InvalidSignatureException"),
    (400, "ANewException"),
    (500, "KMSInternalException"),
    (500, "KeyUnavailableException"),
    (503, "DependencyTimeoutException"),
    (503, "AccessDeniedException"),  # of a proxy in between, say
)


@pytest.mark.parametrize("code", REFUSED)
async def test_what_kms_refuses_is_refused(world: KmsWorld, service: AwsKms, code: str) -> None:
    world.fault = (400, code)
    with pytest.raises(KeyRefused, match=code):
        await service.wrap(Material(SECRET), CONTEXT)
    assert world.calls == 1


@pytest.mark.parametrize("fault", [*UNAVAILABLE, "cut", "lost", "nonsense", "empty"], ids=str)
async def test_all_else_is_an_outage_asked_once_and_over_when_it_is_over(
    world: KmsWorld,
    service: AwsKms,
    fault: tuple[int, str],
) -> None:
    wrapped = await service.wrap(Material(SECRET), CONTEXT)
    world.fault = fault
    for call in (
        service.wrap(Material(SECRET), CONTEXT),
        service.unwrap(wrapped, CONTEXT),
    ):
        with pytest.raises(KeysUnavailable):
            await call
    assert world.calls == 3
    world.fault = ""
    assert (await service.unwrap(wrapped, CONTEXT)).reveal() == SECRET


async def test_an_answer_has_its_time_whatever_it_waits_for(world: KmsWorld) -> None:
    async with opened(world.url, answer_seconds=2.0) as service:  # to make a client alone takes half a second
        await service.wrap(Material(SECRET), CONTEXT)
        world.fault = "slow"
        many = [service.wrap(Material(SECRET), CONTEXT) for _ in range(3 * MOST_CONNECTIONS)]
        found = await asyncio.wait_for(asyncio.gather(*many, return_exceptions=True), 5)
        assert {str(it) for it in found} == {f"AWS KMS did not answer in 2 s ({arn(1)})"}
        world.fault = ""
        assert await service.wrap(Material(SECRET), CONTEXT)


async def test_many_calls_share_few_connections(world: KmsWorld, service: AwsKms) -> None:
    world.fault = "slow"
    many = asyncio.gather(*(service.wrap(Material(SECRET), CONTEXT) for _ in range(3 * MOST_CONNECTIONS)))
    await asyncio.wait_for(world.came.acquire(), 5)
    world.go.set()
    await many
    assert world.calls == 3 * MOST_CONNECTIONS
    assert world.connections <= MOST_CONNECTIONS


async def test_where_nobody_listens_it_is_an_outage() -> None:
    async with kms_world() as gone:
        url = gone.url
    async with opened(url) as service:
        with pytest.raises(KeysUnavailable, match="EndpointConnectionError"):
            await service.wrap(Material(SECRET), CONTEXT)


async def test_without_credentials_it_is_an_outage_until_there_are_some(world: KmsWorld) -> None:
    service = AwsKms(arn(1), 10.0, world.url)
    service._session.register_component("credential_provider", _NoCredentials([]))
    async with service:
        with pytest.raises(KeysUnavailable, match="no AWS credentials"):
            await service.wrap(Material(SECRET), CONTEXT)
        assert world.calls == 0
        service._session.set_credentials("test", "test")
        assert await service.wrap(Material(SECRET), CONTEXT)


class _NoCredentials(CredentialResolver):
    async def load_credentials(self) -> None:  # type: ignore[override]
        return None


@pytest.mark.parametrize(
    "key",
    [
        "alias/ours",
        "arn:aws:kms:eu-west-1:111122223333:alias/ours",
        "arn:aws:kms:evil.example#-1:111122223333:key/a",
        "00000000-0000-0000-0000-000000000001",
    ],
)
async def test_only_the_arn_of_a_key_names_one(world: KmsWorld, service: AwsKms, key: str) -> None:
    with pytest.raises(KeyRefused, match="is not the ARN of a KMS key"):
        await service.wrap(Material(SECRET), CONTEXT, key)
    assert world.calls == 0


async def test_no_secret_is_in_what_is_logged_or_raised(
    world: KmsWorld, service: AwsKms, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrapped = await service.wrap(Material(SECRET), CONTEXT)
    await service.unwrap(wrapped, CONTEXT)
    said = []
    for fault in (*UNAVAILABLE, (400, "AccessDeniedException"), (400, "ValidationException")):
        world.fault = fault  # its message has all that was sent
        with pytest.raises((KeyRefused, KeysUnavailable)) as raised:
            await service.wrap(Material(SECRET), CONTEXT)
        assert raised.value.__context__ is None
        said.append(str(raised.value))
    told = caplog.text + "".join(said)
    assert not any(it in told for it in (base64.b64encode(SECRET).decode(), SECRET.hex(), repr(SECRET)[2:40]))


async def test_the_clients_of_many_regions_are_bounded_and_none_that_is_used_goes(
    world: KmsWorld, service: AwsKms
) -> None:
    regions = [f"eu-north-{number}" for number in range(1, MOST_REGIONS + 2)]
    async with service._client(regions[0]) as first:
        for region in regions[1:]:
            async with service._client(region) as client:
                assert client.meta.region_name == region
        assert len(service._regions) == MOST_REGIONS
        assert service._regions.keys().isdisjoint({regions[1], regions[2]})  # the longest unused ones
        async with service._client(regions[0]) as again:
            assert again is first
    assert await service.wrap(Material(SECRET), CONTEXT)  # the deployment's own stays, however long unused
    assert world.connections == 1
    async with service._client(regions[1]) as anew:
        assert anew.meta.region_name == regions[1]
    assert len(service._regions) == MOST_REGIONS


async def test_while_all_regions_are_used_another_one_waits_for_the_next_call(service: AwsKms) -> None:
    async with AsyncExitStack() as used:
        for number in range(1, MOST_REGIONS):
            await used.enter_async_context(service._client(f"eu-north-{number}"))
        with pytest.raises(KeysUnavailable, match=f"keys in {MOST_REGIONS} regions are asked for at once"):
            await used.enter_async_context(service._client("eu-south-1"))
    async with service._client("eu-south-1") as client:
        assert client.meta.region_name == "eu-south-1"
