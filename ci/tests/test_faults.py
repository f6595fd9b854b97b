"""faults: training on broken videos, and what the comparison sees."""

import re

import pytest

from ci import faults

BROKEN = {"a.mp4": "empty.mp4", "b.mp4": "rotated.mp4"}


def test_a_model_trains_through_all_faults():
    told, _, before, after, found = faults.compare("r2plus1d", 0.2, 0.01, 0, ["--train.eval_epochs=0"])
    assert found == []
    assert re.match(r"14 of 72 videos broken in 12 ways, ffmpeg killed [1-9]\d* times", told)
    assert sum(before.values()) == sum(after.values())  # each sample was read, a bad one's from another video


TOLD = "bad video 1: cannot decode a.mp4: empty\n"


@pytest.mark.parametrize(
    "lines, failures, after, wrong",
    [
        (TOLD, {"a.mp4": 2}, {}, None),
        ("", {"a.mp4": 2}, {}, "a.mp4 failed 2 times and was told 0 times"),
        (2 * TOLD, {"a.mp4": 2}, {}, "a.mp4 failed 2 times and was told 2 times"),
        ("", {}, {}, "a.mp4 cannot be read and was, or never failed: empty.mp4"),
        (TOLD, {"a.mp4": 2}, {"a.mp4": 1}, "a.mp4 cannot be read and was, or never failed: empty.mp4"),
        (
            TOLD + "bad video 2: cannot decode b.mp4: cut",
            {"a.mp4": 2, "b.mp4": 1},
            {},
            "b.mp4 can be read and failed: rotated.mp4",
        ),
        (TOLD, {"a.mp4": 2}, {"c.mp4": 2}, "c.mp4 was read 2 times, 3 times without the faults"),
    ],
)
def test_what_is_wrong_with_a_run(lines, failures, after, wrong):
    before = {"a.mp4": 5, "b.mp4": 5, "c.mp4": 3}
    found = list(faults.findings(lines, failures, BROKEN, before, {"b.mp4": 5, "c.mp4": 3, **after}))
    assert found == ([wrong] if wrong else [])


def test_a_run_that_fails_is_told(tmp_path):
    with pytest.raises(ValueError, match="no kinetics400 data set at gone"):
        faults.run("stnet", ["-c", "toy_config.yaml", "--dataset_path=gone"], tmp_path)
