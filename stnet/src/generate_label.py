"""Label ids of Kinetics-400: python src/generate_label.py kinetics-400_train.csv kinetics400_label.txt

A line `<class> <id>` for each class of the list, ids from 0 in alphabetical order.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the model's folder, for a script inside src

from shared_utils.config import UserError
from shared_utils.datasets import kinetics400_rows, read_lines
from shared_utils.metrics import write_text


def labels_of(rows):
    """{class: id} of [(class, file name)], alphabetical."""
    return {name: label for label, name in enumerate(sorted({name for name, _ in rows}))}


def read_labels(path):
    """{class: id} of a file that this program wrote. Raises UserError."""
    labels = {}
    for line in read_lines(path):
        name, _, label = line.rpartition(" ")
        if not name or not label.isdecimal():
            raise UserError(f"{path}: {line!r} is not `<class> <id>`")
        labels[name] = int(label)
    return labels


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="kinetics-400_train.csv")
    parser.add_argument("dest", type=Path, help="kinetics400_label.txt")
    args = parser.parse_args(argv)
    if args.dest.resolve() == Path(args.source).resolve():
        raise UserError(f"DEST is the source: {args.dest} would be lost")
    labels = labels_of(kinetics400_rows(args.source))
    if not labels:
        raise UserError(f"{args.source} has no row")
    write_text(args.dest, "".join(f"{name} {label}\n" for name, label in labels.items()))
    print(f"{len(labels)} classes in {args.dest}")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        sys.exit(f"error: {error}")
