"""Closed, typed configuration: default_config.yaml, then a chosen YAML, then --section.key=value."""
import difflib
import re
import sys
from pathlib import Path

import yaml
from ml_collections import ConfigDict

# Spellings of the published YAML files that mean one of our keys.
ALIASES = {"file_formate": "file_format"}


class UserError(Exception):
    """A mistake of the user's or of the machine's: one line, no traceback, exit status 1."""


class _Loader(yaml.SafeLoader):
    """YAML with 1e-3 as a number; PyYAML takes it for text."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"),
                              list("-+0123456789"))


def load(argv, default):
    """Configuration of a program: `default`, overridden by -c FILE and its bases, then by --a.b=value.

    Every key must stand in `default`, with a value of the same type (null takes any type). Relative paths in
    `-c` are taken from the working directory, those in `base:` from the file that says it.
    Returns a locked ConfigDict. Raises UserError with the key and the nearest known one.
    """
    config_path, overrides = _parse_argv(argv)
    tree = _read_yaml(default)
    config = ConfigDict(tree)
    for path in _inheritance(config_path) if config_path else []:
        if path.resolve() != Path(default).resolve():
            _override(config, _flatten(_read_yaml(path), config), path)
    values = {key: _parse_value(key, text, _lookup(config, key)) for key, text in overrides.items()}
    _override(config, values, "the command line")
    return config.lock()


def run(main, script):
    """Run `main(config)` as the program `script`, with default_config.yaml beside it.

    A UserError ends it with one line and status 1, Ctrl-C with status 130.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"usage: python {Path(script).name} [-c FILE.yaml] [--section.key=value ...]")
        print(f"Keys, defaults and their meaning: {Path(script).resolve().with_name('default_config.yaml')}")
        return
    try:
        main(load(sys.argv[1:], Path(script).resolve().with_name("default_config.yaml")))
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        sys.exit(130)


def _parse_argv(argv):
    """Split the arguments into the path behind -c or --config_path (None without) and {dotted key: text}."""
    config_path, overrides, rest = None, {}, list(argv)
    while rest:
        word = rest.pop(0)
        key, equals, text = word.partition("=")
        if key not in ("-c", "--config_path") and not (key.startswith("--") and len(key) > 2):
            raise UserError(f"argument {word!r} is not understood; use -c FILE.yaml and --section.key=value")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"argument {word} has no value")
            text = rest.pop(0)
        if key in ("-c", "--config_path"):
            config_path = Path(text)
        else:
            overrides[key[2:]] = text
    return config_path, overrides


def _parse_value(key, text, old):
    """What --key=text means: the text as it was typed where the configuration has text, otherwise YAML."""
    try:
        return yaml.load(text, _Loader) if text and not isinstance(old, str) else text
    except (yaml.YAMLError, ValueError) as error:  # ValueError: 2024-13-45 is no date
        raise UserError(f"--{key}={text} is not a YAML value: {error}") from None


def _read_yaml(path):
    try:
        tree = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path} does not parse as YAML: {error}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds no configuration: a mapping of sections is expected")
    return tree


def _inheritance(path):
    """The files that `path` builds on by `base:`, the eldest first and `path` last."""
    chain = [Path(path)]
    while base := _read_yaml(chain[0]).get("base"):
        parent = chain[0].parent / str(base)
        if parent.resolve() in [child.resolve() for child in chain]:
            raise UserError(f"{path}: `base: {base}` goes in a circle")
        chain.insert(0, parent)
    return chain


def _flatten(tree, config, prefix=""):
    """{dotted key: value}; a mapping is entered where the configuration has a section of that name."""
    flat = {}
    for name, value in tree.items():
        key = f"{prefix}{ALIASES.get(name, name)}"
        if key == "base":
            continue
        if isinstance(value, dict) and isinstance(_lookup(config, key), ConfigDict):
            flat.update(_flatten(value, config, f"{key}."))
        else:
            flat[key] = value
    return flat


def _lookup(config, key):
    node = config
    for name in key.split("."):
        if not isinstance(node, ConfigDict) or name not in node:
            return KeyError
        node = node[name]
    return node


def _override(config, values, source):
    for spelled, value in values.items():
        *path, name = spelled.split(".")
        key = ".".join([*path, ALIASES.get(name, name)])
        old = _lookup(config, key)
        if old is KeyError:
            raise UserError(f"unknown key {spelled} in {source}{_nearest(config, key)}")
        if not _fits(old, value):
            raise UserError(f"{key} in {source} must be {_kind(old)}, not {_kind(value)} ({value!r})")
        config.update_from_flattened_dict({key: float(value) if type(old) is float else value})


def _fits(old, value):
    """Whether `value` may stand where the default has `old`; an int may stand for a float, never a bool."""
    if old is None or type(old) is type(value):
        return True
    return type(old) is float and type(value) is int


def _kind(value):
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list",
             ConfigDict: "a section", dict: "a section", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _nearest(config, key):
    known = sorted(_leaves(config))
    by_name = [full for full in known if full.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
    close = by_name or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; the nearest known key is {close[0]}" if close else ""


def _leaves(config, prefix=""):
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _leaves(value, f"{prefix}{name}.")
        yield f"{prefix}{name}"
