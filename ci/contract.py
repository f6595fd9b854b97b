"""Does the repository keep its own rules? `python ci/contract.py [ROOT]`: a line for each breach, status 1.

The rules: which files there are, who may import whom, how long things may grow, safe scripts, configuration
keys that are explained and read, pinned requirements, links that lead somewhere.
"""

import ast
import io
import keyword
import os
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ci.changed_models import models
from shared_utils.config import UserError, load

SHARED_LINES = 1400
# Each model stands alone, and networks that take the same clips keep these files the same.
ALIKE = ("i3d", "nonlocal", "r2plus1d")
COPIES = "eval.py infer.py export.py src/dataset.py src/dropout.py src/evaluation.py src/step.py src/views.py"
OF_ALL_CLASSIFIERS = "src/memory.py src/sync_norm.py"  # stnet's, too
OF_THE_REPOSITORY = """
    README.md LICENSE Makefile pyproject.toml requirements.txt .pre-commit-config.yaml
    .github/workflows/ci.yml .ci/run shared_utils/video.py shared_utils/sampling.py shared_utils/transforms.py
    shared_utils/datasets.py shared_utils/metrics.py shared_utils/config.py shared_utils/training.py
    shared_utils/tests/test_*.py"""
OF_A_MODEL = """
    README.md requirements.txt default_config.yaml toy_config.yaml train.py eval.py infer.py export.py
    convert.py scripts/run_standalone_train*.sh scripts/run_distribute_train*.sh scripts/run_*eval*.sh
    src/network.py src/dataset.py tests/test_*.py shared_utils/__init__.py"""
ARROWS = "arrows go scripts -> train.py -> src -> shared_utils -> libraries"
# Written so that this file does not breach its own rules.
UNFINISHED = re.compile(r"\b(TO[D]O|FIX[M]E)\b")
LEAK = re.compile(
    r"/[w]ork/|/[o]pt/pypi|/[r]oot/|/[h]ome/[a-z]|\.\./[s]hared/"
    r"|\b([c]laude|[a]nthropic|[t]his session|[s]andbox)\b",
    re.IGNORECASE,
)
PIN = re.compile(r"[A-Za-z0-9._-]+(\[[\w,-]+\])?==[\w.+!]+(\s*;.+)?$")
LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)|\bsrc=\"([^\"]+)\"")


