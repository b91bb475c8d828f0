"""Reading a Dockerfile, and the rules that ours keeps."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

BASE = "${PYTHON_IMAGE}"
_KNOWN = {
    "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "RUN", "STOPSIGNAL", "USER",
    "VOLUME", "WORKDIR",
}  # fmt: skip
_HOST = re.compile(r"(?:[a-z0-9-]+\.)+(?:com|io|org|net|dev)\b", re.IGNORECASE)


@dataclass(slots=True, kw_only=True)
class Stage:
    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def of(self, keyword: str) -> list[str]:
        return [text for word, text in self.instructions if word == keyword]


def read(text: str) -> tuple[list[tuple[str, str]], list[Stage]]:
    """What stands before the first FROM, and the stages."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    before: list[tuple[str, str]] = []
    stages: list[Stage] = []
    for line in filter(str.strip, joined.splitlines()):
        word, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if word.upper() == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base=base, name=name))
        elif stages:
            stages[-1].instructions.append((word.upper(), rest))
        else:
            before.append((word.upper(), rest))
    return before, stages


def faults(text: str, root: Path) -> Iterator[str]:
    """Every rule that a Dockerfile breaks."""
    before, stages = read(text)
    if ("ARG", "PYTHON_IMAGE") not in before or len(before) != 1:
        yield "the base image is a required argument, without a default, and the only one"
    if re.match(r"\s*#\s*(syntax|escape)\s*=", text):
        yield "no frontend is fetched by name"
    if _HOST.search(re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)):
        yield "no host is named"
    for stage in stages:
        yield from _stage_faults(stage, {one.name for one in stages}, root)
    if not stages:
        yield "there are no stages"
        return
    yield from _final_faults(stages[-1])
    checked = [run for run in stages[0].of("RUN") if "by_digest.py" in run]
    if not checked or "ARG PYTHON_IMAGE" not in [" ".join(one) for one in stages[0].instructions]:
        yield "the first stage checks that the base image is named by digest"


def _stage_faults(stage: Stage, names: set[str], root: Path) -> Iterator[str]:
    if stage.base not in {BASE, "scratch"}:
        yield f"every stage begins at {BASE} or at nothing"
    for word, rest in stage.instructions:
        if word not in _KNOWN:
            yield f"{word} is not used"
        if word in {"RUN", "CMD", "ENTRYPOINT"}:
            yield from _command_faults(word, rest)
        if word == "COPY":
            yield from _copy_faults(rest, names, root)
        if word in {"ENV", "ARG"} and re.search(r"(?i)key|token|secret|password|proxy", rest):
            yield "no secret and no proxy is built in"


def _command_faults(word: str, rest: str) -> Iterator[str]:
    try:
        command = json.loads(rest)
    except ValueError:
        yield f"{word} goes without a shell"
        return
    if "install" in command and not {"--require-hashes", "--only-binary=:all:"} <= set(command):
        yield "what is installed is hashed, and not built"
    if re.search(r"apt|curl|wget|git", command[0]):
        yield "nothing is fetched but pinned wheels"


def _copy_faults(rest: str, names: set[str], root: Path) -> Iterator[str]:
    words = rest.split()
    flags = [word for word in words if word.startswith("--")]
    sources = [word for word in words if word not in flags][:-1]
    for flag in flags:
        if flag.removeprefix("--from=") not in names:
            yield "COPY takes from this build alone"
    if not flags:
        for source in sources:
            if not (root / source).exists() or ignored(source.rstrip("/"), root):
                yield f"{source} is there to be copied"


def _final_faults(stage: Stage) -> Iterator[str]:
    if stage.base != "scratch" or stage.of("RUN"):
        yield "the last stage begins at nothing and runs nothing"
    users = stage.of("USER")
    if len(users) != 1 or not re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", users[0]):
        yield "the gateway runs as a numbered user that is not root"
    if not stage.of("ENTRYPOINT"):
        yield "the last stage has an entry point"


def ignored(path: str, root: Path) -> bool:
    """Whether .dockerignore keeps a path out: the last pattern that fits decides."""
    out = False
    for line in (root / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        name = pattern.removeprefix("!")
        parts = path.split("/")
        prefixes = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        deep = name.removeprefix("**/") if name.startswith("**/") else None
        fits = any(_fits(prefix, name) for prefix in prefixes) or deep in parts
        if fits:
            out = not pattern.startswith("!")
    return out


def _fits(path: str, pattern: str) -> bool:
    # A star does not go beyond a slash.
    return path.count("/") == pattern.count("/") and fnmatch.fnmatchcase(path, pattern)
