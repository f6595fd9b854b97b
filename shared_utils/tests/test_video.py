"""video: exact frames from both decoders and JPEG folders, and a clear end for every file that is broken."""

import contextlib
import gc
import os
import pickle
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import ffmpeg
import imageio
import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from ci.broken_videos import BAD_VIDEOS, frame_numbers, write_bad_videos, write_numbered_video
from ci.synthetic_videos import encode
from shared_utils import video
from shared_utils.video import VideoError, decode, probe


@contextlib.contextmanager
def only(decoder):
    """Videos are decoded by "decord" or "ffmpeg" alone, or by "any"."""

    def refuse(*arguments):
        raise video._Refused("is not to be used")

    with pytest.MonkeyPatch.context() as patch:
        for other in {"decord", "ffmpeg"} - {decoder} if decoder != "any" else ():
            patch.setattr(video, f"_read_{other}", refuse)
        yield


def decode_by(decoder, path, indices, **keywords):
    with only(decoder):
        return decode(path, indices, **keywords)

FRAMES = 60
ORDERS = (
    [0],
    [FRAMES - 1],
    [5, 6, 7],
    [0, 59, 1, 58],
    [30, 30, 30],
    [59, 41, 40, 41, 7, 0, 7],
    list(range(FRAMES)),
)


def convert(source, dest, before=None, **options):
    stream = ffmpeg.input(str(source), **(before or {})).output(str(dest), **options)
    stream.run(get_ffmpeg_exe(), quiet=True, overwrite_output=True)
    return dest


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """{name: path} of videos whose frames tell their numbers 0 to 59."""
    folder = tmp_path_factory.mktemp("numbered")
    write_numbered_video(folder / "ffv1.avi", FRAMES)
    write_numbered_video(folder / "h264.mp4", FRAMES, codec="h264")
    lossless, h264 = folder / "ffv1.avi", folder / "h264.mp4"
    convert(lossless, folder / "b_frames.avi", vcodec="mpeg4", bf=2, qscale=1, vtag="xvid")
    convert(lossless, folder / "packed.avi", vcodec="libxvid", bf=2, g=99, qscale=1)
    convert(lossless, folder / "keys.avi", vcodec="libxvid", bf=0, g=7, qscale=1)
    (folder / "cut.avi").write_bytes((folder / "keys.avi").read_bytes().rpartition(b"idx1")[0])
    convert(lossless, folder / "ten_bits.mp4", vcodec="libx264", pix_fmt="yuv420p10le", qp=1)
    uneven = {"vf": "setpts=(N+3*floor(N/7))/25/TB", "fps_mode": "passthrough", "enc_time_base": "1/1000"}
    convert(lossless, folder / "uneven.mkv", vcodec="libx264", qp=1, **uneven)
    x264 = {"vcodec": "libx264", "qp": 1, "x264-params": "keyint=10:bframes=3"}
    convert(lossless, folder / "parted.mp4", **x264, movflags="frag_keyframe+empty_moov")
    convert(lossless, folder / "open.mp4", **{**x264, "x264-params": "keyint=10:bframes=3:open-gop=1"})
    convert(lossless, folder / "refreshed.mp4", **{**x264, "x264-params": "keyint=10:intra-refresh=1"})
    convert(lossless, folder / "hevc.mp4", vcodec="libx265", **{"x265-params": "keyint=15:crf=4"})
    convert(lossless, folder / "b_frames.mkv", vcodec="mpeg4", bf=2, g=10, qscale=1)
    convert(h264, folder / "no_stamps.avi", c="copy")
    convert(h264, folder / "half_turn.mp4", {"display_rotation": 180}, c="copy")
    (folder / "jpeg").mkdir()
    for number, frame in enumerate(decode(lossless, range(FRAMES))):
        cv2.imwrite(f"{folder}/jpeg/{number:06}.jpg", frame)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    return write_bad_videos(tmp_path_factory.mktemp("bad") / "files")


@pytest.mark.parametrize(
    ("name", "decoder"),
    [
        ("ffv1.avi", "decord"),
        ("ffv1.avi", "ffmpeg"),
        ("h264.mp4", "decord"),
        ("h264.mp4", "ffmpeg"),
        ("ten_bits.mp4", "decord"),
        ("ten_bits.mp4", "ffmpeg"),
        ("uneven.mkv", "ffmpeg"),
        ("jpeg", "any"),
    ],
)
def test_frames_are_exact_in_any_order(numbered, name, decoder):
    for order in ORDERS:
        clip = decode_by(decoder, numbered[name], np.array(order))
        assert clip.shape == (len(order), 32, 96, 3) and clip.dtype == np.uint8
        np.testing.assert_array_equal(frame_numbers(clip), order)
        negative = decode_by(decoder, numbered[name], np.array(order), each=lambda frame: 255 - frame)
        np.testing.assert_array_equal(negative, 255 - clip)
    counts = []
    clip = decode_by(decoder, numbered[name], lambda count: counts.append(count) or [count - 1, 3])
    assert counts == [FRAMES] and frame_numbers(clip).tolist() == [FRAMES - 1, 3]
    assert probe(numbered[name]) == (FRAMES, 32, 96)


