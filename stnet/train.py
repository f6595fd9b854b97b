"""Train StNet: python train.py -c FILE.yaml [--key=value ...]."""

from functools import partial

from mindspore.train import Model

from shared_utils import checkpoint, device, optim, training
from shared_utils.config import UserError, run
from shared_utils.datasets import check_labels, read_label_map
from src import settings
from src.dataset import LabelledVideos, TrainingClips
from src.evaluation import top1
from src.inflate import load_resnet
from src.loss import CrossEntropySmooth
from src.modelarts import online
from src.sync_norm import synchronise_norms


@partial(online, trains=True)
def main(config):
    rank, ranks = device.start(settings.job(config))
    data = TrainingClips(config, rank, ranks)

    network = settings.build(config)
    if config.sync_norm and ranks > 1:
        synchronise_norms(network, ranks)
    section = settings.training(config)
    section.resume = begin(network, config, data.labels)

    rates = optim.learning_rates(settings.learning_rate(config), data.steps, config.num_epochs)
    optimizer = optim.optimizer(settings.optimizer(config), network.trainable_params(), rates)
    loss = CrossEntropySmooth(config.class_num, config.label_smoothing)

    unseen = None
    if config.run_eval:
        if config.eval_batch_size < 1:
            raise UserError(f"eval_batch_size must be at least 1, not {config.eval_batch_size}")
        unseen = LabelledVideos(config, "val")
        check_labels("the label map of the validation videos", unseen.labels, data.labels)
        if both := {video.path for video in unseen.videos} & {video.path for video in data.videos}:
            print(f"note: {len(both)} of the {len(unseen.videos)} validation videos are trained on")

    def validate():
        score = top1(network, unseen, config.eval_batch_size)
        network.set_train()
        return score, f"top-1 {score:.4f} of {len(unseen.videos)} videos"

    job = training.Run(
        section,
        "stnet",
        network,
        network,
        optimizer,
        data.steps,
        data.labels,
        unseen and validate,
        rank,
        bad=data.bad,
    )
    if job.epochs_left() == 0:
        print(f"nothing to train: all {config.num_epochs} epochs are done")
        return
    sink = config.dataset_sink_mode and settings.target(config) != "CPU"
    rows, samples = data.batches(job.step, sink)
    kept = device.KeptGraph(config, job.folder / "graphs", __name__)
    callbacks = [training.Progress(job, config.log_steps, data.clips * ranks), job, kept]
    model = Model(network, loss, optimizer)
    with samples.errors():
        if sink:
            # One step a time: the run looks at every step.
            left = job.total_steps - job.step
            model.train(left, rows, callbacks=callbacks, dataset_sink_mode=True, sink_size=1)
        else:
            model.train(job.epochs_left(), rows, callbacks=callbacks, dataset_sink_mode=False)


def begin(network, config, labels):
    """Load the weights that training starts from; the state to resume from is returned. Raises UserError."""
    if config.resume not in ("", "auto"):
        tensors, facts = checkpoint.load(config.resume)
        if set(facts.get("weights", tensors)) < set(tensors):  # with an optimizer's state
            return config.resume
        checkpoint.load_weights(network, config.resume)
        if (kept := read_label_map(config.resume)) is not None:
            check_labels(f"the label map of {config.resume}", kept, labels)
        return ""
    if config.pre_res50:
        load_resnet(network, config.pre_res50)
    elif not config.from_scratch:
        raise UserError("name ImageNet weights to start from by pre_res50, or set from_scratch=True")
    return config.resume


if __name__ == "__main__":
    run(main, __file__)
