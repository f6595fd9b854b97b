"""ModelArts jobs against an S3 server on loopback: copy in, run, copy out, and what must not happen."""

import io
import logging
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import eval as evaluate
import fsspec
import pytest
import train
import yaml
from moto.server import ThreadedMotoServer

from shared_utils.config import UserError
from src import modelarts

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def server():
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def s3(server, monkeypatch):
    """The file system of an empty bucket s3://zoo."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    files = fsspec.filesystem("s3")
    if files.exists("zoo"):
        files.rm("zoo", recursive=True)
    files.mkdir("zoo")
    return files


@pytest.fixture
def job(kinetics, s3, tmp_path):
    """Flags of a job whose data set is in the bucket: archives for the videos, csv files as they are."""
    with zipfile.ZipFile(tmp_path / "val.zip", "w") as archive:
        for video in sorted((kinetics / "val").iterdir()):
            archive.write(video, f"val/{video.name}")
    with tarfile.open(tmp_path / "train_00.tar.gz", "w:gz") as archive:
        archive.add(kinetics / "train", "train")
    for path in (tmp_path / "val.zip", tmp_path / "train_00.tar.gz", *kinetics.glob("*.csv")):
        s3.put(str(path), f"zoo/data/{path.name}")
    tree = {
        "base": str(ROOT / "default_config.yaml"),
        **{"dataset_type": "kinetics400", "class_num": 2, "T": 1, "N": 1, "eval_split": "val"},
        **{"short_size": 24, "target_size": 24, "avgpool_kernel_size": 1, "target": "CPU"},
        **{"from_scratch": True, "batch_size": 4, "num_epochs": 1, "run_eval": False, "run_online": True},
        **{"data_url": "obs://zoo/data", "local_data_url": f"{tmp_path}/node/data"},
        **{"load_path": f"{tmp_path}/node/weights", "output_path": f"{tmp_path}/node/output"},
        "train_url": "obs://zoo/results",
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(tree))
    return ["-c", tmp_path / "job.yaml"]


def test_a_job_trains_from_the_bucket_and_leaves_its_results_there(execute, job, s3, tmp_path):
    s3.touch("zoo/results/stnet.mindir")  # of an export, which is no run
    status, told, error = execute(train, *job)
    assert status == 0 and "2 archives unpacked" in told, error
    (state,) = [name for name in s3.find("zoo/results") if name.endswith(".ckpt")]
    assert not list((tmp_path / "node").rglob("*.zip"))
    # on another node a run from the start would mix with it
    before = {name: s3.checksum(name) for name in s3.find("zoo/results")}
    status, _, error = execute(train, *job, f"--output_path={tmp_path}/new/output", "--seed=5")
    assert status == 1 and "obs://zoo/results holds a run already: go on with it by resume=auto" in error
    assert before == {name: s3.checksum(name) for name in s3.find("zoo/results")}
    # with resume=auto it goes on where the first one stopped
    again = [f"--local_data_url={tmp_path}/two/data", f"--output_path={tmp_path}/two/output"]
    status, told, error = execute(train, *job, *again, "--resume=auto", "--num_epochs=2")
    assert status == 0 and "resumed from" in told and "epoch: 2 step: 1, loss" in told, error
    s3.copy(state, "zoo/weights/best.ckpt")
    s3.copy(state.replace(".ckpt", ".labels.json"), "zoo/weights/best.labels.json")
    # and a third evaluates a checkpoint of the bucket
    weights = ["--pre_url=s3://zoo/weights", f"--best_acc_art_load_path={tmp_path}/node/weights/best.ckpt"]
    status, told, error = execute(evaluate, *job, *weights)
    assert status == 0 and "accuracy:{'acc':" in told, error
    assert "zoo/results/eval/results.json" in s3.find("zoo/results")


def test_a_failed_job_leaves_its_results_in_the_bucket_too(execute, job, s3, tmp_path):
    flags = ["--num_epochs=2", "--lr_decay_rate=1", "--gamma=1e30"]  # the second epoch diverges
    status, _, error = execute(train, *job, *flags)
    assert status == 1 and error.strip().splitlines()[-1].startswith("error: the loss is"), error
    assert any(name.endswith(".ckpt") for name in s3.find("zoo/results"))
    # where the bucket cannot be written either, both are told, and the results stay on the node
    (tmp_path / "file").touch()
    status, _, error = execute(train, *job, *flags, f"--train_url={tmp_path}/file/results")
    assert status == 1 and "they are in" in error
    assert error.strip().splitlines()[-1].startswith("error: the loss is")


def make_zip(path, name):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"evil")


def make_tar(path, name, kind=tarfile.REGTYPE, target=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, target, 4 if kind == tarfile.REGTYPE else 0
    with tarfile.open(path, "w") as archive:
        archive.addfile(member, io.BytesIO(b"evil"))


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "..", "a/.."])
@pytest.mark.parametrize("make, suffix", [(make_zip, "zip"), (make_tar, "tar")])
def test_an_archive_writes_nothing_outside(tmp_path, make, suffix, name):
    folder = tmp_path / "node"
    folder.mkdir()
    make(folder / f"bad.{suffix}", name)
    with pytest.raises(UserError, match=r"leads out of|evil"):
        modelarts.unpack(folder / f"bad.{suffix}")
    assert [path.name for path in tmp_path.rglob("*")] == ["node", f"bad.{suffix}"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_an_archive_makes_no_links_or_devices(tmp_path, kind):
    make_tar(tmp_path / "bad.tar", "link", kind, "/etc/passwd")
    with pytest.raises(UserError, match="link is neither a file nor a folder"):
        modelarts.unpack(tmp_path / "bad.tar")
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_a_damaged_archive_is_told_in_one_line(tmp_path, suffix):
    path = tmp_path / f"cut{suffix}"
    if suffix == ".zip":
        make_zip(path, "fine")
    else:
        with tarfile.open(path, "w:gz" if suffix == ".tar.gz" else "w") as archive:
            archive.add(__file__, "fine")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=f"cut{suffix} cannot be unpacked: "):
        modelarts.unpack(path)


def test_a_key_of_the_bucket_that_leads_out_of_the_folder_is_refused(s3, tmp_path):
    s3.pipe_file("zoo/data/../../evil", b"evil")
    with pytest.raises(UserError, match="leads out of"):
        modelarts.copy_in("s3://zoo/data", tmp_path / "node/data")
    assert not list(tmp_path.rglob("evil"))


def test_of_several_processes_one_copies_and_the_others_wait(s3, tmp_path):
    make_zip(tmp_path / "data.zip", "fine")
    s3.put(str(tmp_path / "data.zip"), "zoo/data/data.zip")
    rank = "from src.modelarts import copy_in as go; go('s3://zoo/data', '{0}'); print(*open('{0}/fine'))"
    command = [sys.executable, "-c", rank.format(tmp_path / "node")]
    ranks = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told = "".join(rank.communicate()[0] for rank in ranks)
    assert (told.count("1 archives unpacked"), told.count("evil")) == (1, 3)


def test_a_copy_that_was_cut_short_goes_on(s3, tmp_path, monkeypatch):
    for name in "ab":
        s3.pipe_file(f"zoo/data/{name}", name.encode() * 10)
    folder = tmp_path / "node"
    with monkeypatch.context() as broken:
        broken.setattr(modelarts, "download", lambda *_: (folder / "a").write_bytes(b"aaa") and 1 / 0)
        with pytest.raises(UserError, match="cannot copy s3://zoo/data"):
            modelarts.copy_in("s3://zoo/data", folder)
    modelarts.copy_in("s3://zoo/data", folder)
    assert (folder / "a").read_bytes() == b"a" * 10 and (folder / "b").exists()
    with pytest.raises(UserError, match="holds a copy of s3://zoo/data: name another folder"):
        modelarts.copy_in("s3://zoo/other", folder)


def test_results_go_to_a_folder_of_this_machine_too(tmp_path):
    (tmp_path / "out/log").mkdir(parents=True)
    (tmp_path / "out/log/metrics.jsonl").write_text("{}")
    assert modelarts.upload(tmp_path / "out", f"{tmp_path}/bucket/out") == 1
    assert (tmp_path / "bucket/out/log/metrics.jsonl").read_text() == "{}"


def test_a_folder_with_other_files_is_left_alone(s3, tmp_path):
    (tmp_path / "mine.zip").write_text("mine")
    with pytest.raises(UserError, match="is not empty: name a folder of its own"):
        modelarts.copy_in("s3://zoo/data", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.zip"]


@pytest.mark.parametrize("url", ["s3://zoo/nothing", "s3://gone/data", "ftp:/x", "s3://"])
def test_an_address_without_files_is_told_in_one_line(s3, tmp_path, url):
    with pytest.raises(UserError, match=url) as caught:
        modelarts.copy_in(url, tmp_path / "node")
    assert "\n" not in str(caught.value)


def test_a_job_without_addresses_names_the_keys(execute, job):
    status, _, error = execute(train, *job, "--train_url=", "--local_data_url=")
    assert status == 1 and "error: run_online needs a value of train_url and local_data_url" in error


def test_moxing_copies_where_it_is_installed(tmp_path, monkeypatch):
    """moxing itself is to be had on ModelArts alone: this one has its functions and copies folders."""
    (tmp_path / "moxing").mkdir()
    (tmp_path / "moxing/__init__.py").write_text("from . import file")
    (tmp_path / "moxing/file.py").write_text(
        "import os, shutil\n"
        "def place(url): return url.replace('obs://', os.environ['OBS'] + '/')\n"
        "def exists(url): return os.path.exists(place(url))\n"
        "def is_directory(url): return os.path.isdir(place(url))\n"
        "def list_directory(url): return os.listdir(place(url))\n"
        "def copy(one, other): shutil.copy(place(one), place(other))\n"
        "def copy_parallel(one, other): shutil.copytree(place(one), place(other), dirs_exist_ok=True)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("OBS", str(tmp_path / "obs"))
    (tmp_path / "obs/data").mkdir(parents=True)
    make_zip(tmp_path / "obs/data/data.zip", "fine")
    modelarts.copy_in("obs://data", tmp_path / "node")
    modelarts.copy_out(tmp_path / "node", "obs://results")
    assert [path.name for path in (tmp_path / "obs/results").glob("[!.]*")] == ["fine"]
    assert "fine" in modelarts.names("obs://results") and not modelarts.names("obs://gone")
    modelarts.copy_in("obs://results/fine", tmp_path / "one")
    assert (tmp_path / "one/fine").read_bytes() == b"evil"
