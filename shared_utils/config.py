"""Closed, typed configuration: default_config.yaml, then a chosen YAML, then --section.key=value."""
import contextlib
import difflib
import re
import sys
from pathlib import Path

from ml_collections import ConfigDict
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

CHOOSE = ("-c", "--config_path")


class UserError(Exception):
    """A mistake of the user's or of the machine's: one line, no traceback, exit status 1."""


@contextlib.contextmanager
def explain(kinds, what):
    """Raise the errors of `kinds` as the UserError `what`: reason."""
    try:
        yield
    except kinds as error:
        reason = getattr(error, "strerror", None) or (str(error) or repr(error)).split("\n\n")[0]
        raise UserError(f"{what}: {' '.join(reason.split())}") from None


def load(argv, default):
    """Locked ConfigDict of a program: `default`, overridden by -c FILE and its bases, then by --a.b=value.
    Every key must stand in `default`, with a value of the same type (null takes any), a number from 0 on.
    Keys that only published files need: those in the default's list `only` take no other value; those in its
    mapping `instead`, to what decides or null, have no effect: a note says so. UserError: the nearest key."""
    words, tree = list(_words(argv)), _read_yaml(default)
    rules = {name: tree.pop(name) for name in ("only", "instead") if name in tree}
    values, known = dict(_flat(tree)), dict(_flat(tree))
    chosen = [text for word, text in words if word in CHOOSE]
    for path, changes in _inheritance(Path(chosen[-1])) if chosen else []:
        own = {key: value for key, value in changes.items() if key not in rules}  # a whole copy has them, too
        values.update(_fitting(known, _flat(own, known), path))
    flags = {word[2:]: text if isinstance(known.get(word[2:]), str) or not text else
             _yaml(text, f"{word}={text}") for word, text in words if word not in CHOOSE}
    values.update(_fitting(known, _flat(flags, known), "the command line"))
    if wrong := [key for key in rules.get("only", ()) if str(values[key]).lower() != str(known[key]).lower()]:
        raise UserError(f"{wrong[0]} is {values[wrong[0]]}, but {known[wrong[0]]} is all there is")
    for key, other in rules.get("instead", {}).items():
        if values[key] and not (other and values[key] == values[other]):
            print(f"note: {key} {values[key]} is not used{f', {other} {values[other]} is' if other else ''}")
    config = ConfigDict(tree)
    config.update_from_flattened_dict({key: values[key] for key in known if not isinstance(known[key], dict)})
    return config.lock()


def run(main, script):
    """Run `main(config)` as the program `script`. A UserError ends it with one line and status 1."""
    default = Path(script).resolve().with_name("default_config.yaml")
    if {"-h", "--help"} & set(sys.argv[1:]):
        usage = f"usage: python {Path(script).name} [-c FILE.yaml] [--section.key=value ...]"
        return print(f"{usage}\nKeys and defaults, as in {default}:\n\n{default.read_text('utf-8')}", end="")
    sys.stdout.reconfigure(errors="backslashreplace")  # file names may be any bytes
    try:
        main(load(sys.argv[1:], default))
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        sys.exit(130)


def _words(argv):
    """(-c, --config_path or --a.b, text behind it) of each argument."""
    words = iter(argv)
    for word in words:
        key, equals, text = word.partition("=")
        if key not in CHOOSE and not (key.startswith("--") and len(key) > 2):
            raise UserError(f"argument {word!r} is not understood; use -c FILE.yaml and --section.key=value")
        if not equals and (text := next(words, "--")).startswith("--"):
            raise UserError(f"argument {word} has no value")
        yield key, text


def _yaml(text, source):
    with explain((YAMLError, ValueError, KeyError), f"{source} does not parse as YAML"):  # 2024-13-1 too
        return YAML(typ="safe", pure=True).load(text)  # YAML 1.2: 1e-3 is a number, no key is there twice


def _read_yaml(path):
    with explain((OSError, UnicodeDecodeError), f"cannot read the configuration {path}"):
        tree = _yaml(Path(path).read_text(encoding="utf-8"), path)
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds no configuration: a mapping of sections is expected")
    return tree


def _inheritance(path, heirs=()):
    """[(path, tree)] of the files that `path` builds on by `base:`, the eldest first and `path` last."""
    if path.resolve() in heirs:
        raise UserError(f"{path}: its `base` goes in a circle")
    tree = _read_yaml(path)
    base = tree.pop("base", None)
    return [*(_inheritance(path.parent / str(base), (path.resolve(), *heirs)) if base else ()), (path, tree)]


def _flat(tree, known=None, prefix=""):
    """(dotted key, value) of a tree; sections are entered where `known` has them, without it also kept."""
    for name, value in tree.items():
        key = re.sub(r"\bfile_formate$", "file_format", f"{prefix}{name}")  # the published files' spelling
        section = isinstance(value, dict) and (known is None or isinstance(known.get(key), dict))
        if known is None or not section:
            yield key, value
        if section:
            yield from _flat(value, known, f"{key}.")


def _fitting(known, values, source):
    """(key, value) of (key, value), where the default has the key with a value of the same type."""
    for key, value in values:
        if key not in known:
            by_name = [full for full in known if full.split(".")[-1] == key.split(".")[-1]]
            close = sorted(by_name) or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            nearest = f"; the nearest known key is {close[0]}" if close else ""
            raise UserError(f"unknown key {key} in {source}{nearest}")
        old = known[key]
        if not _fits(old, value):
            raise UserError(f"{key} in {source} must be {_kind(old)}, not {_kind(value)} ({value!r})")
        limit = {int: 2**63, float: 10**308}.get(type(old))
        if limit and not 0 <= value < limit:
            fault = "is too large" if value >= limit else f"must not be negative, and is {value}"
            raise UserError(f"{key} in {source} {fault}")
        whole = str(Path(value).expanduser()) if str(value).startswith("~/") else value
        yield key, float(whole) if type(old) is float else whole


def _fits(old, value):
    """Whether `value` is of the type of `old`, or an int for a float; in a list each entry of its first."""
    if old and isinstance(old, list) and isinstance(value, list):
        return all(_fits(old[0], entry) for entry in value)
    return old is None or type(old) is type(value) or (type(old) is float and type(value) is int)


def _kind(value):
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list",
             dict: "a section", type(None): "null"}
    parts = [value, *value] if isinstance(value, list) else [value]
    kind, *entries = (names.get(type(part), type(part).__name__) for part in parts)
    return f"{kind}, each entry {' or '.join(dict.fromkeys(entries))}" if entries else kind
