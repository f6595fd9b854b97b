"""Episodes: which classes, which videos support and which are asked. Episode i is a function of (seed, i)
alone."""

from collections import namedtuple

import numpy as np

from shared_utils.config import UserError

# classes: (way,) class ids; support: (way, shot), query: (way, query) numbers of videos within their class.
Episode = namedtuple("Episode", "classes support query")


def check_positive(numbers):
    """Raise UserError unless all of {key: number} are at least 1."""
    for key, number in numbers.items():
        if number < 1:
            raise UserError(f"{key} must be at least 1, not {number}")


def check_classes(groups, way, shot, query, names):
    """Raise UserError unless every class has the videos and the groups for `shot` and `query`.

    `groups` is a list with an array for each class: the group of each of its videos.
    """
    check_positive({"model.way": way, "model.shot": shot, "query": query})
    if len(groups) < way:
        raise UserError(f"{way}-way episodes need {way} classes, there are {len(groups)}: {', '.join(names)}")
    for name, of_class in zip(names, groups):
        if len(of_class) < shot + query:
            raise UserError(
                f"class {name} has {len(of_class)} videos, fewer than {shot} for support and {query} "
                "for queries"
            )
        sums = {0}
        for size in np.unique(of_class, return_counts=True)[1]:
            sums |= {total + int(size) for total in sums}
        if not any(shot <= total <= len(of_class) - query for total in sums):
            raise UserError(
                f"class {name} has {len(of_class)} videos of {len(set(of_class.tolist()))} groups, too few "
                f"groups to keep {shot} for support and {query} for queries apart; "
                "distinct_groups=False lets them share a group"
            )


def draw_episode(groups, way, shot, query, seed, number):
    """Episode `number` of `seed`: `way` random classes, `shot` videos of each for support, `query` asked.

    `groups` as in check_classes: support and query never share a video nor a group.
    """
    rng = np.random.default_rng([seed, number])
    classes = rng.choice(len(groups), way, replace=False)
    sides = [_two_sides(rng, groups[label], shot, query) for label in classes]
    return Episode(classes, np.stack([side[0] for side in sides]), np.stack([side[1] for side in sides]))


def _two_sides(rng, groups, shot, query):
    """Support and queries of one class: groups are shuffled and cut in two, a side for each."""
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    while True:
        order = rng.permutation(len(sizes))
        left = np.cumsum(sizes[order])
        cuts = np.flatnonzero((left >= shot) & (left <= len(groups) - query))
        if len(cuts):
            side = np.argsort(order)[group] <= rng.choice(cuts)
            return (
                rng.choice(np.flatnonzero(side), shot, replace=False),
                rng.choice(np.flatnonzero(~side), query, replace=False),
            )
