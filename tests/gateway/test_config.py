"""A configuration says what a process starts with; environment and command line go before it, and nonsense is named with its line."""

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import read
from gateway.settings import Settings, SettingsError, load
from tenants.documents import Source
from tenants.errors import Faulty

DESIGN = """\
listen: {http: "127.0.0.1:8000", grpc: "127.0.0.1:8001"}
operator_listen: "0.0.0.0:9000"
state: ./state
documents: ../documents
policies: /etc/policies
http:
  grace_seconds: 5
  head_bytes: 2048
triton: {start_seconds: 1.5}
"""


def config(text: str) -> Settings:
    return read(Source("gateway.yaml", "/srv", text.encode()))


def faults(text: str) -> list[str]:
    with pytest.raises(Faulty) as fault:
        config(text)
    return [str(it) for it in fault.value.faults]


def test_a_file_is_read_as_the_design_writes_it_with_its_paths_relative_to_it() -> None:
    found = config(DESIGN)
    assert (found.host, found.port) == ("127.0.0.1", 8000)
    assert (found.grpc_host, found.grpc_port) == ("127.0.0.1", 8001)
    assert (found.operator_host, found.operator_port) == ("0.0.0.0", 9000)  # noqa: S104
    assert (found.state, found.policies) == (Path("/srv/state"), Path("/etc/policies"))
    assert found.documents == Path("/srv/../documents")
    assert (found.http.grace_seconds, found.http.head_bytes, found.triton.start_seconds) == (5.0, 2048, 1.5)
    assert found.http.head_seconds == Settings().http.head_seconds


def test_the_command_line_goes_before_the_environment_that_before_the_file_that_before_the_default() -> None:
    file = config(DESIGN)
    environ = {"GATEWAY_PORT": "8002", "GATEWAY_HTTP_HEAD_BYTES": "4096"}
    assert load({}, file).port == 8000
    assert load(environ, file).port == 8002
    assert load(environ, file, port=8003, state=None).port == 8003
    found = load(environ, file, port=8003, state=None)
    assert (found.http.head_bytes, found.http.grace_seconds, found.state) == (4096, 5.0, Path("/srv/state"))
    assert found.http.keep_alive_seconds == Settings().http.keep_alive_seconds


def test_an_empty_file_says_nothing() -> None:
    assert config("") == config("# nothing\n") == Settings()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "colour: red",
            "1: colour: unknown key; known are listen, operator_listen, state, policies, documents",
        ),
        ("state: a\n---\nstate: b", "3: is a second document"),
        ("http: {grace: 1}", "1: http.grace: unknown key; known are head_bytes"),
        ("listen: {https: '127.0.0.1:1'}", "1: listen.https: unknown key; known are http, grpc"),
        ("listen: 127.0.0.1:8080", "1: listen: must be a mapping"),
        ("listen: {http: 8080}", "1: listen.http: must be a text"),
        ("listen: {http: ':8080'}", "1: listen.http: must be an address and a port"),
        ("listen: {http: localhost}", "1: listen.http: must be an address and a port"),
        ("listen: {http: 'localhost:65536'}", "1: listen.http: must be an address and a port"),
        ("listen: {http: 'localhost:²'}", "1: listen.http: must be an address and a port"),
        ("listen: {grpc: nowhere}", "1: listen.grpc: must be an address and a port"),
        ("operator_listen: ''", "1: operator_listen: must be a text"),
        ("host: 127.0.0.1", "1: host: is said with listen.http"),
        ("operator_port: 1", "1: operator_port: is said with operator_listen"),
        ("repository: models", "1: repository: is for gateway demo"),
        (
            "state: {dynamodb_table: t, region: r}",
            "1: state: must be a folder; a state in DynamoDB and S3 is not built",
        ),
        ("state: 7", "1: state: must be a text"),
        ("state:", "1: state: is empty"),
        ("documents: []", "1: documents: must be a text"),
        ("http: {grace_seconds: -1}", "1: http.grace_seconds: must be between 0 and"),
        ("http: {grace_seconds: '1'}", "1: http.grace_seconds: must be of type float"),
        ("http: {grace_seconds: 1e3}", "1: http.grace_seconds: '1e3' is read differently"),
        ("http: {grace_seconds: true}", "1: http.grace_seconds: must be of type float"),
        ("http: {head_bytes: 2048.0}", "1: http.head_bytes: must be of type int"),
        ("http: {head_bytes: 1}", "1: http.head_bytes: must be between 1024 and"),
        # A look may take two answers; one that takes as long as it is good for would be followed by another for ever.
        ("directory: {answer_seconds: 1.5}", "1: directory.answer_seconds: must be between 0.1 and 1.4"),
        ("http: [1]", "1: http: must be a mapping"),
        ("state: a\nstate: b", "2: the key 'state' was there before, in line 1"),
        ("state: &x a", "1: anchors"),
        ("- 1", "1: must be a mapping"),
    ],
)
def test_what_makes_no_sense_is_named_with_its_line(text: str, fault: str) -> None:
    assert faults(text)[0].startswith(f"gateway.yaml:{fault}")


def test_every_fault_is_named() -> None:
    assert [it.split(": ")[0] for it in faults("a: 1\nstate: 7\nhttp:\n  b: 2\n  head_bytes: x")] == [
        f"gateway.yaml:{line}" for line in (1, 2, 4, 5)
    ]


