"""The flat keys of the published YAML, as the network and shared_utils take them."""

from types import SimpleNamespace

from shared_utils.config import UserError
from shared_utils.device import why_no_gpu
from src.network import StNet


def job(config):
    """What device.start reads. Raises UserError."""
    if config.mode not in ("GRAPH", "PYNATIVE"):
        raise UserError(f"mode must be GRAPH or PYNATIVE, not {config.mode}")
    context = SimpleNamespace(
        mode=0 if config.mode == "GRAPH" else 1,
        device_target=target(config),
        device_id=config.device_id,
        save_graphs=False,
    )
    return SimpleNamespace(
        context=context, seed=config.seed, train=SimpleNamespace(run_distribute=config.run_distribute)
    )


def target(config):
    """CPU, GPU or Ascend: config.target, or where it is empty what the machine has."""
    return config.target or ("CPU" if why_no_gpu() else "GPU")


def training(config):
    """What training.Run reads; `resume` is given apart, since it may be weights alone."""
    return SimpleNamespace(
        ckpt_path=config.checkpoint_path,
        epochs=config.num_epochs,
        resume="",
        eval_epochs=config.eval_interval,
        save_checkpoint_epochs=config.save_checkpoint_epochs if config.save_checkpoint else 0,
        save_checkpoint_steps=0,
        keep_checkpoint_max=config.keep_checkpoint_max,
    )


def learning_rate(config):
    """What optim.learning_rates reads: lr times gamma after every lr_decay_rate epochs."""
    if config.lr_decay_rate < 1:
        raise UserError(f"lr_decay_rate must be at least 1, not {config.lr_decay_rate}")
    epochs = range(config.lr_decay_rate, config.num_epochs, config.lr_decay_rate)
    return SimpleNamespace(
        lr_scheduler="step",
        lr=config.lr,
        lr_epochs=list(epochs),
        lr_gamma=config.gamma,
        eta_min=0.0,
        max_epoch=0,
        warmup_epochs=0,
    )


def optimizer(config):
    """What optim.optimizer reads."""
    return SimpleNamespace(type=config.optimizer, momentum=config.momentum, weight_decay=config.weight_decay)


def trained(config):
    """The path of the checkpoint that eval, infer and export read. Raises UserError where none is named."""
    if not config.resume or config.resume == "auto":
        raise UserError("name the checkpoint by --resume=...")
    return config.resume


def build(config):
    """StNet as the configuration says. Raises UserError."""
    if config.T < 1 or config.target_size < 1:
        raise UserError(f"T and target_size must be at least 1, not {config.T} and {config.target_size}")
    left = -(-config.target_size // 32)
    if config.avgpool_kernel_size != left:
        raise UserError(
            f"avgpool_kernel_size is {config.avgpool_kernel_size}, but a target_size of "
            f"{config.target_size} leaves {left}x{left}"
        )
    return StNet(config.class_num, config.N, config.depth, config.depthwise, config.same_pool)
