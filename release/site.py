"""The documentation as a site: hooks of MkDocs, which ``mkdocs.yml`` names.

The pages are written for GitHub, and stay readable there. Here they become what MkDocs expects:

- Pages that are not in ``docs/`` join the site, the README as its front page.
- A link to any other file of the repository leads to a page that shows this file, so the site needs no server of ours.
- A pipe within code in a table needs no backslash.
- Nested lists are indented by four columns, which Python-Markdown needs, and lists begin after an empty line.
"""

import posixpath
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "sandbox/README.md": "sandbox.md",
}
"""Pages of the repository that are not in ``docs/``, with their places in the site."""
SHOWN = "files"
"""The folder of the site with the pages that show files."""
LANGUAGES = {".py": "python", ".yaml": "yaml", ".sh": "bash", ".hcl": "hcl", ".json": "json", ".example": "hcl"}

MERMAID = Path(sys.prefix) / "share" / "mermaid.min.js"
"""The file that ``release/mermaid.py`` puts into the environment."""

_LINK = re.compile(r"(?<!\\)\]\((?P<target>[^)\s]+)\)")
_CODE = re.compile(r"`[^`]+`")
_FENCE = re.compile(r"\s*(```+|~~~+)")
_ITEM = re.compile(r"(?P<indent> *)(?P<mark>[-*]|\d+\.)(?P<gap> +)")


def place(path: str) -> str:
    """Return where the site has a file or folder of the repository.

    >>> place("docs/cli.md"), place("README.md"), place("deploy/gcp/role.yaml")
    ('cli.md', 'index.md', 'files/deploy/gcp/role.yaml.md')
    """
    if path in OUTSIDE:
        return OUTSIDE[path]
    if path.startswith("docs/"):
        inside = path.removeprefix("docs/")
        return inside if posixpath.splitext(inside)[1] else f"{inside}/index.md"
    return f"{SHOWN}/{path}.md"


def relinked(text: str, page: str, shown: Callable[[str], None] = lambda path: None) -> str:
    """Let the links of a page lead to where the site has their targets.

    Args:
        text: The page's Markdown.
        page: Its path in the repository.
        shown: Is called with each file or folder that gets a page of its own.
    """

    def relink(match: re.Match[str]) -> str:
        target, _, anchor = match["target"].partition("#")
        if not target or ":" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
        found = place(path)
        if found.startswith(f"{SHOWN}/"):
            shown(path)
        link = posixpath.relpath(found, posixpath.dirname(place(page)) or ".")
        return f"]({link}#{anchor})" if anchor else f"]({link})"

    return _outside_of_code(text, lambda line: _LINK.sub(relink, line))


def unescaped(text: str) -> str:
    """Take the backslashes from pipes within code in tables, which GitHub needs and Python-Markdown shows."""
    return _outside_of_code(
        text,
        lambda line: _CODE.sub(lambda code: code[0].replace("\\|", "|"), line) if line.startswith("|") else line,
    )


def indented(text: str) -> str:
    """Indent nested lists and what belongs to an item by four columns for each level, and separate lists from text.

    >>> print(indented("1. one\\n   more\\n   - two"))
    1.  one
        more
        - two
    """
    lines, levels, before = list[str](), list[int](), ""
    for line, in_code in _lines(text):
        item = None if in_code else _ITEM.match(line)
        if line.strip() and not in_code:
            depth = len(line) - len(line.lstrip())
            while levels and depth < levels[-1]:
                levels.pop()
        if item is not None:
            if not levels and before.strip() and not _ITEM.match(before) and before == before.lstrip():
                lines.append("")
            mark = item["mark"]
            lines.append(
                f"{' ' * 4 * len(levels)}{mark}{' ' * max(1, 4 - len(mark)) if mark[0].isdigit() else ' '}"
                f"{line[item.end() :]}"
            )
            levels.append(item.end())
        elif line.strip() and levels:
            lines.append(f"{' ' * 4 * len(levels)}{line[levels[-1] :]}")
        else:
            lines.append(line)
        before = line
    return "\n".join(lines) + "\n"


def shown_file(path: str) -> str:
    """Write the page that shows a file or lists a folder."""
    file = ROOT / path
    if file.is_dir():
        files = sorted(each.relative_to(ROOT).as_posix() for each in file.rglob("*") if each.is_file())
        return "\n".join([f"# {path}", "", *(f"- `{each}`" for each in files), ""])
    fence = "`" * 5
    return f"# {path}\n\n{fence}{LANGUAGES.get(file.suffix, 'text')}\n{file.read_text()}\n{fence}\n"


def decisions() -> str:
    """Write the list of the decisions, each with its title."""
    files = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    titles = [(file.name, file.read_text().partition("\n")[0].removeprefix("# ")) for file in files]
    return "\n".join(["# Decisions", "", *(f"- [{title}]({name})" for name, title in titles), ""])


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Add the pages outside of ``docs/``, and a page for each file that a page links to."""
    from mkdocs.structure.files import File

    linked = set[str]()
    for path in [*OUTSIDE, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]:
        relinked((ROOT / path).read_text(), path, linked.add)
    for path, found in OUTSIDE.items():
        files.append(File.generated(config, found, content=(ROOT / path).read_text()))
    files.append(File.generated(config, "assets/mermaid.min.js", content=MERMAID.read_bytes()))
    files.append(File.generated(config, "decisions/index.md", content=decisions()))
    for path in sorted(linked):
        files.append(File.generated(config, place(path), content=shown_file(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make a page of the repository one of the site."""
    found = page.file.src_uri
    if found.startswith(f"{SHOWN}/") or found == "decisions/index.md":
        return markdown
    path = {there: here for here, there in OUTSIDE.items()}.get(found, f"docs/{found}")
    return indented(unescaped(relinked(markdown, path)))


def _outside_of_code(text: str, change: Callable[[str], str]) -> str:
    lines = (line if in_code or _FENCE.match(line) else change(line) for line, in_code in _lines(text))
    return "\n".join(lines) + "\n"


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """List the lines, each with whether a block of code has begun before it, which it may end."""
    fenced = ""
    for line in text.splitlines():
        yield line, bool(fenced)
        fence = _FENCE.match(line)
        if fence is not None and (not fenced or fence[1].startswith(fenced)):
            fenced = "" if fenced else fence[1]
