"""An OpenTelemetry collector: OTLP over HTTP with protobuf bodies, decoded by OpenTelemetry's own messages."""

import asyncio
import gzip
from dataclasses import dataclass, field
from typing import Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(slots=True)
class CollectorWorld:
    """Keeps what it is sent. With `status` it answers that, and keeps nothing; silent it never answers."""

    status: int = 200
    is_silent: bool = False
    url: str = ""
    asked: int = 0
    metrics: list[ExportMetricsServiceRequest] = field(default_factory=list)
    traces: list[ExportTraceServiceRequest] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._converse, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    @property
    def figures(self) -> dict[str, Metric]:
        """The newest ones, by name."""
        (resource,) = self.metrics[-1].resource_metrics
        (scope,) = resource.scope_metrics
        return {metric.name: metric for metric in scope.metrics}

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.traces
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().lower().split("\r\n")[:-2]
                headers = dict(line.split(": ", 1) for line in lines)
                body = await reader.readexactly(int(headers["content-length"]))
                self.asked += 1
                if self.is_silent:
                    await reader.read()
                    return
                if self.status == 200:
                    self._keep(first.split(" ")[1], headers, body)
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % self.status)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    def _keep(self, path: str, headers: dict[str, str], body: bytes) -> None:
        assert headers["content-type"] == "application/x-protobuf"
        data = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
        if path == "/v1/metrics":
            self.metrics.append(ExportMetricsServiceRequest.FromString(data))
        else:
            assert path == "/v1/traces"
            self.traces.append(ExportTraceServiceRequest.FromString(data))


def plain(attributes: "list[KeyValue]") -> dict[str, str | int]:
    """Attributes as a dictionary; a number stays one."""
    return {
        a.key: a.value.int_value if a.value.HasField("int_value") else a.value.string_value
        for a in attributes
    }
