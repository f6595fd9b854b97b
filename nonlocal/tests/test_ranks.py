"""Two ranks learn what one learns, dropout included."""

from shared_utils.tests import ranks


def test_two_ranks_learn_what_one_learns(tiny, tmp_path):
    ranks.learn_as_one("nonlocal", tiny, tmp_path, port=8440)
