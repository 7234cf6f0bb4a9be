"""A port that is handed over: who had begun to connect is served, and who begins is heard by the next one."""

import socket

import pytest

from gateway.process import close_listeners, connections_at, deafen, waiting_at


def test_who_has_begun_to_connect_is_served_and_who_begins_is_neither_taken_nor_refused_until_nobody_listens() -> (
    None
):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        port = address[1]
        with socket.create_connection(address) as early:
            assert (waiting_at(port), connections_at(port)) == (1, 0)
            deafen(port)
            with pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.1)
            accepted, _ = listener.accept()
            with accepted:
                assert (waiting_at(port), connections_at(port)) == (0, 1)
                close_listeners(port)
                early.sendall(b"still here")
                assert accepted.recv(100) == b"still here"
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(address, timeout=1)
        assert connections_at(port) == 0


def test_who_began_at_one_that_is_deaf_is_heard_by_another_one_at_that_port() -> None:
    """TCP asks again after a second, and by then there is one listener."""
    with socket.socket() as deaf, socket.socket() as other:
        for one in (deaf, other):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        port = deaf.getsockname()[1]
        deafen(port)
        with socket.socket() as client:
            client.settimeout(0)
            with pytest.raises(BlockingIOError):
                client.connect(("127.0.0.1", port))
            close_listeners(port)
            other.bind(("127.0.0.1", port))
            other.listen()
            other.settimeout(10)
            accepted, _ = other.accept()
            accepted.close()
