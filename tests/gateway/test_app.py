"""What a start tells of the listeners that others reach."""

from pathlib import Path

import pytest

from gateway.app import tell_what_is_in_the_clear
from gateway.settings import CLOSED, Settings, Tls

EVERYWHERE = Settings(host="0.0.0.0", operator_host="::", grpc_host="192.0.2.1")  # noqa: S104 - nobody listens there


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (EVERYWHERE, ["public listener on 0.0.0.0", "operator listener on ::", "gRPC listener on 192.0.2.1"]),
        (Settings(host="gateway.internal"), ["public listener on gateway.internal"]),
        (Settings(grpc_host="192.0.2.1", grpc_port=CLOSED), []),
        (Settings(host="::1", operator_host="127.0.0.2", grpc_host="localhost"), []),
        (Settings(host="192.0.2.1", tls=Tls(certificate=Path("tls.crt"), key=Path("tls.key"))), []),
    ],
    ids=["everywhere", "a name", "closed", "loopback", "TLS"],
)
def test_each_listener_in_the_clear_that_others_reach_is_told_of_at_the_start(
    settings: Settings, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    tell_what_is_in_the_clear(settings)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * len(told)
    for record, of in zip(caplog.records, told, strict=True):
        assert f"the {of} is in the clear" in record.getMessage()
