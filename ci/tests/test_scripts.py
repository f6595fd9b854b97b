"""Every script of the models: clean by shellcheck, usage on wrong arguments, right from any directory."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.relative_to(ROOT) for path in ROOT.glob("*/scripts/run_*.sh"))
ARGUMENTS = {  # of a call with a configuration called mine.yaml
    "run_standalone_train.sh": ["mine.yaml"],
    "run_distribute_train.sh": ["2", "0,1", "mine.yaml"],
    "run_standalone_eval.sh": ["CPU", "mine.yaml"],
    "run_distribute_eval.sh": ["2", "0,1", "mine.yaml"],
    "run_export.sh": ["mine.yaml"],
    "run_infer.sh": ["CPU", "mine.yaml"],
    "run_standalone_train_gpu.sh": ["mine.yaml"],
    "run_distribute_train_gpu.sh": ["2", "0,1", "mine.yaml"],
    "run_distribute_train_ascend.sh": ["data", "../table.json", "resnet50.ckpt", "mine.yaml"],
    "run_infer_310.sh": ["stnet.mindir", "data", "Y", "0", "mine.yaml"],
    "run_eval.sh": ["CPU", "data", "best.ckpt", "mine.yaml"],
}
RANK_TABLE = '{"server_list": [{"device": [{"device_id": "0", "rank_id": "0"}, {"device_id": "1"}]}]}'
# In place of python and msrun: prints where it runs, and its arguments.
STAND_IN = '#!/bin/bash\nif [ "$1" = -c ]; then exit 1; fi\necho "$PWD: $(basename "$0") $*"\n'

each_script = pytest.mark.parametrize("script", SCRIPTS, ids=str)


@pytest.fixture
def call(tmp_path):
    """Return call(script, *arguments): run it in a copy of its model, from an unrelated folder."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "table.json").write_text(RANK_TABLE)
    for name in ("python", "msrun"):
        (tmp_path / "bin" / name).write_text(STAND_IN)
        (tmp_path / "bin" / name).chmod(0o755)

    def call(script, *arguments):
        model = tmp_path / script.parts[0]
        shutil.copytree(ROOT / script.parent, model / "scripts", dirs_exist_ok=True)
        (model / "shared_utils").mkdir(exist_ok=True)
        shutil.copy(ROOT / "shared_utils/common.sh", model / "shared_utils")
        (model / "default_config.yaml").touch()
        # Port 1 is free: the default one may be another job's.
        env = {**os.environ, "PYTHON": str(tmp_path / "bin/python"), "MASTER_PORT": "1"}
        command = ["bash", os.path.relpath(tmp_path / script, tmp_path / "elsewhere"), *arguments]
        cwd = tmp_path / "elsewhere"
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)

    return call


WAITS = """#!/bin/bash
if [ "$1" = -c ]; then exit 1; fi
trap 'sleep 0.5; echo saved; exit 143' TERM
echo begun
while :; do sleep 0.1; done
"""
TRAINS = [script for script in SCRIPTS if script.name.startswith("run_standalone_train")]


@pytest.mark.parametrize("script", TRAINS, ids=str)
def test_a_signal_to_the_script_goes_on_to_its_program(call, tmp_path, script):
    assert call(script).returncode == 0  # makes the copy
    (tmp_path / "bin/python").write_text(WAITS)
    env = {**os.environ, "PYTHON": str(tmp_path / "bin/python")}
    pipe = subprocess.PIPE
    command = ["bash", tmp_path / script]
    with subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path) as process:
        assert process.stdout.readline() == "begun\n"
        process.terminate()
        told, error = process.communicate(timeout=20)
    assert (process.returncode, told, error) == (143, "saved\n", "")


@pytest.mark.parametrize("script", [*ROOT.glob("*/scripts/*.sh"), *ROOT.glob("*/*.sh")])
def test_shellcheck(script):
    command = [Path(sys.executable).with_name("shellcheck"), "-x", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@each_script
def test_too_many_arguments_print_usage(call, script):
    done = call(script, *"123456789")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("usage: bash ") and script.name in done.stderr


@pytest.mark.parametrize("name", ["run_infer", "run_eval", "run_standalone_eval"])
def test_a_configuration_in_the_place_of_the_device_prints_usage(call, name):
    scripts = [script for script in SCRIPTS if script.stem == name]
    done = [call(script, "default_config.yaml") for script in scripts]
    assert done and all((one.returncode, one.stdout) == (2, "") for one in done)
    assert all("[CPU|GPU|Ascend]" in one.stderr for one in done)


@each_script
def test_without_arguments(call, script):
    done = call(script)
    if script.name.startswith(("run_distribute", "run_infer_310")):
        assert (done.returncode, done.stderr.startswith("usage: ")) == (2, True)
    else:
        assert done.returncode == 0 and "default_config.yaml" in done.stdout, done.stderr


@each_script
def test_the_default_configuration_is_the_models_own(call, script, tmp_path):
    for name in ("default_config.yaml", "kinetics400.yaml"):
        (tmp_path / "elsewhere" / name).touch()
    done = call(script, *ARGUMENTS[script.name][:-1])
    assert done.returncode == 0 and str(tmp_path / "elsewhere") not in done.stdout, done.stderr
    assert "default_config.yaml" in done.stdout or "kinetics400.yaml" in done.stdout


@each_script
def test_called_from_another_directory(call, script, tmp_path):
    model = tmp_path / script.parts[0]
    (tmp_path / "elsewhere/mine.yaml").touch()
    done = call(script, *ARGUMENTS[script.name])
    where, _, words = done.stdout.strip().partition(": ")
    assert done.returncode == 0 and where == str(model), done.stderr
    assert f"-c {tmp_path}/elsewhere/mine.yaml" in words  # the caller's file
    (tmp_path / "elsewhere/mine.yaml").rename(model / "mine.yaml")
    again = call(script, *ARGUMENTS[script.name])
    assert f"-c {model}/mine.yaml" in again.stdout  # the model's file
    assert [log.read_text() for log in model.rglob("*.log")] == [done.stdout + again.stdout]
    assert not list((tmp_path / "elsewhere").iterdir())


def test_an_absolute_path_that_is_not_there_stays_as_it_is(call):
    done = call(Path("r2plus1d/scripts/run_standalone_eval.sh"), "CPU", "/not/there.yaml", "/not/there.ckpt")
    assert "-c /not/there.yaml" in done.stdout and "pretrained_model=/not/there.ckpt" in done.stdout


@each_script
def test_a_failing_program_fails_the_script(call, script, tmp_path):
    for name in ("python", "msrun"):
        (tmp_path / "bin" / name).write_text("#!/bin/bash\necho broken >&2\nexit 3\n")
    done = call(script, *ARGUMENTS[script.name])
    assert done.returncode == 3 and "broken" in done.stdout + done.stderr
