"""The check of prose refuses what it should refuse, and passes what is right."""

from pathlib import Path

import pytest

from tests import prose

PAGE = Path("page.md")
MODULE = Path("module.py")
LONG = "word " * 24 + "words"


@pytest.mark.parametrize(
    "text",
    [
        "The version, None where there is none.",
        "Pass it on. Where the cloud told no price, the spec's order decides.",
        "Where a price is unknown, the spec's order decides.",
        "Empty where the training has not begun.",
        "It is asked again where it does not answer.",
        "The registry's key, where the Secret does not name one.",
        "Raises ValueError where the name is taken.",
        "It goes, too, where this is cancelled.",
        "Tokens are sent where possible.",
    ],
)
def test_where_is_no_word_for_a_condition(text: str) -> None:
    assert len(list(prose.problems(PAGE, text))) == 1
    assert len(list(prose.problems(MODULE, f"# {text}\n"))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "The replica starts again where it is.",
        "It leaves the machines where it did not start.",
        "A node where no pod runs is released.",
        "Where is the exit code judged? In one place, `judging.py`.",
        "The environment that says where everything is.",
        "Write `SELECT x FROM y WHERE nothing` as it stands.",
        "The page says where to look.",
    ],
)
def test_where_is_a_word_for_a_place(text: str) -> None:
    assert list(prose.problems(PAGE, text)) == []
    assert list(prose.problems(MODULE, f"# {text}\n")) == []


def test_a_condition_may_run_over_lines() -> None:
    assert list(prose.problems(PAGE, "# Title\n\nNone\nwhere\nthere is none.\n")) == [
        "page.md:3: 'where there is none.'… is a condition: write if or when"
    ]
    comment = "x = 1  # None where\n# there is none\n"
    assert [problem.partition(":")[2][:2] for problem in prose.problems(MODULE, comment)] == ["1:"]


def test_comments_of_manifests_are_prose() -> None:
    manifest = "# None\n# where there is none\nkey: where # there is none\n"
    assert list(prose.problems(Path("base/some.yaml"), manifest)) == [
        "base/some.yaml:1: 'where there is none'… is a condition: write if or when"
    ]


def test_sentences_of_two_paragraphs_or_comments_are_not_joined() -> None:
    assert list(prose.problems(PAGE, "It is empty\n\nwhere\n")) == []
    assert list(prose.problems(PAGE, "- empty\n- where\n\n| None |\n| where |\n")) == []
    assert list(prose.problems(MODULE, "# None\nx = 1\n# where\n")) == []


@pytest.mark.parametrize("word", ["Of", "Whose", "By", "Until", "None", "Where"])
def test_a_docstring_begins_with_a_verb(word: str) -> None:
    module = f'"""Do it."""\nSIZE = 1\n"""{word} a thing."""\n'
    assert [problem.partition(": ")[0] for problem in prose.problems(MODULE, module)] == ["module.py:3"]
    assert list(prose.problems(MODULE, f'"""Do it {word} so."""\n')) == []


def test_a_word_that_only_begins_alike_passes() -> None:
    assert list(prose.problems(MODULE, '"""Offer bytes."""\n')) == []


def test_prose_is_wrapped() -> None:
    assert len(LONG) > prose.COLUMNS
    assert [problem.partition(": ")[0] for problem in prose.problems(PAGE, f"Short.\n\n{LONG}\n")] == ["page.md:3"]


@pytest.mark.parametrize(
    "text",
    [
        f"| {LONG} |",
        f"```\n{LONG}\n```",
        f"1. A list:\n\n   ```console\n   $ {LONG}\n   ```",
        f"See [the page](https://example.com/{'x' * 120}).",
    ],
)
def test_what_cannot_be_wrapped_may_be_longer(text: str) -> None:
    assert list(prose.problems(PAGE, text)) == []


def test_files_and_folders_are_read(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/Makefile", "docs/page.md", "docs/script.py", "docs/picture.png"):
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in prose.files(tmp_path, ("README.md", "docs"))]
    assert found == ["README.md", "docs/Makefile", "docs/page.md", "docs/script.py"]


def test_what_is_called_clean_exists() -> None:
    assert all((prose.ROOT / name).exists() for name in prose.CLEAN)
