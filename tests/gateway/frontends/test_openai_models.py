"""What a model's folder has for OpenAI's API is read once, and its faults are the operator's to hear of."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.errors import Code, GatewayError
from gateway.frontends.openai_models import Offers
from tenants.model import Model
from tenants.openai import Generate, Infer
from tests.gateway.wire.test_tokens import TOKENIZER

SAY = [{"role": "user", "content": "hi"}]


@pytest.fixture
def story(tmp_path: Path) -> Model:
    """A model with a template and a tokenizer in its folder."""
    (tmp_path / "story").mkdir()
    config = {"chat_template": "{{ bos_token }}{{ messages[0].content }}", "bos_token": "<s>"}
    (tmp_path / "story" / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "story" / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    return Model("m_1", "story", str(tmp_path), "*", openai=Generate())


async def prompt(offers: Offers) -> str:
    offer = await offers.offer("story")
    assert offer.chat is not None
    return offer.chat.prompt(SAY)


async def test_a_models_files_are_read_when_it_is_first_asked_for_and_when_its_row_changes(
    story: Model,
) -> None:
    rows = {"story": story}
    offers = Offers(lambda: rows)
    assert await prompt(offers) == "<s>hi"
    (Path(story.repository) / "story" / "tokenizer_config.json").unlink()
    rows = {"story": replace(story)}  # read again, and the same
    assert await prompt(offers) == "<s>hi"
    rows = {"story": replace(story, openai=Generate(chat_template="new {{ messages[0].content }}"))}
    assert await prompt(offers) == "new hi"


async def test_what_the_catalogue_says_of_a_model_reads_no_file_anew(story: Model) -> None:
    rows = {"story": story}
    offers = Offers(lambda: rows)
    assert await prompt(offers) == "<s>hi"
    (Path(story.repository) / "story" / "tokenizer_config.json").unlink()
    rows = {"story": replace(story, description="Writes on.", tags=("text",))}
    assert await prompt(offers) == "<s>hi"
    assert (await offers.offer("story")).row.description == "Writes on."


async def test_tokens_are_counted_by_the_tokenizer_of_the_folder(story: Model) -> None:
    pytest.importorskip("tokenizers")
    offer = await Offers(lambda: {"story": story}).offer("story")
    assert offer.count is not None
    assert offer.count("hello hello you") == 3


@pytest.mark.parametrize("name", ["absent", "plain"])
async def test_what_is_not_offered_is_not_found(story: Model, name: str) -> None:
    offers = Offers(lambda: {"plain": replace(story, openai=None)})
    assert offers.section(name) is None
    with pytest.raises(GatewayError) as caught:
        await offers.offer(name)
    assert caught.value.code is Code.MODEL_NOT_FOUND


async def test_a_template_or_tokenizer_that_cannot_be_used_is_logged_and_done_without(
    story: Model, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("tokenizers")
    (Path(story.repository) / "story" / "tokenizer.json").write_text("{}")
    (Path(story.repository) / "story" / "tokenizer_config.json").write_text('{"chat_template": "{{"}')
    offer = await Offers(lambda: {"story": story}).offer("story")
    assert (offer.chat, offer.count) == (None, None)
    assert offer.why_no_chat == "this model's chat template cannot be used"
    assert ["story" in record.getMessage() for record in caplog.records] == [True, True]


async def test_a_model_of_embeddings_needs_no_template(story: Model) -> None:
    offer = await Offers(lambda: {"story": replace(story, openai=Infer())}).offer("story")
    assert offer.section == Infer()