def repository_files(root):
    """The files of the repository as relative paths, sorted: all that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    names = listing.stdout.split("\0") if listing.returncode == 0 else walk(root)
    return sorted({name for name in names if (root / name).is_file()})


def walk(root):
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in (".git", ".venv", "__pycache__")]
        yield from (os.path.relpath(Path(folder, name), root) for name in files)


def lines(root, path):
    return (root / path).read_text(encoding="utf-8", errors="replace").splitlines()


def missing(root, folder, patterns):
    for pattern in patterns.split():
        if not any((root / folder).glob(pattern)):
            yield 1, f"{pattern} is missing"


def copies(root):
    """(path, line, what) of each file of COPIES that differs between the models ALIKE, or these and stnet."""
    kept = dict.fromkeys(COPIES.split(), ALIKE)
    kept.update(dict.fromkeys(OF_ALL_CLASSIFIERS.split(), (*ALIKE, "stnet")))
    for name, owners in kept.items():
        first, *others = [path for model in owners if (path := root / model / name).is_file()] or [None]
        for other in others:
            if other.read_bytes() != first.read_bytes():
                yield str(other.relative_to(root)), 1, f"differs from {first.relative_to(root)}"


def at_most(limit):
    def check(root, path):
        if (count := len(lines(root, path))) > limit:
            yield limit + 1, f"{count} lines, at most {limit} are allowed"

    return check


def nowhere(pattern, what):
    def check(root, path):
        for number, line in enumerate(lines(root, path), 1):
            if found := pattern.search(line):
                yield number, f"{what}: {found[0]}"

    return check


def safe_script(root, path):
    text = lines(root, path)
    if text[:1] != ["#!/bin/bash"]:
        yield 1, "the first line is not #!/bin/bash"
    if "set -euo pipefail" not in text:
        yield 1, "no line `set -euo pipefail`"
    for number, line in enumerate(text, 1):
        if re.search(r"\brm\s+(-\w+\s+)*-\w*(r\w*f|f\w*r)", line):
            yield number, "rm -rf"
        if re.search(r"\bsed\b.*(\.ya?ml|config)|\bsed\s+(-\w+\s+)*-\w*i", line, re.IGNORECASE):
            yield number, "sed rewrites a file: pass --section.key=value"


def parsed(root, path):
    return ast.parse((root / path).read_text(encoding="utf-8"), filename=path)


def parses(root, path):
    try:
        parsed(root, path)
    except SyntaxError as error:
        yield error.lineno or 1, f"does not parse: {error.msg}"


def imports(root, path):
    """(line, dotted name) of everything that a file imports, `from a import b` as a.b."""
    for node in ast.walk(parsed(root, path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            stem = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{stem}.{alias.name}") for alias in node.names)


def imports_nothing_of(forbidden):
    """`forbidden`: function (root, path) -> names of packages and modules."""

    def check(root, path):
        names = set(forbidden(root, path))
        for number, name in imports(root, path):
            if name.split(".")[0] in names:
                yield number, f"imports {name}: {ARROWS}"

    return check


def other_models(root, path):
    return set(models(root)) - {path.split("/")[0]}


def models_and_their_parts(root, path):
    return {*models(root), "src", "train", "eval", "infer", "export", "convert"}


def programs(root, path):
    return {program.stem for program in (root / path.split("/")[0]).glob("*.py")} | {"ci", "tests"}


def torch(root, path):
    return {"torch", "torchvision", "ci", "tests"}


def names_no_model(root, path):
    pattern = re.compile(rf"\b({'|'.join(models(root)) or '(?!)'})\b", re.IGNORECASE)
    for token in tokenize.generate_tokens(io.StringIO((root / path).read_text(encoding="utf-8")).readline):
        if not keyword.iskeyword(token.string) and (found := pattern.search(token.string)):
            yield token.start[0], f"names the model {found[0]}"


def knows_no_config(root, path):
    for number, name in imports(root, path):
        if re.match(r"yaml|ml_collections|shared_utils\.config(?!\.UserError)", name):
            yield number, f"imports {name}: a network takes numbers, never the config"
    for node in ast.walk(parsed(root, path)):
        if "config" in {getattr(node, field, None) for field in ("id", "arg", "attr")}:
            yield node.lineno, "touches the config: a network takes numbers"


def leaves(node, key=(), section=None):
    """(key as a tuple, line from 0, line of its section or None) of every leaf of a composed YAML mapping."""
    for name, value in node.value:
        full, line = (*key, name.value), name.start_mark.line
        if isinstance(value, yaml.MappingNode):
            yield from leaves(value, full, line)
        else:
            yield full, line, section


def configuration(root, path):
    """Every key of a default_config.yaml has a comment and is read by the model or by shared_utils."""
    text = lines(root, path)
    keys = list(leaves(yaml.compose("\n".join(text), yaml.SafeLoader)))
    tree = yaml.safe_load("\n".join(text))
    unread = {"only", *tree.get("only", ()), *tree.get("instead", ())}  # config.load checks them

    def commented(line):
        return line is not None and ("#" in text[line] or text[line - 1].lstrip().startswith("#"))

    # data_loader.eval.dataset.seq is explained by data_loader.train.dataset.seq
    explained = {key[-2:] for key, line, _ in keys if commented(line)}
    attributes, passed = names_used(root, path.split("/")[0])
    for key, line, section in keys:
        name = ".".join(key)
        if key[-1] != "operations" and key[-2:] not in explained and not commented(section):
            yield line + 1, f"the key {name} has no comment"
        checked = key[0] == "instead" or name in unread
        if not checked and key[-1] not in attributes and not passed.intersection(key[:-1]):
            yield line + 1, f"no program reads the key {name}"


def names_used(root, model):
    """All attribute names in the code of a model and shared_utils; names of the sections passed with **."""
    attributes, passed = set(), set()
    pattern = re.compile(rf"({model}|shared_utils)/(?!tests/).*\.py")
    for path in filter(pattern.fullmatch, repository_files(root)):
        for node in ast.walk(parsed(root, path)):
            if isinstance(node, ast.Attribute):
                attributes.add(node.attr)
            elif isinstance(node, ast.keyword) and node.arg is None and isinstance(node.value, ast.Attribute):
                passed.add(node.value.attr)
    return attributes, passed


def loads(root, path):
    try:
        load(["-c", str(root / path)], root / path.split("/")[0] / "default_config.yaml")
    except UserError as error:
        yield 1, str(error)


def pinned(root, path):
    for number, line in enumerate(lines(root, path), 1):
        requirement = line.split("#")[0].strip()
        if requirement.startswith("-r "):
            if not (root / path).parent.joinpath(requirement[3:].strip()).is_file():
                yield number, f"no such file: {requirement[3:]}"
        elif requirement and not PIN.match(requirement):
            yield number, f"{requirement} is not pinned with =="


def links_lead_somewhere(root, path):
    for number, line in enumerate(lines(root, path), 1):
        for target in filter(None, (found[1] or found[2] for found in LINK.finditer(line))):
            file = target.split("#")[0]
            if file and not re.match(r"\w+:", file) and not (root / path).parent.joinpath(file).exists():
                yield number, f"the link leads nowhere: {target}"


# Which files (MODEL stands for any model's name), and what is asked of each.
CHECKS = (
    (r".*", nowhere(UNFINISHED, "unfinished")),
    (r".*", nowhere(LEAK, "tells of the machine it was written on")),
    (r".*\.(py|sh)", at_most(400)),
    (r"shared_utils/(?!tests/).*\.py", at_most(250)),
    (r"MODEL/train\.py", at_most(149)),
    (r"MODEL/scripts/.*\.sh", at_most(30)),
    (r"(MODEL/scripts|ci|shared_utils)/.*\.sh", safe_script),
    (r"shared_utils/.*\.py", imports_nothing_of(models_and_their_parts)),
    (r"shared_utils/(?!tests/).*\.py", names_no_model),
    (r"(shared_utils/(?!tests/)|MODEL/(src/|train|eval|infer|export)).*\.py", imports_nothing_of(torch)),
    (r"MODEL/.*\.py", imports_nothing_of(other_models)),
    (r"MODEL/src/.*\.py", imports_nothing_of(programs)),
    (r"MODEL/src/network\.py", knows_no_config),
    (r"MODEL/default_config\.yaml", configuration),
    (r"MODEL/\w+\.yaml", loads),
    (r"(.*/)?requirements[^/]*\.txt", pinned),
    (r"(.*/)?README\.md", links_lead_somewhere),
)


def breaches(root):
    """(number of checks made, sorted [(path, line, what)]) of a repository."""
    root = Path(root)
    paths, names = repository_files(root), models(root)
    found = [("", *breach) for breach in missing(root, "", OF_THE_REPOSITORY)]
    found += [(name, *breach) for name in names for breach in missing(root, name, OF_A_MODEL)]
    code = [path for path in paths if re.fullmatch(r"shared_utils/(?!tests/).*\.py", path)]
    if (count := sum(len(lines(root, path)) for path in code)) > SHARED_LINES:
        found.append(("shared_utils", 1, f"{count} lines without tests, at most {SHARED_LINES} are allowed"))
    found += copies(root)
    broken = [(path, *breach) for path in paths if path.endswith(".py") for breach in parses(root, path)]
    if broken:  # what follows reads Python files
        return 1, broken
    checks = 2 + len(names)
    for pattern, check in CHECKS:
        chosen = list(filter(re.compile(pattern.replace("MODEL", f"({'|'.join(names)})")).fullmatch, paths))
        checks += len(chosen)
        found += [(path, *breach) for path in chosen for breach in check(root, path)]
    return checks, sorted(set(found))


def main():
    if len(sys.argv) > 2:
        sys.exit("usage: python ci/contract.py [ROOT]")
    checks, found = breaches(sys.argv[1] if len(sys.argv) == 2 else Path(__file__).resolve().parents[1])
    for path, line, what in found:
        print(f"{path or '.'}:{line}: {what}")
    if found:
        sys.exit(1)
    print(f"{checks} checks, no breach")


if __name__ == "__main__":
    main()