SOUGHT = ["parted.mp4", "open.mp4", "refreshed.mp4", "hevc.mp4", "b_frames.mkv", "keys.avi", "cut.avi"]


@pytest.mark.parametrize("name", SOUGHT)
def test_frames_are_exact_where_decord_seeks_to_others(numbered, name):
    for order in ([25], [48, 3], [59, 31, 30, 0], list(range(19, 43)), list(range(2, FRAMES, 7))):
        for each in (None, np.array):
            clip = decode_by("decord", numbered[name], order, each=each)
            np.testing.assert_array_equal(frame_numbers(clip), order)


def test_frames_before_a_key_frame_are_left_out_where_decord_counts_right(numbered, monkeypatch):
    skipped = []

    class Reader(video.decord.VideoReader):
        def skip_frames(self, count=1):
            skipped.append(count)
            super().skip_frames(count)

    monkeypatch.setattr(video.decord, "VideoReader", Reader)
    decode(numbered["keys.avi"], [20, 40], each=np.array)
    assert skipped[0] == 20 and max(skipped[1:]) < 7  # on the way on, a seek would cost more than it saves
    skipped.clear()
    decode(numbered["packed.avi"], [20, 40], each=np.array)  # without stamps it miscounts now and then
    decode(numbered["open.mp4"], [20, 40], each=np.array)
    assert len(skipped) > 2 and max(skipped) < 10  # not over a key frame, where decord would miscount


@pytest.mark.parametrize("name", ["b_frames.avi", "packed.avi", "no_stamps.avi"])
def test_frames_are_exact_where_time_stamps_are_out_of_order(numbered, name):
    count = probe(numbered[name])[0]
    assert count == FRAMES or name == "packed.avi"  # libxvid's encoder keeps the last two for itself
    for order in ([count - 1, 0, 7, 7, 30], list(range(count))):
        np.testing.assert_array_equal(frame_numbers(decode(numbered[name], order)), order)
    with pytest.raises(VideoError, match=f"of a video of {count}"):
        decode(numbered[name], [count])


def test_a_header_of_too_many_frames_does_not_end_the_process(numbered, tmp_path):
    content = bytearray(numbered["keys.avi"].read_bytes())
    length = content.index(b"vids") + 32  # of the stream, in frames
    content[length : length + 4] = b"\xff" * 4
    (tmp_path / "endless.avi").write_bytes(content)
    code = "import sys; from shared_utils import video; print(video.probe(sys.argv[1]))"
    command = [sys.executable, "-c", code, tmp_path / "endless.avi"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"({FRAMES}, 32, 96)\n"), done.stderr


def test_frames_that_become_all_the_same_are_not_decoded_twice(numbered, monkeypatch):
    monkeypatch.setattr(video, "_read_ffmpeg", None)
    kept = []
    decode(numbered["b_frames.avi"], range(FRAMES), each=lambda frame: kept.append(frame) or np.empty(0))
    assert frame_numbers(np.stack(kept)).tolist() == list(range(FRAMES))


def test_colours_are_red_green_blue(tmp_path):
    clip = (
        np.random.default_rng(0)
        .integers(0, 256, (1, 8, 12, 3), np.uint8)
        .repeat(6, 0)
        .repeat(8, 1)
        .repeat(8, 2)
    )
    size = f"{clip.shape[2]}x{clip.shape[1]}"
    source = ffmpeg.input("pipe:", f="rawvideo", pix_fmt="rgb24", s=size)
    source.output(f"{tmp_path}/a.avi", vcodec="ffv1", pix_fmt="yuv444p").run(
        get_ffmpeg_exe(), quiet=True, input=clip.tobytes()
    )
    for decoder in ("decord", "ffmpeg"):
        assert np.abs(decode_by(decoder, tmp_path / "a.avi", range(6)).astype(int) - clip).max() <= 4, decoder
    imageio.imwrite(tmp_path / "0.jpg", clip[0], quality=100)
    assert np.abs(decode(tmp_path, [0]).astype(int) - clip[0]).mean() <= 12  # half the colour, all the light


@pytest.mark.parametrize("indices", [[FRAMES], [-1], [0, 1000], []])
@pytest.mark.parametrize("name", ["ffv1.avi", "jpeg"])
def test_frames_that_are_not_there(numbered, name, indices):
    with pytest.raises(VideoError, match=f"of a video of {FRAMES}"):
        decode(numbered[name], indices)


