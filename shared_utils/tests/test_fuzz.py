"""Whatever a user's files hold: a right answer or one clear error, in bounded time, and nothing elsewhere."""

import os
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ci.broken_videos import frame_numbers, write_numbered_video
from shared_utils import checkpoint, config, datasets, exporting, video
from shared_utils.config import UserError

bounded = settings(
    max_examples=60,
    deadline=10_000,  # ms
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
TREES = st.dictionaries(TEXT | st.sampled_from(["train", "seed", "base"]), VALUES)
DEFAULT = {"seed": 1, "train": {"lr": 0.1, "epochs": 2, "path": "here", "on": True}, "sizes": [1, 2]}
# What YAML, csv or a path could be made to do if it were not only read.
EVIL = [
    "!!python/object/apply:os.system ['touch evil']",
    "!!python/name:os.system",
    "=cmd|'/c calc'!A0",
    "$(touch evil)",
    "`touch evil`",
    "../../evil",
    "-rf",
    "a'b\"c\nd",
    "ü\u202e\u0000",
    "&a [*a, *a, *a, *a]",
]


LINES = st.binary(max_size=50) | st.lists(TEXT | st.sampled_from(EVIL), max_size=4).map(
    lambda lines: "\n".join(lines).encode()
)


@pytest.fixture(autouse=True)
def nothing_elsewhere(tmp_path, monkeypatch):
    """Each test works in a folder of its own, and what is beside it stays as it was."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/default.yaml").write_text(yaml.safe_dump(DEFAULT))
    monkeypatch.chdir(tmp_path / "in")
    yield
    assert os.listdir(tmp_path) == ["in"] and not list(tmp_path.rglob("evil"))


def one_line(error):
    """The message as a program prints it."""
    text = " ".join(str(error).split())
    assert text
    return text


def loaded(text, *flags):
    Path("mine.yaml").write_bytes(text)
    try:
        found = config.load(["-c", "mine.yaml", *flags], "default.yaml")
    except UserError as error:
        return one_line(error)
    assert set(found) == set(DEFAULT) and type(found.train.lr) is float and type(found.train.on) is bool
    return found


@bounded
@given(st.binary(max_size=200) | TREES.map(lambda tree: yaml.safe_dump(tree, allow_unicode=True).encode()))
def test_any_configuration_file(text):
    loaded(text)


@bounded
@given(TEXT | st.sampled_from(["train.lr", "train", "sizes", "seed"]), TEXT | st.sampled_from(EVIL))
def test_any_flag(key, value):
    loaded(b"{}", f"--{key}={value}")


@pytest.mark.parametrize("text", EVIL)
def test_a_configuration_runs_nothing(text):
    loaded(f"train: {{path: {text}}}".encode())
    loaded(b"{}", f"--train.path={text}")
    loaded(b"{}", f"--sizes={text}")


def listed(split, rows):
    Path("train").mkdir(exist_ok=True)
    Path("kinetics-400_train.csv").write_bytes(rows)
    try:
        return datasets.labelled(".", "Kinetics400", split, 2)
    except UserError as error:
        return one_line(error)


HEADER = b"label,youtube_id,time_start,time_end,split\n"


@bounded
@given(st.binary(max_size=200), st.booleans())
def test_any_csv(rows, headed):
    listed("train", HEADER + rows if headed else rows)


@pytest.mark.parametrize("text", EVIL)
def test_a_csv_leads_nowhere_else(text, tmp_path):
    Path("train").mkdir()
    for number in range(3):
        Path(f"train/v{number}_000000_000010.mp4").touch()
    cell = text.replace('"', '""')
    rows = f'a,v0,0,10,train\nb,v1,0,10,train\na,"{cell}",0,10,train\n"{cell}",v2,0,10,train\n'
    found = listed("train", HEADER + rows.encode())
    if not isinstance(found, str):
        assert all(item.path.resolve().parent == tmp_path / "in/train" for item in found[0])


@bounded
@given(LINES, LINES)
def test_any_official_list(classes, videos):
    Path("ucfTrainTestlist").mkdir(exist_ok=True)
    Path("ucfTrainTestlist/classInd.txt").write_bytes(classes)
    Path("ucfTrainTestlist/trainlist01.txt").write_bytes(videos)
    try:
        datasets.ucf101(".", "train")
    except UserError as error:
        one_line(error)


@bounded
@given(st.binary(max_size=100) | VALUES.map(lambda value: repr(value).encode()))
def test_any_label_map(text):
    Path("net.labels.json").write_bytes(text)
    try:
        assert type(datasets.read_label_map("net.ckpt")) is dict
    except UserError as error:
        one_line(error)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "net.ckpt"
    checkpoint.save(path, {"weight": ms.Parameter(np.arange(600, dtype=np.float32))}, {"global_step": 3})
    return path.read_bytes()


@bounded
@given(st.data())
def test_any_damage_to_a_checkpoint_is_found(saved, data):
    place = data.draw(st.integers(0, len(saved) - 1))
    if data.draw(st.booleans()):
        damaged = saved[:place]
    else:
        damaged = saved[:place] + bytes([saved[place] ^ data.draw(st.integers(1, 255))]) + saved[place + 1 :]
    Path("net.ckpt").write_bytes(damaged)
    try:
        tensors, _ = checkpoint.load("net.ckpt")
    except UserError as error:
        one_line(error)
    else:
        np.testing.assert_array_equal(tensors["weight"].asnumpy(), np.arange(600, dtype=np.float32))


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "numbered.avi"
    write_numbered_video(path, 6)
    return path.read_bytes()


@settings(bounded, max_examples=25)
@given(st.data())
def test_any_video_bytes(numbered, data):
    start, length = data.draw(st.integers(0, len(numbered) - 1)), data.draw(st.integers(1, 40))
    noise = data.draw(st.binary(min_size=length, max_size=length))
    Path("noisy.avi").write_bytes(numbered[:start] + noise + numbered[start + length :])
    try:
        frames = video.decode(Path("noisy.avi"), lambda count: np.arange(min(count, 6)))
    except video.VideoError as error:
        assert len(one_line(error)) < 1000
    else:
        assert frames.dtype == np.uint8 and frames.ndim == 4


NAMES = ["-i", "a b", "quo'te", 'dou"ble', "ü☃", "pipe:0", "file:x", "%d", "l\nbreak", "$(touch evil)", "a;"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("refusing", ["_read_decord", "_read_ffmpeg"])
def test_file_names_are_only_names(numbered, name, refusing, monkeypatch):
    def refuse(*arguments):
        raise video._Refused("is not to be used")

    path = Path(f"{name}.avi")
    path.write_bytes(numbered)
    monkeypatch.setattr(video, refusing, refuse)
    frames = video.decode(path, np.arange(6))
    assert frame_numbers(frames).tolist() == list(range(6))


@bounded
@given(st.binary(max_size=100), st.sampled_from([".mindir", ".onnx", ".ckpt", ""]))
def test_any_exported_file(content, suffix):
    Path(f"net{suffix}").write_bytes(content)
    with pytest.raises(UserError) as error:
        exporting.load_exported(f"net{suffix}")
    one_line(error.value)
