"""The day with documents in tenants/README.md is as it is told: each command, and all that it prints."""

import os
import re
import subprocess
from pathlib import Path

from tests.conftest import ROOT
from tests.e2e import warm

_BLOCK = re.compile(r"((?:<!-- test: .*? -->\n)+)```(\w+)\n(.*?)```", re.DOTALL)


def test_a_day_with_documents_is_as_it_is_told(tmp_path: Path) -> None:
    told = (ROOT / "tenants" / "README.md").read_text().split("## Change it as code\n")[1].split("\n## ")[0]
    file = tmp_path / "documents" / "team.yaml"
    file.parent.mkdir()
    documents: list[str] = []
    commands = 0
    for marks, language, text in _BLOCK.findall(told):
        if "team.yaml plan" in marks:
            documents = documents[:1]
        if language == "yaml":
            documents = [*documents[:-1], *text.split("---\n")]
        file.write_text("---\n".join(documents))
        for part in text.split("$ ")[1:] if language == "console" else ():
            line, _, printed = part.partition("\n")
            commands += 1
            expect(line.split(), printed, tmp_path)
    assert commands == 8


def expect(words: list[str], printed: str, folder: Path) -> None:
    environ = {name: it for name, it in os.environ.items() if not name.startswith("GATEWAY_")}
    done = subprocess.run(
        [warm.program(), *words[1:]],
        cwd=folder,
        env=environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == printed
    assert done.returncode == (2 if "--dry-run" in words and "nothing to do" not in printed else 0)
