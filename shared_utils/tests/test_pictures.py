"""video: the GIF or MP4 of a clip with words below it."""

import os

import imageio
import numpy as np
import pytest

from shared_utils import video


def test_a_gif_has_its_frames_pace_and_text(tmp_path):
    clip = np.zeros((4, 30, 50, 3), np.uint8)
    clip[:, :, :, 1] = 40 * np.arange(4)[:, None, None]
    video.write_picture(
        tmp_path / "a.gif", clip, [("ä long line of téxt " * 5, (255, 255, 255)), ("", (0, 255, 0))], fps=5
    )
    frames = imageio.mimread(tmp_path / "a.gif", memtest=False)
    assert [frame.shape for frame in frames] == [(192 + 44, 320, 3)] * 4
    for number, frame in enumerate(frames):
        assert np.abs(frame[:192].astype(int) - [0, 40 * number, 0]).max() < 12
        text = frame[192:212].max(2) > 128
        assert text[:, 200:].any() and not text[:, -3:].any() and not frame[214:].any()
    assert imageio.v3.immeta(tmp_path / "a.gif")["duration"] == 200
    (tmp_path / "file").touch()
    with pytest.raises(video.UserError, match="cannot make the output folder"):
        video.write_picture(tmp_path / "file" / "a.gif", clip, [])
    assert sorted(os.listdir(tmp_path)) == ["a.gif", "file"]


def test_an_mp4_of_which_ffmpeg_wrote_a_part_is_not_left(tmp_path, monkeypatch):
    mimsave = video.imageio.mimsave

    def on_a_full_disk(path, *clip, **options):
        mimsave(path, *clip, **options)
        os.truncate(path, os.path.getsize(path) // 2)

    clip = np.zeros((8, 48, 80, 3), np.uint8)
    video.write_picture(tmp_path / "whole.mp4", clip, [])
    assert video.probe(tmp_path / "whole.mp4") == (8, 196, 320)
    monkeypatch.setattr(video.imageio, "mimsave", on_a_full_disk)
    with pytest.raises(video.UserError, match=r"cannot write \S*a\.mp4, disk full\?"):
        video.write_picture(tmp_path / "a.mp4", clip, [])
    assert os.listdir(tmp_path) == ["whole.mp4"]


@pytest.mark.parametrize(
    ("size", "picture"), [((16, 4000), (26, 768)), ((30, 200), (138, 768)), ((400, 2), (216, 160))]
)
@pytest.mark.parametrize("suffix", ["gif", "mp4"])
def test_a_picture_of_any_shape_can_be_written(tmp_path, size, picture, suffix):
    path = tmp_path / f"a.{suffix}"
    video.write_picture(path, np.full((2, *size, 3), 200, np.uint8), [("yes", (255, 255, 255))])
    assert video.probe(path)[1:] == picture
