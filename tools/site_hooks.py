"""What `mkdocs build` adds to docs/: a page for every command, the README, and what pages link to.

mkdocs.yml names this file. Pages of commands are made from the command line itself, so that they
cannot say anything else; the home page is the README. Links that lead out of docs/ lead to copies
in the site: a page for Markdown and for a folder, else the file itself.
"""

from __future__ import annotations

import html
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

COMMANDS = "commands"  # the folder of their pages
# Files outside docs/ that have a place of their own in the site.
PLACES = {"README.md": "index.md", "CHANGELOG.md": "changes.md"}
ELSEWHERE = "files"
BRACES = str.maketrans("", "", "{}")  # typer has these around arguments
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")


def on_config(config: Any) -> Any:
    """Put the commands' pages into the navigation."""
    pages = [f"{COMMANDS}/index.md", *(f"{COMMANDS}/{name}.md" for name in commands())]
    for entry in config.nav:
        if entry.get("Commands") == COMMANDS:
            entry["Commands"] = pages
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages and files that are not in docs/."""
    from mkdocs.structure.files import File, InclusionLevel

    def add(place: str, **source: str) -> None:
        file = File.generated(config, place, **source)
        if place.startswith(f"{ELSEWHERE}/"):
            file.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(file)

    add(f"{COMMANDS}/index.md", content=overview())
    for name, text in commands().items():
        add(f"{COMMANDS}/{name}.md", content=text)
    for path in linked():
        if path.is_dir():
            add(place_of(path), content=listing(path))
        elif path.suffix == ".md":
            add(place_of(path), content=relinked(path.read_text(encoding="utf-8"), path))
        else:
            add(place_of(path), abs_src_path=str(path))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Mend the links of a page in docs/."""
    path = ROOT / "docs" / page.file.src_uri
    return relinked(markdown, path) if page.file.generated_by is None else markdown


def target(link: str, page: Path) -> Path | None:
    """Return the file or folder of the repository that a link leads to, if it leads to one."""
    path = (page.parent / link).resolve()
    return path if ":" not in link and ROOT in path.parents and path.exists() else None


def links(page: Path) -> Iterator[Path]:
    """Give the files and folders of the repository that a page links to."""
    for match in LINK.finditer(page.read_text(encoding="utf-8")):
        if (path := target(match[1], page)) is not None:
            yield path


def linked() -> list[Path]:
    """Return what lies outside docs/ and is linked to, from there or from what is linked to."""
    found: dict[Path, None] = {}
    waiting = [ROOT / name for name in PLACES]
    pages = sorted((ROOT / "docs").glob("**/*.md"))
    for path in pages:
        waiting += links(path)
    while waiting:
        path = waiting.pop()
        if path in found or (ROOT / "docs") in path.parents:
            continue
        found[path] = None
        if path.is_dir():
            waiting += [child for child in path.iterdir() if child.is_file()]
        elif path.suffix == ".md":
            waiting += links(path)
    return sorted(found)


def place_of(path: Path) -> str:
    """Return where in the site a file or folder of the repository is."""
    name = path.relative_to(ROOT).as_posix()
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    if path.is_dir():
        return f"{ELSEWHERE}/{name}/index.md"
    return PLACES.get(name, f"{ELSEWHERE}/{name}")


def relinked(text: str, page: Path) -> str:
    """Return a page's text with the links as they are in the site.

    One that leads nowhere stays, for MkDocs to name it.
    """
    here = posixpath.dirname(place_of(page))

    def link(match: re.Match[str]) -> str:
        path = target(match[1], page)
        if path is None:
            return match[0]
        return posixpath.relpath(place_of(path), here or ".") + (match[2] or "")

    return LINK.sub(link, text)


def listing(folder: Path) -> str:
    """Return the page of a folder: its files."""
    names = sorted(child.name for child in folder.iterdir() if child.is_file())
    title = folder.relative_to(ROOT).as_posix()
    return "\n".join([f"# {title}", "", *(f"- [{name}]({name})" for name in names), ""])


def commands() -> dict[str, str]:
    """Return the page of every command, by its name."""
    import typer

    from ptqsr.cli.app import app

    group = typer.main.get_command(app)
    return {name: command_page(name, command) for name, command in group.commands.items()}


def command_page(name: str, command: Any) -> str:
    """Return a command's page: what it does, every option, and the examples of other pages."""
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join(["ptqsr", name, *command.collect_usage_pieces(context)]).translate(BRACES)
    lines = [f"# ptqsr {name}", "", command.help, "", "```text", usage, "```", ""]
    for title, kind in (("Arguments", "argument"), ("Options", "option")):
        records = [
            parameter.get_help_record(context)
            for parameter in command.params
            if parameter.param_type_name == kind
        ]
        if records:
            lines += [f"## {title}", "", "<dl>", *(option(*record) for record in records), "</dl>"]
            lines.append("")
    if found := examples(name):
        lines += ["## Examples", ""]
        for path, blocks in found.items():
            title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
            link = posixpath.relpath(place_of(path), COMMANDS)
            lines += [f"From [{title}]({link}):", "", "```bash", *blocks, "```", ""]
    return "\n".join(lines)


def option(names: str, text: str) -> str:
    """Return an option's lines of HTML, which a link `#--bits` finds."""
    anchor = next((word for word in re.split(r"[ ,/]+", names) if word.startswith("--")), "")
    given = f' id="{anchor}"' if anchor else ""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
    return f"<dt{given}><code>{html.escape(names)}</code></dt>\n<dd>{marked}</dd>"


def examples(name: str) -> dict[Path, list[str]]:
    """Return a command's lines in the blocks of the README and of docs/, by page."""
    found: dict[Path, list[str]] = {}
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        blocks = re.findall(r"```bash\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
        lines = re.findall(rf"^ptqsr {name}(?: (?:.*\\\n)*.*)?$", "".join(blocks), re.MULTILINE)
        if lines:
            found[path] = list(dict.fromkeys(lines))
    return found


def overview() -> str:
    """Return the page that lists the commands."""
    lines = ["# Commands", ""]
    for name, text in commands().items():
        does = text.split("\n", 3)[2]
        lines += [f"[`ptqsr {name}`]({name}.md)", f":   {does}", ""]
    return "\n".join(lines)
