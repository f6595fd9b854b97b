"""Two ranks learn what one learns, dropout included."""

from shared_utils.tests import ranks


def test_two_ranks_learn_what_one_learns(tiny, tmp_path):
    ranks.learn_as_one("i3d", tiny, tmp_path, port=8430)


def test_two_ranks_normalise_as_one_where_norms_are_synchronised(tiny, tmp_path):
    ranks.learn_as_one("i3d", tiny, tmp_path, port=8430, norms="sync_norm")