def _paths(tree: Any, path: str = "") -> list[tuple[str, Any]]:
    """Every number among the knobs, with its bounds."""
    found = []
    for knob in fields(tree):
        value, at = getattr(tree, knob.name), f"{path}{knob.name}"
        if is_dataclass(value):
            found += _paths(value, f"{at}.")
        elif "." in at and isinstance(value, int | float):
            found.append((at, (type(value), knob.metadata)))
    return found


NUMBERS = [it for it in _paths(Settings()) if not it[0].startswith("tokens.")]
"""Each by itself; those of tokens must fit one another."""


@given(st.data())
def test_every_knob_of_a_room_can_be_said_in_the_file_and_is_what_the_environment_would_make_of_it(
    data: st.DataObject,
) -> None:
    path, (kind, bounds) = data.draw(st.sampled_from(NUMBERS))
    number = data.draw(st.integers(int(bounds["least"]) + 1, int(bounds["most"])))
    room, _, knob = path.partition(".")
    by_environment = load({f"GATEWAY_{room}_{knob}".upper(): str(number)})
    assert config(f"{room}: {{{knob}: {kind(number)}}}") == by_environment


ORDER = ("fetch", "cooldown", "refresh", "outage")


def test_the_knobs_of_tokens_in_their_order_are_the_same_in_the_file_and_in_the_environment() -> None:
    wanted = {f"{name}_seconds": number for number, name in enumerate(ORDER, 7)}
    said = ", ".join(f"{name}: {number}" for name, number in wanted.items())
    environ = {f"GATEWAY_TOKENS_{name.upper()}": str(number) for name, number in wanted.items()}
    assert load({}, config(f"tokens: {{{said}}}")) == load(environ)
    assert load(environ).tokens.cooldown_seconds == 8
    equal = dict.fromkeys(environ, "9")
    assert load(equal).tokens.outage_seconds == 9


@pytest.mark.parametrize(
    ("knob", "number", "other"),
    [
        ("fetch", "10.5", "cooldown"),
        ("cooldown", "4.5", "fetch"),
        ("cooldown", "301", "refresh"),
        ("refresh", "9", "cooldown"),
        ("refresh", "3601", "outage"),
        ("outage", "299", "refresh"),
    ],
)
def test_knobs_of_tokens_out_of_order_are_refused_with_both_names_wherever_they_are_said(
    knob: str, number: str, other: str
) -> None:
    for environ, file in (
        ({f"GATEWAY_TOKENS_{knob.upper()}_SECONDS": number}, None),
        ({}, config(f"tokens: {{{knob}_seconds: {number}}}")),
    ):
        with pytest.raises(SettingsError) as caught:
            load(environ, file)
        assert "must be at most" in str(caught.value)
        for name in (knob, other):
            assert f"GATEWAY_TOKENS_{name.upper()}_SECONDS" in str(caught.value)
            assert f"tokens.{name}_seconds" in str(caught.value)


KMS_KEY = "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-0000-0000-000000000001"


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"file": "k.json", "kms_key": KMS_KEY}, "KEYS_KMS_KEY and GATEWAY_KEYS_FILE are both set"),
        ({"kms_key": "alias/ours"}, "KEYS_KMS_KEY must be the ARN of a KMS key"),
        ({"kms_key": KMS_KEY.replace("key/", "alias/")}, "must be the ARN of a KMS key"),
        ({"kms_key": KMS_KEY.replace("eu-west-1", "eu.example/x-1")}, "must be the ARN of a KMS key"),
        ({"kms_key": KMS_KEY + "/.."}, "must be the ARN of a KMS key"),
        ({"kms_endpoint": "https://kms.example"}, "KEYS_KMS_ENDPOINT needs GATEWAY_KEYS_KMS_KEY"),
        ({"kms_key": KMS_KEY, "kms_endpoint": "http://kms.example"}, "must be a URL as https"),
        ({"kms_key": KMS_KEY, "kms_endpoint": "http://127.0.0.1.example"}, "must be a URL as https"),
        ({"kms_key": KMS_KEY, "kms_endpoint": "https://user@kms.example"}, "must be a URL as https"),
        ({"kms_key": KMS_KEY, "kms_endpoint": "https://kms.example/x"}, "must be a URL as https"),
    ],
)
def test_what_wraps_is_one_thing_that_is_named_whole_wherever_it_is_said(
    said: dict[str, str], fault: str
) -> None:
    environ = {f"GATEWAY_KEYS_{name.upper()}": value for name, value in said.items()}
    file = config("keys:\n" + "".join(f"  {name}: '{value}'\n" for name, value in said.items()))
    for settings in ((environ, None), ({}, file)):
        with pytest.raises(SettingsError, match=fault):
            load(*settings)


@pytest.mark.parametrize("endpoint", ["https://kms.example:8443", "http://127.0.0.1:4566", "http://[::1]:1/"])
def test_a_kms_key_and_where_it_is_are_the_same_in_the_file_and_in_the_environment(endpoint: str) -> None:
    file = config(f"keys: {{kms_key: '{KMS_KEY}', kms_endpoint: '{endpoint}', answer_seconds: 1}}")
    environ = {
        "GATEWAY_KEYS_KMS_KEY": KMS_KEY,
        "GATEWAY_KEYS_KMS_ENDPOINT": endpoint,
        "GATEWAY_KEYS_ANSWER_SECONDS": "1",
    }
    assert load({}, file) == load(environ)
    assert load(environ).keys.kms_key == KMS_KEY
