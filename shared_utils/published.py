"""Keys of the published YAML files that have one value here, or no meaning."""

import mindspore as ms

from shared_utils.config import UserError


def check(config):
    """Print a note for each published key that is not used and says something else than what is.

    context.save_graphs lets MindSpore keep its graphs in ./graphs. Raises UserError where a key that allows
    one value has another.
    """
    loss, data = config.loss, config.data_loader
    fixed = {
        "dataset_sink_mode": (config.dataset_sink_mode, False),
        "loss.type": (loss.type, "SoftmaxCrossEntropyWithLogits"),
        "loss.sparse": (loss.sparse, True),
        "loss.reduction": (loss.reduction, "mean"),
        "infer.normalize": (config.infer.normalize, True),
        "export.input_channel": (config.export.input_channel, 3),
        "data_loader.group_size": (data.group_size, 1),
        "data_loader.train.map.input_columns": (list(data.train.map.input_columns), ["video"]),
        "data_loader.eval.map.input_columns": (list(data.eval.map.input_columns), ["video"]),
        "data_loader.train.dataset.num_clips": (data.train.dataset.num_clips, 1),
        "data_loader.eval.dataset.shuffle": (data.eval.dataset.shuffle, False),
    }
    for key, (value, only) in fixed.items():
        if value != only:
            raise UserError(f"{key} is {value}, but {only} is all there is")
    if config.context.save_graphs:
        ms.set_context(save_graphs=True, save_graphs_path="./graphs")
    rates, views = config.learning_rate, data.eval.dataset.num_clips
    unused = {
        "device_target": (config.device_target, "context.device_target", config.context.device_target),
        "learning_rate.t_max": (rates.t_max, "learning_rate.max_epoch", rates.max_epoch),
        "data_loader.eval.dataset.num_clips": (views, "eval.num_clips", config.eval.num_clips),
    }
    for key, (value, other, used) in unused.items():
        if value and value != used:
            print(f"note: {key} {value} is not used, {other} {used} is")


def check_type(config, name):
    """Raise UserError where model.type does not name the network `name`, upper or lower case."""
    if config.model.type.lower() != name.lower():
        raise UserError(f"model.type is {config.model.type}, but this is {name}")
