"""The same as `restoring`, over gRPC: each reply is a message, and is here as a whole."""

from collections.abc import Callable
from functools import partial

from gateway.call import Listener, Reply, Standing
from gateway.frontends.restoring import Hold, aside
from gateway.privacy.mask import Screen
from gateway.triton.grpc_client import GrpcReply
from gateway.wire.restored_messages import MessageTexts, restored_message


class RestoredGrpc:
    """One reply is told at the end; those of a decoupled model as they come. What goes wrong is told in the model's words."""

    def __init__(self, listener: Listener, screen: Screen, hold: Hold) -> None:
        self._listener = listener
        self._screen = screen
        self._hold = hold
        self._reply: GrpcReply | None = None
        self._message: bytes | None = None
        self._texts: MessageTexts | None = None

    async def start(self, reply: Reply, standing: Standing) -> None:
        if not isinstance(reply, GrpcReply):
            raise TypeError("a reply of another protocol")
        self._reply = reply
        if not reply.is_ordered:
            self._texts = MessageTexts(self._screen)
        await self._listener.start(reply, standing)

    def take(self, piece: bytes) -> bool | None:
        if self._texts is None:
            self._message = piece
            return None
        for told in [piece] if self._is_error else self._texts.feed(piece):
            self._listener.take(told)
        return None

    @property
    def _is_error(self) -> bool:
        """The piece is the text of one."""
        return self._reply is not None and self._reply.is_error

    async def end(self) -> int:
        for told in self._texts.end() if self._texts is not None else ():
            self._listener.take(told)
        if self._message is not None:
            self._listener.take(await self._restored(self._message))
        return await self._listener.end()

    async def _restored(self, message: bytes) -> bytes:
        if self._is_error or self._reply is None:
            return message
        self._hold(len(message))
        act = partial(restored_message, message, self._screen, is_stream=self._reply.is_stream)
        return await aside(len(message), act)


def over_grpc(screen: Screen | None, hold: Hold) -> Callable[[Listener], Listener] | None:
    """As `restoring.over_http`."""
    if screen is None or not screen.restores:
        return None
    hold(screen.remembered_bytes)
    return lambda listener: RestoredGrpc(listener, screen, hold)