def test_every_bad_file_ends_in_time_with_a_clip_or_a_reason(bad, capfd):
    for name, verdict in BAD_VIDEOS.items():
        begin, good = time.perf_counter(), None
        try:
            clip = decode(bad[name], range)
            good = len(clip) > 0 and probe(bad[name]) == clip.shape[:3]
        except VideoError as error:
            assert error.path == bad[name] and error.reason and str(bad[name]) in str(error), name
            assert "\n" not in str(error) and len(str(error)) < 500, name
            with pytest.raises(VideoError):
                probe(bad[name])
        assert time.perf_counter() - begin < 20, name
        assert capfd.readouterr() == ("", "") or verdict != "bad", name  # the reason is the exception's
        assert good is {"bad": None, "good": True}.get(verdict, good) and good is not False, name


def test_frames_that_both_decoders_get_from_a_bad_file_are_equal(bad):
    for name in BAD_VIDEOS:
        clips = []
        for decoder in ("decord", "ffmpeg"):
            try:
                clips.append(decode_by(decoder, bad[name], range).astype(int))
            except VideoError as error:
                assert re.search(rf"{decoder}: (?!is not to be used)", str(error)), name
        if len(clips) == 2:
            assert clips[0].shape == clips[1].shape and np.abs(clips[0] - clips[1]).mean() < 2, name


def test_frames_are_exact_where_their_size_changes(bad):
    path = bad["two_sizes.mp4"]
    every = decode(path, np.arange(probe(path)[0]))
    assert every[-1].std() > 0
    for wanted in ([len(every) - 1], [0, 45], [45, 0, 31, 30]):
        assert np.array_equal(decode(path, wanted), every[wanted])


