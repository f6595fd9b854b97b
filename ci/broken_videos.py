"""Videos to test decoders with: frames that show their number, and files that are broken in every known way.

python ci/broken_videos.py DEST    # truncated, empty, rotated, ... : the files of BAD_VIDEOS
"""

import argparse
import struct
import sys
import tempfile
from pathlib import Path

import ffmpeg
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from ci.motions import render
from ci.synthetic_videos import claim, encode, finish, generator, run_ffmpeg

BITS = 12


def write_numbered_video(path, frames, height=32, width=96, codec="ffv1"):
    """Encode frames whose columns show their number, white for 1; ffv1, or h264 with B-frames."""
    bits = np.arange(frames)[:, None] >> np.arange(BITS)[::-1] & 1
    columns = np.uint8(255 * bits[:, np.arange(width) * BITS // width])
    encode(path, np.broadcast_to(columns[:, None, :, None], (frames, height, width, 3)), "25", codec)


def frame_numbers(clip):
    """Read the numbers (T,) off frames (T, H, W, 3), whole or resized; ValueError where there is none."""
    middles = (2 * np.arange(BITS) + 1) * clip.shape[2] // (2 * BITS)
    light = np.asarray(clip).mean((1, 3))[:, middles]
    if ((light > 64) & (light < 191)).any():
        raise ValueError("a column is neither black nor white: no numbered frame")
    return (light > 127) @ (1 << np.arange(BITS)[::-1])


BAD_VIDEOS = {  # "bad": nobody gets a frame; "good": all can be had; "either": some, or an error
    "cut.mp4": "bad",  # in the middle, and the index was at the end
    "cut_after_index.mp4": "either",
    "cut.avi": "either",
    "hole.mp4": "either",  # the index is whole, the last third zeros
    "empty.mp4": "bad",
    "text.mp4": "bad",
    "audio_only.mp4": "bad",
    "one_frame.mp4": "good",
    "odd_size.avi": "good",  # 33 wide, 47 high
    "two_sizes.mp4": "either",  # 64 x 48, from the middle on 96 x 64
    "rotated.mp4": "good",  # 64 x 48, to be shown a quarter turn counterclockwise
    "announces_more.avi": "good",  # 1000 frames by its headers, 32 by its index
}


def write_bad_videos(dest):
    """Make the files of BAD_VIDEOS in `dest`; return name -> path."""
    dest = Path(dest)
    claim(dest, {"layout": "bad"})
    sizes = ((48, 64), (64, 96), (47, 33))
    small, large, odd = (render("Jump", generator("bad"), 32, *size) for size in sizes)
    with tempfile.TemporaryDirectory() as scratch:

        def encoded(name, clip=small, **options):
            encode(f"{scratch}/{name}", clip, "25", name[-3:], **options)
            return Path(scratch, name).read_bytes()

        def remuxed(name, source, **options):
            run_ffmpeg(ffmpeg.input(source, **options).output(f"{scratch}/{name}", c="copy"))
            return Path(scratch, name).read_bytes()

        mp4, avi, indexed = encoded("a.mp4"), encoded("a.avi"), encoded("b.mp4", movflags="faststart")
        Path(scratch, "c.h264").write_bytes(encoded("c.mp4", f="h264") + encoded("d.mp4", large, f="h264"))
        run_ffmpeg(ffmpeg.input("sine=duration=1", f="lavfi").output(f"{scratch}/sound.mp4"))
        kept, headers = len(indexed) * 2 // 3, bytearray(avi)
        for chunk, offset in ((b"avih", 24), (b"strh", 40)):  # where an avi's two headers count the frames
            struct.pack_into("<I", headers, avi.index(chunk) + offset, 1000)
        contents = {
            "cut.mp4": mp4[: len(mp4) // 2],
            "cut_after_index.mp4": indexed[:kept],
            "cut.avi": avi[: (avi.index(b"movi") + avi.index(b"idx1")) // 2],
            "hole.mp4": indexed[:kept].ljust(len(indexed), b"\0"),
            "empty.mp4": b"",
            "text.mp4": b"This is no video.\n",
            "audio_only.mp4": Path(scratch, "sound.mp4").read_bytes(),
            "one_frame.mp4": encoded("one.mp4", small[:1]),
            "odd_size.avi": encoded("odd.avi", odd),
            "two_sizes.mp4": remuxed("two.mp4", f"{scratch}/c.h264", r=25),
            "rotated.mp4": remuxed("rotated.mp4", f"{scratch}/a.mp4", display_rotation=90),
            "announces_more.avi": bytes(headers),
        }
    for name, content in contents.items():
        finish(dest / name, lambda part, content=content: part.write_bytes(content))
    return {name: dest / name for name in BAD_VIDEOS}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dest", type=Path)
    args = parser.parse_args()
    try:
        paths = write_bad_videos(args.dest)
    except (OSError, ValueError) as error:
        sys.exit(f"{parser.prog}: {error}")
    print(f"{args.dest}: {len(paths)} videos")


if __name__ == "__main__":
    main()
