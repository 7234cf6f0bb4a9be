"""The KeyService in AWS KMS: its keys never leave it, it asks its policies who may use them, and CloudTrail has each use.

What is stored is the byte 0x02 and the CiphertextBlob of Encrypt. The encryption context binds tenant, purpose and record, and KMS opens
nothing under another one; Decrypt names the key, so that what somebody else's key wrapped is never taken for ours.

Fails closed, and each failure says whether asking again may help:

    KMS says that it will not (`_REFUSED`)         KeyRefused
    all else: throttled, too slow, 5xx, cut off,
    no or stale credentials, a code nobody knows   KeysUnavailable

Asked once: the keyring decides when again. The texts have KMS's code and the key's ARN; what the SDK says besides may hold what was sent.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from gateway.envelope.keys import KEY_BYTES, Context, Material
from gateway.envelope.ports import KeyRefused, KeysUnavailable
from tenants import kms

if TYPE_CHECKING:
    from aiobotocore.session import AioSession
    from types_aiobotocore_kms import KMSClient

log = logging.getLogger(__name__)

FORM: Final = 2
"""The first byte of what this wraps; what a key file wrapped has another (`key_file.py`)."""
MOST_WRAPPED_BYTES: Final = 6_144  # KMS's bound of a CiphertextBlob
MOST_CONNECTIONS: Final = 32
"""At once, to one region; more calls wait, within their time. What is done beside the requests (`MOST_AT_ONCE` of keyring and caretaker)
takes 24 of them at most."""
MOST_REGIONS: Final = 50
"""That have a client here; of the others the one that was not used for longest goes."""
_SERVERS_FAULT: Final = 500
_REFUSED: Final = frozenset(
    {
        *("DisabledException", "KMSInvalidStateException", "NotFoundException", "AccessDeniedException"),
        *("InvalidCiphertextException", "IncorrectKeyException", "InvalidKeyUsageException"),
        *("InvalidArnException", "ValidationException"),
    }
)
"""Codes of KMS that somebody must act on; https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html has them."""
_ADVICE: Final = {
    "DisabledException": "enable the key",
    "KMSInvalidStateException": "look at the key's state: one that waits for its deletion can be kept, and enabled",
    "NotFoundException": "there is no such key in this account and region",
    "AccessDeniedException": "let the gateway's role use kms:Encrypt and kms:Decrypt with this key",
    "InvalidCiphertextException": "the wrapped data key is damaged, or of something else",
    "IncorrectKeyException": "another KMS key wrapped it: if keys.kms_key was changed, set it back",
    "InvalidKeyUsageException": "the key must be a symmetric one for ENCRYPT_DECRYPT",
}
_Call: TypeAlias = "Callable[[KMSClient], Awaitable[Mapping[str, object]]]"


class SdkMissing(OSError):
    """The extra `aws` is not installed. The message is for people."""


@dataclass(slots=True)
class _Region:
    """Its client, and how many calls use it now."""

    client: "KMSClient"
    open: AsyncExitStack
    users: int = 0


class AwsKms:
    """To be entered. `key` is the ARN of the deployment's wrapping key, in whose region `endpoint` is, if one is given; other regions have
    AWS's own. A call has `answer_seconds`, whatever it waits for. Raises SdkMissing.
    """

    def __init__(self, key: str, answer_seconds: float, endpoint: str = "") -> None:
        self._session = _session()
        self._key, self._region, self._endpoint = key, _region(key), endpoint
        self._answer_seconds = answer_seconds
        self._regions: OrderedDict[str, _Region] = OrderedDict()
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> "AwsKms":
        """The client is made before anybody calls, which takes no answer of KMS's; if that fails, the calls say so."""
        try:
            async with asyncio.timeout(self._answer_seconds):
                async with self._client(self._region):
                    pass
        except Exception as fault:  # noqa: BLE001 - whatever an SDK raises; the start does not need KMS
            log.warning("AWS KMS cannot be used yet (%s)", type(fault).__name__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        for region in self._regions.values():
            await region.open.aclose()

    async def wrap(self, material: Material, context: Context, with_key: str | None = None) -> bytes:
        key = with_key or self._key
        blob = await self._asked(
            key,
            "CiphertextBlob",
            lambda client: client.encrypt(
                KeyId=key, Plaintext=material.reveal(), EncryptionContext=_said(context)
            ),
        )
        if not 0 < len(blob) < MOST_WRAPPED_BYTES:
            raise KeysUnavailable(f"AWS KMS wrapped a data key in {len(blob)} bytes ({key})")
        return bytes([FORM]) + blob

    async def unwrap(self, wrapped: bytes, context: Context, with_key: str | None = None) -> Material:
        if not 1 < len(wrapped) <= MOST_WRAPPED_BYTES or wrapped[0] != FORM:
            raise KeyRefused(
                "the data key was wrapped by something else than AWS KMS: by a key file, say; then unset keys.kms_key, and name the file "
                "with keys.file"
            )
        key = with_key or self._key
        secret = await self._asked(
            key,
            "Plaintext",
            lambda client: client.decrypt(
                KeyId=key, CiphertextBlob=wrapped[1:], EncryptionContext=_said(context)
            ),
        )
        if len(secret) != KEY_BYTES:
            raise KeyRefused(f"what AWS KMS opened is no data key: it has {len(secret)} bytes ({key})")
        return Material(secret)

    async def _asked(self, key: str, part: str, call: _Call) -> bytes:
        """That part of the answer to one call, in its time. A failure is raised outside of what the SDK raised, whose text goes nowhere."""
        region = _region(key)
        try:
            async with asyncio.timeout(self._answer_seconds):
                async with self._client(region) as client:
                    answer = await call(client)
                return bytes(cast("bytes", answer[part]))
        except KeysUnavailable:
            raise
        except TimeoutError:
            said: Exception = KeysUnavailable(f"AWS KMS did not answer in {self._answer_seconds:g} s ({key})")
        except Exception as fault:  # noqa: BLE001 - whatever an SDK raises, and nothing more of it than its name
            said = _told(fault, key)
        raise said

    @asynccontextmanager
    async def _client(self, region: str) -> "AsyncIterator[KMSClient]":
        """It is not closed in this block."""
        found = self._regions.get(region) or await self._opened(region)
        self._regions.move_to_end(region)
        found.users += 1
        try:
            yield found.client
        finally:
            found.users -= 1

    async def _opened(self, region: str) -> _Region:
        async with self._opening:
            if region not in self._regions:
                await self._make_room()
                if await self._session.get_credentials() is None:  # a client would never look for them again
                    raise KeysUnavailable("there are no AWS credentials: give the gateway a role")
                stack = AsyncExitStack()
                client = await stack.enter_async_context(self._made(region))
                self._regions[region] = _Region(client, stack)
            return self._regions[region]

    async def _make_room(self) -> None:
        """Room for one more. The deployment's own region stays: its calls are those of every tenant without a key of its own."""
        if len(self._regions) < MOST_REGIONS:
            return
        idle = (it for it, found in self._regions.items() if not found.users and it != self._region)
        if (oldest := next(idle, None)) is None:
            raise KeysUnavailable(f"keys in {MOST_REGIONS} regions are asked for at once")
        await self._regions.pop(oldest).open.aclose()

    def _made(self, region: str) -> AbstractAsyncContextManager["KMSClient"]:
        from aiobotocore.config import AioConfig

        config = AioConfig(
            connect_timeout=self._answer_seconds,
            read_timeout=self._answer_seconds,
            retries={"total_max_attempts": 1},
            max_pool_connections=MOST_CONNECTIONS,
            ignore_configured_endpoint_urls=True,
            warm_up_loader_caches=True,  # in a thread
        )
        endpoint = self._endpoint if region == self._region else ""
        return self._session.create_client(
            "kms", region_name=region, endpoint_url=endpoint or None, config=config
        )


def _session() -> "AioSession":
    """What the SDK logs at DEBUG has the keys in it, whatever this program's own level is."""
    try:
        from aiobotocore.session import get_session
    except ImportError:
        raise SdkMissing(
            "keys.kms_key needs the AWS SDK, which is not installed: pip install 'model-gateway[aws]'"
        ) from None
    for name in ("botocore", "aiobotocore"):
        logging.getLogger(name).setLevel(logging.INFO)
    return get_session()


def _region(key: str) -> str:
    """Raises KeyRefused."""
    if (region := kms.region(key)) is None:
        raise KeyRefused(f"{key[:200]!r} is not {kms.FORM}")
    return region


def _said(context: Context) -> dict[str, str]:
    """The encryption context, which CloudTrail has in the clear: names and no secret."""
    return context._asdict()


def _told(fault: Exception, key: str) -> KeyRefused | KeysUnavailable:
    """What KMS said by its code, and the SDK by the name of its exception."""
    from botocore.exceptions import ClientError

    if not isinstance(fault, ClientError):
        return KeysUnavailable(f"AWS KMS cannot be asked: {type(fault).__name__} ({key})")
    code = str(fault.response.get("Error", {}).get("Code", ""))[:100]
    status = fault.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code not in _REFUSED or status >= _SERVERS_FAULT:
        return KeysUnavailable(f"AWS KMS answered {code} ({key})")
    advice = _ADVICE.get(code, "")
    return KeyRefused(f"AWS KMS refused with {code} ({key})" + (f": {advice}" if advice else ""))
