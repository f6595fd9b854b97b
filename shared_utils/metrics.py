"""Scores: top-k, confusion and per-class accuracy, and the files that keep them."""
import contextlib
import csv
import hashlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path

import numpy as np

from shared_utils.config import UserError, explain


def top_k(scores, labels, k):
    """Whether the label is among the k best of (N, classes) scores: (N,) bool; ties to the lower id."""
    best = np.argsort(-np.asarray(scores), axis=1, kind="stable")[:, :k]
    return (best == np.asarray(labels)[:, None]).any(axis=1)


def confusion(labels, predictions, classes):
    """(classes, classes) int64 counts, row = true class, column = predicted class."""
    return np.bincount(np.asarray(labels) * classes + predictions, minlength=classes**2).reshape(classes, -1)


def per_class_accuracy(matrix, totals):
    """(classes,) share of `totals` on the diagonal of a confusion matrix; nan for a class without any."""
    return np.divide(np.diag(matrix), totals, out=np.full(len(matrix), np.nan), where=totals > 0)


def write_confusion(folder, stem, matrix, names, totals=None):
    """Write `stem`_per_class.csv (class, count, accuracy) and `stem`_confusion.png into `folder`. `totals`:
    samples of each class where some have no prediction, otherwise the row sums. Raises UserError."""
    from matplotlib.figure import Figure  # slow to import, and needed here alone
    folder, totals = Path(folder), matrix.sum(axis=1) if totals is None else totals
    shares = ["" if np.isnan(share) else f"{share:.4f}" for share in per_class_accuracy(matrix, totals)]
    rows = [("class", "count", "accuracy"), *zip(names, map(int, totals), shares)]
    with atomic_write(folder / f"{stem}_per_class.csv") as p, open(p, "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows(rows)
    side = min(20.0, 2.5 + 0.28 * len(names))
    axes = Figure(figsize=(side + 1, side), layout="constrained").subplots()
    image = axes.imshow(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1), vmin=0, vmax=1)
    if len(names) <= 60:
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7, parse_math=False)
        axes.set_yticks(range(len(names)), names, fontsize=7, parse_math=False)
    axes.set(xlabel="predicted", ylabel="true")
    axes.figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    with atomic_write(folder / f"{stem}_confusion.png") as path:
        axes.figure.savefig(path, dpi=110)


def write_results(path, results, checkpoint=""):
    """Write `results` as JSON (nan as null), with versions and the checkpoint's SHA-256. Raises UserError."""
    versions = {name: metadata.version(name) for name in ("mindspore", "numpy", "decord")}
    digest = checkpoint and hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest()
    told = {**results, "checkpoint": str(checkpoint), "checkpoint_sha256": digest,
            "versions": {"python": platform.python_version(), **versions}}
    told = json.loads(json.dumps(told), parse_constant=lambda name: None)
    write_text(path, json.dumps(told, indent=2, ensure_ascii=False) + "\n")


def write_text(path, text):
    """Write a text file whole or not at all. Raises UserError."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextlib.contextmanager
def atomic_write(path):
    """A file to write that becomes `path` at the end, whole or not at all, also if the power is lost. Raises
    UserError where it cannot be written (disk full, no permission); what was at `path` stays then."""
    path = Path(path)
    temporary = writable_folder(path.parent) / f".{hash(path.name):x}-{os.getpid()}{path.suffix}"
    try:
        with explain(OSError, f"cannot write {path}"):
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        for leftover in (temporary, temporary.with_suffix(".tmp")):  # the latter is MindSpore's
            with contextlib.suppress(OSError):
                leftover.unlink()


def writable_folder(path):
    """Make the folder `path` where it is missing and return it. Raises UserError."""
    with explain(OSError, f"cannot make the output folder {path}"):
        (path := Path(path)).mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"the output folder {path} is not writable")
    return path
