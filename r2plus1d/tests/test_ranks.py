"""Several ranks, on one host and on two: they learn what one learns, judge as one, and end together."""

import os
import re
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest
import yaml

from shared_utils.tests import ranks

PORT = 8410


@pytest.fixture
def copy(tiny, tmp_path):
    """Function to a copy of the model whose tiny.yaml trains with frozen norms, and the changes given."""
    tree = yaml.safe_load(tiny.read_text())
    tree["train"].update(freeze_norm=True, ckpt_path="output")
    tree["eval"]["output_dir"] = "eval"
    tree["model"]["keep_prob"] = 0.5

    def make(name, **train):
        tree["train"].update(train)
        return ranks.copy_of("r2plus1d", tmp_path / name, tree)

    return make


def test_two_ranks_learn_what_one_learns(tiny, tmp_path):
    two = ranks.learn_as_one("r2plus1d", tiny, tmp_path, PORT)

    # and judge as one does: seven videos, of ten clips and three crops each
    rows = Path(kinetics_of(two), "kinetics-400_train.csv").read_text().splitlines(True)
    (two / "seven.csv").write_text("".join(rows[:8]))
    tree = yaml.safe_load((two / "tiny.yaml").read_text())
    tree["eval"].update(num_clips=10, num_crops=3, batch_size=4)
    section = tree["data_loader"]["eval"]
    section["dataset"].update(split="train", list=str(two / "seven.csv"))
    section["map"]["operations"] = [
        {"type": "VideoShortEdgeResize", "size": 18},
        {"type": "VideoCenterCrop", "size": [16, 16]},
        {"type": "VideoToTensor"},
    ]
    (two / "tiny.yaml").write_text(yaml.safe_dump(tree))
    found = []
    for count in (1, 2, 3):
        devices = ",".join(map(str, range(count)))
        arguments = [count, devices, "tiny.yaml", two / "rank0.ckpt"]
        status, told = ranks.call(two, "run_distribute_eval.sh", *arguments, port=PORT + count)
        assert status == 0 and "7 videos of 2 classes, 30 views each, 0 of them bad" in told, told
        found.append(ranks.results(two))
    assert found[0] == found[1] == found[2]


def kinetics_of(copy):
    return yaml.safe_load((copy / "tiny.yaml").read_text())["data_loader"]["train"]["dataset"]["path"]


def test_a_rank_that_dies_ends_the_job(copy):
    two = copy("two", epochs=1000, eval_epochs=0)
    process = ranks.start(two, "run_distribute_train.sh", 2, "0,1", "tiny.yaml", port=PORT + 5)
    ranks.wait_for(two / "train/worker_1.log", "epoch: 2 step: 1,", process)
    ranks.kill_rank(two, 1)
    seconds, told = ranks.end(process)
    assert process.returncode != 0 and seconds < 30
    assert f"error: the job has ended; what each rank said is in {two}/train/worker_*.log" in told


def test_a_rank_that_dies_before_it_has_joined_ends_the_job(copy):
    two = copy("two")
    process = ranks.start(two, "run_distribute_train.sh", 2, "0,1", "tiny.yaml", port=PORT + 8)
    ranks.kill_rank(two, 1)
    seconds, told = ranks.end(process)
    assert process.returncode == 1 and seconds < 40  # 30 and what a loaded machine needs
    assert "error: the job has ended; what each rank said is in " in told


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_job_saves_and_leaves_no_process(copy, number, status):
    """As a terminal does it and as `timeout` does: all processes of the script get the signal, one twice."""
    two = copy("two", epochs=1000, eval_epochs=0)
    process = ranks.start(two, "run_distribute_train.sh", 2, "0,1", "tiny.yaml", port=PORT + 9)
    try:
        ranks.wait_for(two / "train/worker_0.log", "epoch: 2 step: 1,", process)
        os.kill(process.pid, number)
        time.sleep(0.05)  # the script looks for rank 0
        os.killpg(process.pid, number)
        seconds, told = ranks.end(process)
        assert process.returncode == status and seconds < 30, told
        assert "stopped; what each rank said is in " in told
        told = (two / "train/worker_0.log").read_text(errors="replace")  # of which msrun may lose the end
        epoch, step = re.search(r"stopped after epoch (\d+) step (\d+), resume=auto goes on", told).groups()
        assert (two / f"train/ckpt/r2plus1d-{epoch}_{step}.ckpt").exists()
        time.sleep(2)  # a killed process takes a moment to give back its memory
        assert not ranks.processes(two)
    finally:
        ranks.kill(ranks.processes(two))


