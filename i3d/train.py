"""Train I3D: python train.py -c FILE.yaml [--section.key=value ...]."""

from mindspore.train import Model

from shared_utils import device, optim, training
from shared_utils.checkpoint import load_weights
from shared_utils.config import UserError, run
from shared_utils.datasets import check_labels, read_label_map
from src.build import build
from src.dataset import LabelledVideos, TrainingClips
from src.evaluation import check_views, top1
from src.step import Skipped, TrainStep, freeze_norm, mixed_precision
from src.sync_norm import synchronise_norms


def main(config):
    rank, ranks = device.start(config)
    section = config.train
    if section.ema and not section.eval_epochs:
        raise UserError("train.ema is kept in the best checkpoint alone: train.eval_epochs must be above 0")
    data = TrainingClips(config, rank, ranks)

    network = build(config)
    if section.pre_trained and section.pretrained_model:
        replaced = ("classifier.",) if section.replace_classifier else ()
        load_weights(network, section.pretrained_model, replaced)
        if not replaced and (kept := read_label_map(section.pretrained_model)) is not None:
            source = f"{section.pretrained_model}, without train.replace_classifier: its label map"
            check_labels(source, kept, data.labels)
    if section.freeze_norm:
        freeze_norm(network)
    mixed_precision(network, section.amp_level)
    if section.sync_norm and ranks > 1:
        synchronise_norms(network, ranks)

    rates = optim.learning_rates(config.learning_rate, data.steps, section.epochs, data.clips * ranks)
    optimizer = optim.optimizer(config.optimizer, network.trainable_params(), rates)
    step = TrainStep(network, optimizer, config.loss.label_smoothing, section.accumulate, section.clip_norm,
                     section.ema, config.optimizer.loss_scale, rank, ranks, config.seed)

    unseen = None
    if section.eval_epochs:
        unseen = LabelledVideos(config.data_loader.eval, config.model.num_classes)
        check_labels("the label map of the validation videos", unseen.labels, data.labels)
        if both := {video.path for video in unseen.videos} & {video.path for video in data.videos}:
            print(f"note: {len(both)} of the {len(unseen.videos)} validation videos are trained on")
        check_views(unseen, config.eval)  # now, not after the first epoch

    def validate():
        score = top1(network, unseen, config.eval)
        step.set_train()
        return score, f"top-1 {score:.4f} of {len(unseen.videos)} videos"

    job = training.Run(section, "i3d", network, step, optimizer, data.steps, data.labels,
                       unseen and validate, rank, step.averaged, data.bad)
    if job.epochs_left() == 0:
        print(f"nothing to train: all {section.epochs} epochs are done")
        return
    rows, samples = data.batches(job.step)
    progress = training.Progress(job, section.log_steps, data.clips * ranks)
    kept = device.KeptGraph(config, job.folder / "graphs", __name__)
    callbacks = [progress, Skipped(step, job), job, kept]
    with samples.errors():
        Model(step).train(job.epochs_left(), rows, callbacks=callbacks, dataset_sink_mode=False)


if __name__ == "__main__":
    run(main, __file__)
