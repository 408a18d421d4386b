"""The documentation is true: links lead somewhere, commands and their options exist, what is generated is fresh.

That the commands do what the documentation says is run elsewhere: tests/lab/test_docs.py, and docs/tour.md in test_tour.py.
"""

import re
import shlex
from pathlib import Path

import click
import pytest

from felixlite.cli.commands_page import page
from felixlite.cli.main import felixlite
from felixlite.cli.session import Session
from tests.support import docpages

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")])
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?:^\s*(?:\$ )?|`)(felixlite (?:--store \S+ )?[a-z][^`\n]*)", re.MULTILINE)
PLACEHOLDERS = ("COMMAND", "SCENARIO")


def ids(path):
    return str(path.relative_to(ROOT))


def anchors(text):
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_links_lead_somewhere(path):
    for target in LINK.findall(path.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file) if file else path
        assert there.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in anchors(there.read_text()), f"{target}: there is no such heading"


def commands(text):
    """Every command line in the text, without what a shell does with it."""
    for found in COMMAND.findall(text):
        line = re.split(r"\s[#>|]|;|<<|\s{2,}", found)[0].rstrip(" :,.")
        try:
            yield shlex.split(line)
        except ValueError:
            continue  # a quotation that goes on in the next line


def unknown(words):
    """What the commands do not know of a command line."""
    command, ctx, words = felixlite, click.Context(felixlite, obj=Session()), words[1:]
    while words:
        word, *words = words
        names = {name for param in command.get_params(ctx) for name in (*param.opts, *param.secondary_opts)}
        if word == "--" or command.context_settings.get("ignore_unknown_options"):
            return None
        if word.startswith("-"):
            option = word.partition("=")[0]
            if option not in names and option[:2] not in names:
                return option
            if (
                any(isinstance(p, click.Option) and option in p.opts and not p.is_flag for p in command.params)
                and words
            ):
                words = words[1:]
        elif isinstance(command, click.Group):
            if word in PLACEHOLDERS or not re.fullmatch(r"[a-z-]+", word):
                return None
            if word not in command.list_commands(ctx):
                return word
            command = command.get_command(ctx, word)
    return None


@pytest.mark.parametrize("path", [path for path in PAGES if path.name != "commands.md"], ids=ids)
def test_commands_and_their_options_exist(path):
    wrong = [f"{' '.join(words)}: {bad}" for words in commands(path.read_text()) if (bad := unknown(words))]

    assert wrong == []


@pytest.mark.parametrize("path", docpages.PAGES, ids=ids)
def test_every_block_of_commands_is_run_by_a_test_or_says_why_not(path):
    silent = [f"line {b.line}: {b.commands[0]}" for b in docpages.blocks(path) if not (b.mark == "run" or b.reason)]

    assert silent == []


def test_the_check_of_blocks_can_fail(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- run, but not: edit; says: ready -->\n    felixlite status   # how\n    felixlite edit node n1\n\n"
                    "Words\n\n    $ felixlite get nodes\n\n<!-- not run: it ends here -->\n```\n$ kubectl get x\n```\n")  # fmt: skip

    first, second, third = docpages.blocks(page)

    assert (first.mark, first.commands, first.says) == ("run", ("felixlite status",), "ready")
    assert (second.mark, second.reason) == ("", "")
    assert (third.mark, third.reason, third.commands) == ("not run", "it ends here", ("kubectl get x",))


def test_the_check_of_commands_can_fail():
    assert unknown(["felixlite", "ipam", "shrink"]) == "shrink"
    assert unknown(["felixlite", "get", "ippools", "--nonsense"]) == "--nonsense"
    assert unknown(["felixlite", "lab", "up", "--nodes", "3"]) is None
    assert list(commands("see `felixlite ipam check --fix`, or\n    $ felixlite status # how\n")) == [
        ["felixlite", "ipam", "check", "--fix"], ["felixlite", "status"],
    ]  # fmt: skip


def outline(text):
    """Commands and options; how click words them may change with its version."""
    return re.findall(r"^## .*|^\| `-[^`]*`", text, re.MULTILINE)


def test_the_page_of_commands_is_fresh():
    written = (ROOT / "docs/commands.md").read_text()

    assert outline(written) == outline(page()), (
        "make it anew: ./run py -m felixlite.cli.commands_page >docs/commands.md"
    )
