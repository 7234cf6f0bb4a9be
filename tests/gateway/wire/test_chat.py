"""What a chat template makes of messages, and what it cannot do."""

import json

import pytest

from gateway.wire.chat import MOST_PROMPT_CHARACTERS, Chat, Unfit, configured

USUAL = (
    "{{ bos_token }}{% for message in messages %}\n"
    "<|{{ message['role'] }}|>{{ message.content | trim }}{{ eos_token }}\n"
    "{% endfor %}\n"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}\n"
)
MESSAGES = [{"role": "system", "content": "Be brief. "}, {"role": "user", "content": "{{ 7 * 7 }}"}]


def test_a_template_is_read_as_hugging_face_reads_it_and_messages_are_never_templates() -> None:
    assert Chat(USUAL, "<s>", "</s>").prompt(MESSAGES) == (
        "<s><|system|>Be brief.</s>\n<|user|>{{ 7 * 7 }}</s>\n<|assistant|>"
    )


@pytest.mark.parametrize(
    "config",
    [
        {"chat_template": USUAL, "bos_token": "<s>", "eos_token": "</s>", "model_max_length": 10**30},
        {
            "chat_template": [{"name": "tool_use", "template": "x"}, {"name": "default", "template": USUAL}],
            "bos_token": {"content": "<s>", "lstrip": False},
            "eos_token": {"content": "</s>"},
        },
    ],
)
def test_the_template_and_its_tokens_are_found_in_the_tokenizers_configuration(config: object) -> None:
    chat = configured(json.dumps(config).encode())
    assert chat is not None
    assert chat.prompt(MESSAGES) == Chat(USUAL, "<s>", "</s>").prompt(MESSAGES)


def test_a_template_of_the_document_goes_before_that_of_the_file() -> None:
    chat = configured(b'{"chat_template": "file", "bos_token": "<s>"}', "document {{ bos_token }}")
    assert chat is not None
    assert chat.prompt(MESSAGES) == "document <s>"


@pytest.mark.parametrize("config", [b"", b"{}", b'{"chat_template": null}', b'{"chat_template": []}'])
def test_without_a_template_there_is_no_chat(config: bytes) -> None:
    assert configured(config) is None


@pytest.mark.parametrize("config", [b"{", b"[]", b'{"chat_template": 7}', b"\xff"])
def test_a_configuration_that_cannot_be_read_is_told(config: bytes) -> None:
    with pytest.raises(Unfit, match="cannot be read"):
        configured(config)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ (messages | attr('__class__')).mro() }}",
        "{% for n in range(999999999) %}{% endfor %}",
        "{% include '/etc/passwd' %}",
        "{{ undefined.x }}",
        "{{ raise_exception('roles must alternate') }}",
        "{{ messages[9].content + 1 }}",
    ],
)
def test_a_template_that_reaches_out_or_fails_is_a_refusal(template: str) -> None:
    with pytest.raises(Unfit) as caught:
        Chat("{{ bos_token }}" + template).prompt(MESSAGES)
    assert len(str(caught.value)) <= 500


def test_the_words_of_a_template_that_refuses_are_told() -> None:
    with pytest.raises(Unfit, match="roles must alternate"):
        Chat("{{ raise_exception('roles must alternate') }}").prompt(MESSAGES)


@pytest.mark.parametrize("template", ["{% for %}", "{{", "{{ 'a' | nofilter }}"])
def test_a_template_that_does_not_parse_is_told(template: str) -> None:
    with pytest.raises(Unfit, match="cannot be used"):
        Chat(template)


def test_a_prompt_has_a_most() -> None:
    many = [{"role": "user", "content": "x" * 10_000}] * 1_000
    squared = "{% for a in messages %}{% for b in messages %}{{ b.content }}{% endfor %}{% endfor %}"
    with pytest.raises(Unfit, match="too long"):
        Chat(squared).prompt(many)
    assert len(Chat("{{ messages[0].content }}").prompt(many)) < MOST_PROMPT_CHARACTERS