def test_a_port_in_use_is_told(copy):
    two = copy("two")
    with socket.create_server(("127.0.0.1", PORT + 10)):
        status, told = ranks.call(two, "run_distribute_train.sh", 2, "0,1", "tiny.yaml", port=PORT + 10)
    assert status == 2 and told.startswith(f"error: port {PORT + 10} of 127.0.0.1 is in use, ")


def test_a_rank_that_fails_tells_why(copy):
    two = copy("two")
    videos = shutil.copytree(kinetics_of(two), two / "videos")
    for video in sorted((videos / "train").rglob("*.mp4"))[::2]:
        video.write_bytes(b"cut")
    tree = yaml.safe_load((two / "tiny.yaml").read_text())
    tree["data_loader"]["train"]["dataset"].update(path=str(videos), max_bad_videos=0)
    (two / "tiny.yaml").write_text(yaml.safe_dump(tree))
    status, told = ranks.call(two, "run_distribute_train.sh", 2, "0,1", "tiny.yaml", port=PORT + 6)
    assert status != 0
    assert re.search(r"^error: rank \d: 1 bad videos, max_bad_videos is 0; cannot decode", told, re.M), told


def start_hosts(hosts, folder, port):
    """The processes of the script on hosts of one rank each."""
    processes = []
    for number, host in enumerate(hosts):
        more = {"WORLD_SIZE": "2", "NODE_RANK": str(number), "MASTER_ADDR": "127.0.0.1"}
        if number:
            more["PATH"] = f"{ranks.not_this_host(folder / 'bin')}:{os.environ['PATH']}"
        processes.append(
            ranks.start(host, "run_distribute_train.sh", 1, 0, "tiny.yaml", port=port, **more)
        )
    return processes


@pytest.mark.parametrize("dead", [0, 1])
def test_a_host_whose_rank_dies_before_it_has_joined_ends_the_other(copy, tmp_path, dead):
    hosts = [copy("first"), copy("second")]
    processes = start_hosts(hosts, tmp_path, PORT + 11 + dead)
    ranks.kill_rank(hosts[dead], dead)
    begin = time.monotonic()
    told = [process.communicate(timeout=240)[0] for process in processes]
    assert time.monotonic() - begin < 45  # 30 and what a loaded machine needs
    for process, lines, host in zip(processes, told, hosts):
        assert process.returncode == 1
        assert f"error: the job has ended; what each rank said is in {host}/train/worker_*.log" in lines


def test_two_hosts_learn_together(copy, tmp_path):
    hosts = [copy("first"), copy("second")]
    processes = start_hosts(hosts, tmp_path, PORT + 7)
    told = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert ranks.losses(told[0]) == ranks.losses(told[1]) and len(ranks.losses(told[0])) == 2
    (hosts[1] / "rank1.ckpt").rename(hosts[0] / "rank1.ckpt")
    ranks.equal_weights(hosts[0], 2)
    assert not list((hosts[1] / "train/ckpt").glob("*.ckpt"))  # one checkpoint


def test_ranks_that_cannot_be_are_told(copy):
    two = copy("two")
    for more in ({"WORLD_SIZE": "3"}, {"WORLD_SIZE": "4"}, {"WORLD_SIZE": "4", "NODE_RANK": "2"}):
        status, told = ranks.call(two, "run_distribute_train.sh", 2, "0,1", "tiny.yaml", port=PORT, **more)
        assert status == 2 and told.startswith("error: 2 ranks a host cannot be WORLD_SIZE=")
