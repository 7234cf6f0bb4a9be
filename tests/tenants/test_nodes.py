"""YAML has one reading here, or none: what parsers disagree about, what hides, and what only an attack needs is refused."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tenants.errors import Fault
from tenants.nodes import MOST_BYTES, Mapping, Node, Scalar, Sequence, read
from tests.work import calls

MANY = 4_000


def plain(node: Node) -> Any:
    if isinstance(node, Mapping):
        return {key: plain(value) for key, (_, value) in node.entries.items()}
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    assert node.fault == ""
    return node.value


def one(text: str | bytes) -> Any:
    """The value of a document that has no fault."""
    faults: list[Fault] = []
    (document,) = read(text if isinstance(text, bytes) else text.encode(), "a.yaml", faults)
    assert faults == []
    return plain(document)


def fault(text: str | bytes) -> Fault:
    """The only fault of a file."""
    faults: list[Fault] = []
    read(text if isinstance(text, bytes) else text.encode(), "a.yaml", faults)
    (found,) = faults
    return found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: text", "text"),
        ("a: 'on'", "on"),
        ('a: "010"', "010"),
        ("a: 10", 10),
        ("a: -1", -1),
        ("a: 0", 0),
        ("a: 0.5", 0.5),
        ("a: -1.5e-3", -0.0015),
        ("a: true", True),
        ("a: false", False),
        ("a: [1, 2.0, x]", [1, 2.0, "x"]),
        ("a: {b: c}", {"b": "c"}),
        ("a: |\n  on\n", "on\n"),
        ("a: 127.0.0.1:8080", "127.0.0.1:8080"),
        ("a: '*'", "*"),
        ("a: 2.1.0", "2.1.0"),
        ("a: ../models", "../models"),
    ],
)
def test_what_every_parser_reads_alike_is_read(text: str, value: object) -> None:
    assert one(text) == {"a": value}
    assert type(one(text)["a"]) is type(value)
    assert yaml.safe_load(text) == {"a": value}


@pytest.mark.parametrize(
    "word",
    [
        *("on", "off", "yes", "No", "y", "N", "True", "FALSE", "~", "Null", "null", ""),
        *("010", "0o10", "0x10", "0b1", "1_000", "+1", "190:20:30", "1:30"),
        *("1e3", "1E3", ".5", "1.", "1.5e3", "+0.5", "1_0.5", ".inf", "-.INF", ".nan", "1.0e+999"),
        *("2024-01-01", "2024-01-01 10:00:00", "="),
    ],
)
def test_a_word_that_is_read_in_two_ways_is_nothing_until_it_is_quoted(word: str) -> None:
    faults: list[Fault] = []
    (document,) = read(f"a: {word}".encode(), "a.yaml", faults)
    assert isinstance(document, Mapping)
    (_, node) = document.entries["a"]
    assert isinstance(node, Scalar)
    assert node.value is None
    assert node.fault
    assert one(f"a: '{word}'") == {"a": word}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3", 3, "line 1"),
        ("a: 1\n'a': 2", 2, "was there before"),
        ("a: {b: 1, b: 2}", 1, "was there before"),
        ("a: &x 1\nb: 2", 1, "anchors"),
        ("a: !!str 1", 1, "tags"),
        ("a: !!python/object/apply:os.system ['true']", 1, "tags"),
        ("- !mine {a: 1}", 1, "tags"),
        ("? [a]\n: 1", 1, "key"),
        ("%YAML 1.1\n---\na: 1", 1, "directives"),
        ("a: 1\nb: [1", 2, "no YAML"),
        ("a: 1\n b: 2", 2, "no YAML"),
        ("a:\n\t- 1", 2, "no YAML"),
        ("a: 1\nb: \x07", 2, "character"),
        (b"a: 1\nb: \xff", 2, "UTF-8"),
        (b"\xff\xfea\x00", 1, "UTF-8"),
        ("a: *x", 1, "aliases"),
        ('a: "\\ud800"', 1, "half a character"),
        ('"\\ud83d\\ude00": 1', 1, "half a character"),
    ],
)
def test_what_hides_or_is_no_yaml_is_named_with_its_line(text: str | bytes, line: int, words: str) -> None:
    found = fault(text)
    assert found.line == line
    assert words in found.reason


def test_a_merge_key_is_a_key_like_any_other() -> None:
    assert one("<<: {a: 1}\nb: 2") == {"<<": {"a": 1}, "b": 2}


def test_an_anchor_and_each_of_its_aliases_is_a_fault_and_nothing_expands() -> None:
    faults: list[Fault] = []
    (document,) = read(b"a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]", "a.yaml", faults)
    assert [it.line for it in faults] == [1, 2, 2, 2, 3, 3]
    assert isinstance(document, Mapping)
    assert document.entries["c"][1] == Sequence(3, (Scalar(3, "", None, "-"),) * 2)


@pytest.mark.parametrize(
    "written",
    [
        "[".__mul__,
        "{a: ".__mul__,
        "- ".__mul__,
        "? ".__mul__,
        "x: y\n".__mul__,
        lambda many: "".join(f"k{number}: y\n" for number in range(many)),
        lambda many: "a: " + "1" * many,
        lambda many: "a: '" + "x" * many + "'",
        "&a ".__mul__,
        lambda many: "# " + "x" * many,
    ],
    ids=[
        "lists",
        "mappings",
        "items",
        "keys",
        "equal keys",
        "other keys",
        "digits",
        "text",
        "anchors",
        "comment",
    ],
)
def test_work_grows_with_a_hostile_file_and_no_faster(written: Callable[[int], str]) -> None:
    def work(many: int) -> int:
        text, faults = written(many).encode(), list[Fault]()
        return calls(lambda: read(text, "a.yaml", faults))

    assert work(MANY) <= 10 * work(MANY // 8)  # eight times as much; squared would be 64 times


def test_depth_values_and_bytes_are_bounded() -> None:
    assert "nested" in fault("[" * 20 + "]" * 20).reason
    assert "200000 values" in fault("a: [" + "1," * 200_001 + "]").reason
    assert str(MOST_BYTES) in fault(b"#" * (MOST_BYTES + 1)).reason
    assert one("[" * 16 + "]" * 16) is not None


def test_empty_documents_are_none() -> None:
    faults: list[Fault] = []
    assert read(b"", "a.yaml", faults) == read(b"# nothing\n", "a.yaml", faults) == []
    assert read(b"---\n---\n# nothing\n---\n", "a.yaml", faults) == []
    assert [plain(it) for it in read(b"---\na: 1\n---\nb: 2\n---\n", "a.yaml", faults)] == [
        {"a": 1},
        {"b": 2},
    ]
    assert faults == []


_VALUES = st.recursive(
    st.text(st.characters(codec="utf-8", exclude_categories=["C"]))
    | st.integers(-(10**19), 10**19)
    | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(_VALUES)
def test_json_is_read_as_json(value: object) -> None:
    assert one(f'{{"a": {json.dumps(value, ensure_ascii=False)}}}') == {"a": value}


@given(
    st.text(st.characters(codec="utf-8"), max_size=200) | st.text("ab:-[]{}&*!|>'\"%#? \n,0.1e", max_size=60)
)
def test_any_text_is_read_as_pyyaml_reads_it_or_has_a_fault(text: str) -> None:
    faults: list[Fault] = []
    found = read(text.encode(), "a.yaml", faults)
    if faults or any(map(has_fault, found)):
        return
    there = [it for it in yaml.safe_load_all(text) if it is not None]
    if all(map(has_text_keys, there)):  # a key is its text here, and whatever it looks like in PyYAML
        assert [plain(document) for document in found] == there


def has_fault(node: Node) -> bool:
    if isinstance(node, Mapping):
        return any(has_fault(value) for _, value in node.entries.values())
    return any(map(has_fault, node.items)) if isinstance(node, Sequence) else bool(node.fault)


def has_text_keys(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and has_text_keys(inner) for key, inner in value.items())
    return not isinstance(value, list) or all(map(has_text_keys, value))
