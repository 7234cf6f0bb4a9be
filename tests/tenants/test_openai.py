"""What the `openai` section of a model's document may say."""

import pytest
from msgspec.structs import replace

from tenants import declare
from tenants.acts import Act
from tenants.directory import Directory
from tenants.documents import Document, Documents, Source, parse
from tenants.model import Model, faults
from tenants.openai import Generate, Infer, PassThrough, Section
from tests.tenants.conftest import BY, NOW

MODEL = "kind: Model\nname: story\nrepository: /m\ntenants: '*'\n"


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("", None),
        ("openai: {backend: generate}", Generate("text_input", "text_output", ("max_tokens",), 1024, "")),
        (
            "openai:\n  backend: generate\n  parameters: [seed]\n  chat_template: |\n    {{ messages }}\n",
            Generate(parameters=("seed",), chat_template="{{ messages }}\n"),
        ),
        ("openai: {backend: infer}", Infer("text", "embedding", batched=False)),
        ("openai: {backend: infer, batched: true, output: x}", Infer(output="x", batched=True)),
    ],
)
def test_a_section_is_read_as_its_backend_has_it(said: str, read: Section | None) -> None:
    declared = parse([Source("a.yaml", "/", (MODEL + said).encode())])
    assert declared.faults == ()
    (document,) = declared.documents
    assert isinstance(document.value, Model)
    assert document.value.openai == read


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("7", "5: openai: Expected a mapping, got 7"),
        ("{}", "5: openai.backend: is missing; must be one of generate, infer, pass-through"),
        ("{backend: vllm}", "5: openai.backend: must be one of generate, infer, pass-through"),
        ("{backend: [infer]}", "5: openai.backend: must be one of generate, infer, pass-through"),
        ("{backend: infer, max_tokens: 1}", "5: openai.max_tokens: unknown key; known are input, output,"),
        ("{backend: infer, output: ''}", "5: openai.output: Expected str of length >= 1"),
        ("{backend: generate, max_tokens: 0}", "5: openai.max_tokens: Expected int >= 1"),
        ("{backend: generate, parameters: [x]}", "5: openai.parameters[0]: Invalid enum value 'x'"),
        ("{backend: generate, parameters: [seed, seed]}", "5: openai.parameters: names one twice"),
        ("{backend: generate, input: max_tokens}", "5: openai.input: is one of the parameters too"),
    ],
)
def test_a_fault_in_a_section_is_named_with_its_path(said: str, fault: str) -> None:
    (found,) = parse([Source("a.yaml", "/", f"{MODEL}openai: {said}".encode())]).faults
    assert str(found).startswith(f"a.yaml:{fault}")


# A server that somebody else runs

ELSEWHERE = "kind: Model\nname: story\ntenants: '*'\nopenai: {backend: pass-through, "


def test_a_model_behind_a_server_that_somebody_else_runs_has_no_repository_and_no_fleet() -> None:
    declared = parse([Source("a.yaml", "/", (ELSEWHERE + "address: 'a.example:80', model: x}").encode())])
    assert declared.faults == ()
    (document,) = declared.documents
    assert document.value == Model("", "story", "", "*", "", openai=PassThrough("a.example:80", "x"))


@pytest.mark.parametrize(
    ("address", "host", "port"), [("127.0.0.1:9000", "127.0.0.1", 9000), ("[::1]:80", "::1", 80)]
)
def test_an_address_is_a_host_and_a_port_in_the_clear_or_over_https(
    address: str, host: str, port: int
) -> None:
    clear, section = PassThrough(address), PassThrough(f"https://{address}")
    assert (clear.host, clear.port, clear.authority, clear.is_tls) == (host, port, address, False)
    assert (section.host, section.port, section.authority, section.is_tls) == (host, port, address, True)
    assert list(faults(Model("", "story", "", "*", "", openai=clear))) == []
    assert list(faults(Model("", "story", "", "*", "", openai=section))) == []


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("}", "4: openai.address: is missing"),
        ("address: '', model: x}", "4: openai.address: Expected str of length >= 3"),
        *(
            (f"address: '{address}'}}", "4: openai.address: must be HOST:PORT")
            for address in (
                "http://a:80",
                "https://a",
                "https://a:443/",
                "https://user@a:443",
                "HTTPS://a:443",
                "https://https://a:443",
                "a:80/v1",
                "user@a:80",
                "a:0",
                "a:65536",
                "a b:80",
                "::1:80",
                "a80",
                "a..b:80",
                ".a:80",
                f"{'a' * 64}:80",
            )
        ),
        ("address: 'a:80', url: x}", "4: openai.url: unknown key; known are address, model"),
        ("address: 'a:80'}\nrepository: /m", "5: repository: has no meaning for a model behind a server"),
        ("address: 'a:80'}\nfleet: local", "5: fleet: has no meaning"),
        ("address: 'a:80'}\ncanary: {inputs: []}", "5: canary: has no meaning"),
    ],
)
def test_a_fault_of_a_model_that_is_elsewhere_is_named_with_its_path(said: str, fault: str) -> None:
    (found,) = parse([Source("a.yaml", "/", (ELSEWHERE + said).encode())]).faults
    assert str(found).startswith(f"a.yaml:{fault}")


def test_a_row_is_judged_as_a_document_is() -> None:
    elsewhere = Model("", "story", "/m", "*", openai=PassThrough("a:80"))
    assert [fault.path for fault in faults(elsewhere)] == ["repository", "fleet"]
    here = replace(elsewhere, openai=None, fleet="", repository="")
    assert [fault.path for fault in faults(here)] == ["fleet", "repository"]


async def test_a_model_that_is_elsewhere_needs_no_fleet(directory: Directory) -> None:
    elsewhere = Model("", "far", "", "*", "", openai=PassThrough("a:80"))
    for action in ("create", "unchanged"):
        outline = await declare.apply(directory, Documents((Document(elsewhere),)), act=Act(BY, NOW))
        assert [it.action for it in outline.differences] == [action]
