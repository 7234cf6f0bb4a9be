"""What the `openai` section of a model's document may say."""

import pytest

from tenants.documents import Source, parse
from tenants.model import Model
from tenants.openai import Generate, Infer, Section

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
        ("{}", "5: openai.backend: is missing; must be one of generate, infer"),
        ("{backend: vllm}", "5: openai.backend: must be one of generate, infer"),
        ("{backend: [infer]}", "5: openai.backend: must be one of generate, infer"),
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
