"""flops: parameters and multiply-accumulates equal those counted for independent PyTorch networks."""

import subprocess
import sys
from pathlib import Path

import pytest

from ci.changed_models import models

ROOT = Path(__file__).resolve().parents[2]


def clip(frames, height, width):
    return [
        f"--data_loader.eval.dataset.seq={frames}",
        f"--export.image_height={height}",
        f"--export.image_width={width}",
    ]


EXPECTED = {  # flags of a small, odd shape, and torch.utils.flop_counter's half for these shapes
    "arn": (
        ["-c", str(ROOT / "arn/authors_config.yaml"), "--export.input_shape=[3,16,32,40]"],
        "5x3x16x32x40 and 5x3x16x32x40, 493,122 parameters, 6,070,080,200 MACs (6.070 G)",
    ),
    "i3d": (clip(16, 40, 48), "1x3x16x40x48, 12,697,264 parameters, 1,119,282,176 MACs (1.119 G)"),
    "nonlocal": (
        [*clip(9, 40, 48), "--model.conv1_stride_t=2", "--model.pool1_stride_t=2"],
        "1x3x9x40x48, 35,397,840 parameters, 510,878,720 MACs (0.511 G)",
    ),
    "stnet": (
        ["--T=3", "--target_size=40", "--avgpool_kernel_size=2"],
        "1x3x15x40x40, 32,852,389 parameters, 762,991,616 MACs (0.763 G)",
    ),
    "r2plus1d": (clip(7, 40, 48), "1x3x7x40x48, 31,505,325 parameters, 2,903,988,704 MACs (2.904 G)"),
}


def run(*arguments):
    command = [sys.executable, ROOT / "ci/flops.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("model", sorted(EXPECTED.keys() & set(models(ROOT))))
def test_counts(model):
    flags, line = EXPECTED[model]
    done = run(model, *flags)
    assert (done.returncode, done.stdout) == (0, f"{model}: {line}\n"), done.stderr


def test_mistakes_are_one_line():
    done = run("arn", "--export.size=3")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "unknown key export.size" in done.stderr
