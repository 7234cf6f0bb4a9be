from pathlib import Path

from infra.training import prose

README = """# A title that is long enough to be kept

A paragraph over
two lines, with **weight** and a [link](https://example.com/page).

- an entry of a list, which is one paragraph
- another entry of it, and the same again

| what | it is |
|---|---|
| `tables/` | a row of a table is a paragraph |
| 12.5 | 7,289 | 0.78 | 0.062 | 6.14 | 9.96 |

    code that is indented is not prose at all

```python
code = "between fences is not prose either"
```

<!-- what nobody sees is not prose, however long -->
Too short.
"""

MODULE = '''"""A docstring of one line, about this module.

Its second paragraph,
over two lines.
"""

SIZE = 1  # a comment behind a line of code
# a comment over
# two lines of its own


class Thing:
    """an entry of a list, which is one paragraph"""

    async def test_what_is_kept_is_said_in_its_name(self) -> None:
        text = "a string that is no docstring, however long"
'''


def found(folder: Path, **files: str) -> list[str]:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_md", ".md").replace("_py", ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return prose.collect(folder, lambda text: text.replace("\u00e9", "e")).splitlines()


def test_of_a_readme_what_a_reader_reads_is_kept(tmp_path: Path) -> None:
    assert found(tmp_path, README_md=README) == [
        "A title that is long enough to be kept",
        "A paragraph over two lines, with weight and a link.",
        "an entry of a list, which is one paragraph",
        "another entry of it, and the same again",
        "`tables/`: a row of a table is a paragraph",
    ]


def test_of_a_module_docstrings_comments_and_the_names_of_tests_are_kept(tmp_path: Path) -> None:
    assert sorted(found(tmp_path, tests__module_py=MODULE)) == [
        "A docstring of one line, about this module.",
        "Its second paragraph, over two lines.",
        "What is kept is said in its name.",
        "a comment behind a line of code",
        "a comment over two lines of its own",
        "an entry of a list, which is one paragraph",
    ]


def test_nothing_is_there_twice_and_other_letters_are_folded(tmp_path: Path) -> None:
    twice = "A sentence that is in two files, caf\u00e9 and all.\n"
    assert found(tmp_path, README_md=twice, infra__README_md=twice) == [twice.strip().replace("\u00e9", "e")]


def test_what_is_in_no_room_is_not_read(tmp_path: Path) -> None:
    assert found(tmp_path, elsewhere__README_md=README, gateway__notes_txt=README) == []
