"""The numbered frames can be read back by both decoders, and every broken file is as broken as promised."""

import subprocess
import sys
from pathlib import Path

import mindspore.dataset  # noqa: F401  must come before decord
import numpy as np
import pytest
from decord import VideoReader
from decord._ffi.base import DECORDError
from imageio_ffmpeg import get_ffmpeg_exe

from ci import broken_videos as broken

PROGRAM = Path(__file__).parents[1] / "broken_videos.py"


def ffmpeg_frames(path, height, width):
    """Every frame that ffmpeg gets out of a file, (T, H, W, 3) uint8."""
    command = [get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-fps_mode", "passthrough"]
    pipe = subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=False, capture_output=True
    )
    return np.frombuffer(pipe.stdout, np.uint8).reshape(-1, height, width, 3)


def decord_frames(path):
    reader = VideoReader(str(path), num_threads=1)
    return reader.get_batch(range(len(reader))).asnumpy()


@pytest.mark.parametrize(("name", "codec"), [("numbered.avi", "ffv1"), ("numbered.mp4", "h264")])
def test_both_decoders_read_the_number_of_every_frame(tmp_path, name, codec):
    broken.write_numbered_video(tmp_path / name, 300, codec=codec)
    for clip in (decord_frames(tmp_path / name), ffmpeg_frames(tmp_path / name, 32, 96)):
        np.testing.assert_array_equal(broken.frame_numbers(clip), np.arange(300))
        np.testing.assert_array_equal(broken.frame_numbers(clip[::-1, ::-2]), np.arange(300)[::-1])
    with pytest.raises(ValueError, match="neither black nor white"):
        broken.frame_numbers(clip // 2 + 60)


def test_numbered_h264_has_b_frames(tmp_path):
    broken.write_numbered_video(tmp_path / "numbered.mp4", 40, codec="h264")
    command = [get_ffmpeg_exe(), "-i", str(tmp_path / "numbered.mp4"), "-vf", "showinfo", "-f", "null", "-"]
    assert "type:B" in subprocess.run(command, check=False, capture_output=True, text=True).stderr


def test_bad_videos_are_as_bad_as_promised(tmp_path):
    paths = broken.write_bad_videos(tmp_path / "bad")
    assert paths.keys() == broken.BAD_VIDEOS.keys()
    shapes = {
        "odd_size.avi": (32, 47, 33, 3),
        "one_frame.mp4": (1, 48, 64, 3),
        "rotated.mp4": (32, 64, 48, 3),
    }
    for name, verdict in broken.BAD_VIDEOS.items():
        shape = shapes.get(name, (32, 48, 64, 3))
        if verdict == "good":
            assert ffmpeg_frames(paths[name], *shape[1:3]).shape == shape, name
        if verdict == "bad":
            assert len(ffmpeg_frames(paths[name], 1, 1)) == 0, name
            with pytest.raises((RuntimeError, DECORDError)):
                decord_frames(paths[name])
    upright = ffmpeg_frames(paths["announces_more.avi"], 48, 64).astype(int)  # the same clip
    turned = ffmpeg_frames(paths["rotated.mp4"], 64, 48)
    assert np.abs(np.rot90(upright, axes=(1, 2)) - turned).mean() < 4


def test_the_command_makes_every_file_and_overwrites_nothing(tmp_path):
    def run(dest):
        return subprocess.run([sys.executable, PROGRAM, dest], check=False, capture_output=True, text=True)

    done = run(tmp_path / "bad")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.endswith("bad: 12 videos\n")
    made = {path.name for path in (tmp_path / "bad").iterdir()}
    assert made == broken.BAD_VIDEOS.keys() | {"synthetic.json"}
    (tmp_path / "thesis.txt").write_text("mine")
    for wrong in (tmp_path, tmp_path / "thesis.txt"):
        answer = run(wrong)
        assert (answer.returncode, answer.stderr.count("\n")) == (1, 1)
        assert answer.stderr.startswith("broken_videos.py: ")
    assert (tmp_path / "thesis.txt").read_text() == "mine"