def test_probe_counts_what_can_be_decoded(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (600, 32, 96, 3), np.uint8)
    encode(tmp_path / "whole.mp4", noise, "25", "mp4", movflags="faststart")
    whole = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "hole.mp4").write_bytes(whole[: len(whole) * 2 // 3].ljust(len(whole), b"\0"))
    assert probe(tmp_path / "whole.mp4") == (600, 32, 96)
    count = probe(tmp_path / "hole.mp4")[0]
    assert 300 < count < 500 and len(decode(tmp_path / "hole.mp4", range)) == count


def test_rotated_videos_are_upright(bad, numbered):
    upright = decode(bad["announces_more.avi"], range).astype(int)  # the same clip
    for decoder in ("any", "ffmpeg"):
        turned = decode_by(decoder, bad["rotated.mp4"], range)
        assert turned.shape == (32, 64, 48, 3)
        assert np.abs(np.rot90(upright, axes=(1, 2)) - turned).mean() < 4
        half = decode_by(decoder, numbered["half_turn.mp4"], range)
        np.testing.assert_array_equal(frame_numbers(half[:, ::-1, ::-1]), np.arange(FRAMES))
    with pytest.raises(VideoError, match="decord: Check failed"):
        decode_by("decord", bad["rotated.mp4"], [3, 1])
    with pytest.raises(VideoError, match=r"decord: frames of . channels"):
        decode_by("decord", bad["rotated.mp4"], range)


def test_any_file_name_will_do(numbered, tmp_path, monkeypatch):
    names = [
        "a b.avi",
        "-i.avi",
        "'q\"$(x)`.avi",
        "new\nline.avi",
        "größe 視頻.avi",
        "a%03d.avi",
        "pipe:0",
        "a:b.avi",
        "no_suffix",
        os.fsdecode(b"\xff.avi"),
    ]
    monkeypatch.chdir(tmp_path)
    for name in names:
        Path(name).symlink_to(numbered["ffv1.avi"])
        for decoder in ("any", "ffmpeg", "any" if "\udcff" in name else "decord"):
            assert frame_numbers(decode_by(decoder, name, [17, 2])).tolist() == [17, 2], (name, decoder)
    Path("größe 'j\n").symlink_to(numbered["jpeg"])
    assert frame_numbers(decode("größe 'j\n", [17, 2])).tolist() == [17, 2]


def test_what_is_no_video(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link.avi").symlink_to("nowhere")
    for name, reason in (
        ("none.avi", "no such file"),
        ("link.avi", "no such file"),
        ("empty", "without .jpg frames"),
    ):
        with pytest.raises(VideoError, match=reason):
            decode(tmp_path / name, [0])
        with pytest.raises(VideoError, match=reason):
            probe(tmp_path / name)


def test_bad_jpeg_frames(numbered, tmp_path):
    whole = (numbered["jpeg"] / "000000.jpg").read_bytes()
    for name, content in (("cut", whole[:-9]), ("empty", b""), ("text", b"no picture")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "000000.jpg").write_bytes(whole)
        (folder / "000001.jpg").write_bytes(content)
        assert frame_numbers(decode(folder, [0, 0])).tolist() == [0, 0]
        with pytest.raises(VideoError, match=f"{name}: frame 000001.jpg is not a readable JPEG"):
            decode(folder, [0, 1])
    cv2.imwrite(str(folder / "000001.jpg"), np.zeros((8, 8, 3), np.uint8))
    for each in (None, lambda frame: frame[:4, :4]):  # a resize makes them alike
        with pytest.raises(VideoError, match="the frame size changes"):
            decode(folder, [0, 1], each=each)


def open_things():
    gc.collect()
    children = "".join(path.read_text() for path in Path("/proc/self/task").glob("*/children"))
    return len(os.listdir("/proc/self/fd")), children


def test_nothing_stays_open(numbered, bad):
    def use_all():
        for path in [*bad.values(), numbered["ffv1.avi"], numbered["no_stamps.avi"], numbered["jpeg"]]:
            for decoder in ("any", "ffmpeg"):
                for indices in ([0], [10**6]):
                    with contextlib.suppress(VideoError):
                        decode_by(decoder, path, indices)

    use_all()
    before = open_things()
    use_all()
    assert open_things() == before and before[1] == ""


def test_an_error_of_the_callers_closes_the_video(numbered):
    before = open_things()
    for decoder in ("decord", "ffmpeg"):
        with pytest.raises(ZeroDivisionError):
            decode_by(decoder, numbered["ffv1.avi"], lambda count: 1 / 0)
    assert open_things() == before


def test_a_decoder_that_hangs_is_stopped(bad, tmp_path, monkeypatch):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nprintf 12345\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(video.imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(program))
    monkeypatch.setattr(video, "FFMPEG_SECONDS", 0.3)
    begin = time.perf_counter()
    with pytest.raises(VideoError, match=r"ffmpeg took more than 0\.3 seconds"):
        decode(bad["text.mp4"], [0])
    assert time.perf_counter() - begin < 10 and open_things()[1] == ""


def test_threads_may_decode_at_the_same_time(numbered):
    cases = {"any": ["uneven.mkv", "h264.mp4", "jpeg"], "decord": ["ffv1.avi"], "ffmpeg": ["h264.mp4"]}
    for decoder, names in cases.items():
        with only(decoder), ThreadPoolExecutor(8) as pool:
            clips = pool.map(lambda name: decode(numbered[name], [40, 3, 59]), names * 5)
            assert all(frame_numbers(clip).tolist() == [40, 3, 59] for clip in clips)


def test_a_file_system_may_answer_short(numbered, monkeypatch):
    read = os.read
    monkeypatch.setattr(os, "read", lambda file, size: read(file, min(size, 100)))
    assert frame_numbers(decode(numbered["jpeg"], [3, 40])).tolist() == [3, 40]


def test_the_error_travels_between_processes():
    error = VideoError(Path("a b.avi"), "two\nlines")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.path, again.reason) == (VideoError, Path("a b.avi"), "two\nlines")
    assert str(again) == str(error) == "cannot decode a b.avi: two lines"


@pytest.mark.parametrize("first", ["shared_utils.video", "mindspore.dataset"])
def test_video_and_mindspore_are_imported_in_either_order(first):
    code = f"import sys, {first}; print('mindspore' in sys.modules); "
    code += "import mindspore.dataset, shared_utils.video"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    # preprocessing does without mindspore, which takes a second to import
    assert (done.returncode, done.stdout) == (0, f"{first.startswith('mindspore')}\n"), done.stderr


@pytest.mark.parametrize("end", ["kill -9 $$", "exit 255"])  # the second: how ffmpeg ends by SIGTERM
def test_an_ffmpeg_that_is_killed_gets_one_more_try(tmp_path, monkeypatch, end):
    write_numbered_video(tmp_path / "video.avi", 8)
    killed = tmp_path / "ffmpeg"
    killed.write_text(f"""#!/bin/bash
if mkdir "$0.$(printf %s "$*" | cksum | tr -d ' ')" 2>/dev/null; then {end}; fi
exec "{get_ffmpeg_exe()}" "$@"
""")
    killed.chmod(0o700)
    monkeypatch.setattr(video.imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(killed))
    assert frame_numbers(decode_by("ffmpeg", tmp_path / "video.avi", [5, 2])).tolist() == [5, 2]
    assert len(list(tmp_path.glob("ffmpeg.*"))) == 2  # counting frames, and reading them
    killed.write_text(f"#!/bin/bash\nprintf 1234; {end}\n")
    with pytest.raises(VideoError, match="ffmpeg was killed"):
        decode_by("ffmpeg", tmp_path / "video.avi", [5, 2])
