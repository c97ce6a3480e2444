"""How pages that are written for GitHub become those of a site."""

from pathlib import Path

import pytest

from release.site import OUTSIDE, ROOT, indented, place, relinked, shown_file, unescaped

PAGES = [*OUTSIDE, *(str(file.relative_to(ROOT)) for file in sorted((ROOT / "docs").rglob("*.md")))]


@pytest.mark.parametrize(
    ("page", "link", "there"),
    [
        ("README.md", "docs/cli.md#the-page", "cli.md#the-page"),
        ("README.md", "docs/decisions/", "decisions/index.md"),
        ("README.md", "docs/images/card-job.png", "images/card-job.png"),
        ("docs/install.md", "../README.md#every-day", "index.md#every-day"),
        ("docs/install.md", "../deploy/gcp/role.yaml", "files/deploy/gcp/role.yaml.md"),
        ("docs/decisions/0001-x.md", "../scaling.md", "../scaling.md"),
        ("docs/tutorials/first-job.md", "../../sandbox/README.md", "../sandbox.md"),
        ("sandbox/README.md", "../docs/faults.md", "faults.md"),
        ("README.md", "https://temporal.io", "https://temporal.io"),
        ("README.md", "#train", "#train"),
    ],
)
def test_links_lead_to_where_the_site_has_it(page: str, link: str, there: str) -> None:
    assert relinked(f"see [it]({link}).", page) == f"see [it]({there}).\n"


def test_links_in_code_stay() -> None:
    text = "```yaml\na: [x](../README.md)\n```\n"
    assert relinked(text, "docs/cli.md") == text


def test_files_that_are_linked_to_are_named() -> None:
    found: list[str] = []
    relinked("[role](../deploy/gcp/role.yaml) [page](cli.md)", "docs/cost.md", found.append)
    assert found == ["deploy/gcp/role.yaml"]
    assert "includedPermissions" in shown_file("deploy/gcp/role.yaml")
    assert "`deploy/gcp/role.yaml`" in shown_file("deploy/gcp")


def test_nested_lists_get_four_columns_a_level() -> None:
    assert (
        indented("- one\n  more\n  - two\n    more\n- three\n") == "- one\n    more\n    - two\n        more\n- three\n"
    )


def test_what_belongs_to_a_numbered_item_stays_in_it() -> None:
    text = "1. one\n\n   ```console\n   $ a\n     b\n   ```\n\n2. two\n"
    assert indented(text) == "1.  one\n\n    ```console\n    $ a\n      b\n    ```\n\n2.  two\n"


def test_a_list_begins_after_an_empty_line() -> None:
    assert indented("Some:\n- one\n- two\n") == "Some:\n\n- one\n- two\n"


def test_pipes_in_code_of_tables_need_no_backslash() -> None:
    assert unescaped("| `a \\| b` | c \\| d |\n`a \\| b`\n") == "| `a | b` | c \\| d |\n`a \\| b`\n"


def test_code_outside_of_lists_stays() -> None:
    text = "```yaml\n- a\n  - b\n```\n"
    assert indented(text) == text


@pytest.mark.parametrize("page", PAGES)
def test_each_page_has_one_title(page: str) -> None:
    text, fenced, titles = (ROOT / page).read_text(), False, 0
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        titles += line.startswith("# ") and not fenced
    assert titles == 1


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/") and "/decisions/" not in page])
def test_each_page_has_its_place_in_the_site(page: str) -> None:
    assert f"{place(page)}\n" in (ROOT / "mkdocs.yml").read_text()


def test_each_place_has_its_page() -> None:
    assert all(Path(ROOT / page).exists() for page in PAGES)
