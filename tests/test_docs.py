"""Pages are short and true: lines, paragraphs, links, files, imports, changes of a version."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
PAGES += sorted((REPOSITORY / "docs").rglob("*.md"))
ROOTS = (REPOSITORY, REPOSITORY / "crystallm")
SHORT = [page for page in PAGES if "decisions" not in page.parts]

COLUMNS = 120
WORDS = 90
CHANGES = 15

FOLDERS = "crystallm|docs|eval|findings|sample|studies|tests|tokenizer|train|crystal|data|energy|model"
ELSEWHERE = {"eval/benchmarks/NAME.yaml", "train/train-00000-of-00012.parquet", "crystallm/_metrics.py"}
"""No files of this repository: a name to fill in, a user's file, a file of CrystaLLM."""

ITEM = re.compile(r"\s*([-*]|\d+\.)\s")


def name(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line outside code and tables."""
    code = False
    for number, line in enumerate(text.splitlines(), 1):
        fence = line.lstrip().startswith("```")
        code ^= fence
        yield number, "" if code or fence or line.lstrip().startswith("|") else line


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Number of the first line and text of each paragraph; an item of a list is one."""
    first = 0
    lines: list[str] = []
    for number, line in [*prose(text), (0, "")]:
        heading = line.startswith("#")
        if lines and (not line.strip() or heading or ITEM.match(line)):
            yield first, " ".join(lines)
            lines = []
        if line.strip() and not heading:
            first = first if lines else number
            lines.append(line)


def anchors(text: str) -> set[str]:
    """What a heading is called in a link, as GitHub makes it."""
    headings = [line.lstrip("# ") for _, line in prose(text) if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_paragraphs_of_a_page() -> None:
    page = "# A\nfirst\nline\n- one\n- two\n  more\n\n```\ncode\n```\n| a |\nlast\n"
    assert [text for _, text in paragraphs(page)] == ["first line", "- one", "- two   more", "last"]
    assert anchors("## What the model has seen\n# A, `b`\n") == {"what-the-model-has-seen", "a-b"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_lines_are_short(page: Path) -> None:
    assert [number for number, line in prose(page.read_text(encoding="utf-8")) if len(line) > COLUMNS] == []


@pytest.mark.parametrize("page", SHORT, ids=name)
def test_paragraphs_are_short(page: Path) -> None:
    found = paragraphs(page.read_text(encoding="utf-8"))
    assert [(number, len(text.split())) for number, text in found if len(text.split()) > WORDS] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            missing.append(link)
    assert missing == []


@pytest.mark.parametrize("page", [page for page in SHORT if page.name != "CHANGELOG.md"], ids=name)
def test_files_exist(page: Path) -> None:
    """Paths in code marks, from the root or from the package."""
    named = set(re.findall(rf"`((?:{FOLDERS})/[\w./-]*\w/?)`", page.read_text(encoding="utf-8"))) - ELSEWHERE
    assert [path for path in sorted(named) if not any((root / path).exists() for root in ROOTS)] == []


@pytest.mark.parametrize("page", SHORT, ids=name)
def test_python_of_a_page_imports_what_exists(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = import_module(node.module)
                assert [each.name for each in node.names if not hasattr(module, each.name)] == [], node.module
            elif isinstance(node, ast.Import):
                for each in node.names:
                    import_module(each.name)


def test_a_version_has_few_changes() -> None:
    """A line each, of what a user would notice."""
    _, *versions = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8").split("\n## ")
    assert len(versions) >= 2
    for version in versions:
        title, *lines = [line for line in version.splitlines() if line]
        assert 0 < len(lines) <= CHANGES, title
        assert all(line.startswith("- ") for line in lines), title
