"""A look at a Triton past its gateway, as a control: from when until when it says that it unloads a model."""

import http.client
import json
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gateway.state import clock
from tests.e2e.fleets import logged
from tests.e2e.world import Demo, tritons

_PAUSE_SECONDS = 0.005


@dataclass(slots=True)
class Watch:
    """Asks one server again and again what state its models are in; `begun` is when it first said UNLOADING, for each time."""

    state: Path
    port: int
    headers: dict[str, str]
    begun: list[tuple[str, float]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        before: set[str] = set()
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            while not self.ended.wait(_PAUSE_SECONDS):
                connection.request("POST", "/v2/repository/index", b"{}", self.headers)
                answer = connection.getresponse()
                listed = json.loads(answer.read())
                assert answer.status == 200, listed
                unloading = {model["name"] for model in listed if model.get("state") == "UNLOADING"}
                self.begun += [(model, clock()) for model in unloading - before]
                before = unloading

    def unload_seconds(self, since: float) -> float:
        """What Triton took for the first unload since then: from its word that it unloads to its log that it has."""
        model, begun = next(seen for seen in self.begun if seen[1] >= since)
        told = (line.at for line in logged(self.state) if (line.model, line.what) == (model, "unloaded"))
        return next(at for at in told if at >= begun) - begun


@contextmanager
def watching(demo: Demo) -> Iterator[Watch]:
    """The only server of this gateway, while the block runs."""
    (server,) = tritons(demo.state)
    words = Path(f"/proc/{server}/cmdline").read_text().split("\0")
    (port,) = (word.partition("=")[2] for word in words if word.startswith("--http-port="))
    # --http-restricted-api=model-repository,...:header=secret
    restricted = (re.fullmatch(r"--http-restricted-api=[^:]*:([^=]+)=(.*)", word) for word in words)
    watch = Watch(demo.state, int(port), {found[1]: found[2] for found in restricted if found})
    thread = threading.Thread(target=watch.run)
    thread.start()
    try:
        yield watch
    finally:
        watch.ended.set()
        thread.join()
