"""Train non-local I3D-R50: python train.py -c FILE.yaml [--section.key=value ...]."""

from mindspore.train import Model

from shared_utils import evaluation, optim, published, training
from shared_utils.checkpoint import load_weights
from shared_utils.config import run
from shared_utils.step import Classification, TrainStep, freeze_norm, mixed_precision
from src.build import build
from src.dataset import evaluation_videos, training_data


def main(config):
    published.check(config)
    rank, ranks = training.start(config)
    section = config.train
    data = training_data(config, rank, ranks)

    network = build(config)
    if section.pre_trained and section.pretrained_model:
        replaced = ("classifier.",) if section.replace_classifier else ()
        load_weights(network, section.pretrained_model, replaced)
    if section.freeze_norm:
        freeze_norm(network)
    mixed_precision(network, section.amp_level)
    loss = Classification(network, config.loss.label_smoothing)

    rates = optim.learning_rates(config.learning_rate, data.steps, section.epochs)
    rates = optim.linear_scaling(rates, data.global_clips, config.learning_rate.base_batch)
    optimizer = optim.optimizer(config.optimizer, network.trainable_params(), rates)
    scale = config.optimizer.loss_scale
    step = TrainStep(
        loss, network, optimizer, section.accumulate, section.clip_norm, section.ema, scale, ranks
    )

    def validate():
        score = evaluation.top1(network, unseen, config.eval, workers)
        step.set_train()
        return score, f"top-1 {score:.4f} of {len(unseen.videos)} videos"

    unseen, workers = None, config.data_loader.eval.dataset.num_parallel_workers
    if section.eval_epochs:
        unseen = evaluation_videos(config)
    job = training.Run(
        section,
        "nonlocal",
        network,
        step,
        optimizer,
        data.steps,
        data.videos.labels,
        unseen and validate,
        rank,
        step.averaged,
    )
    if job.epochs_left() == 0:
        print(f"nothing to train: all {section.epochs} epochs are done")
        return
    rows, reading = data.batches(job.step)
    progress = training.Progress(job, section.log_steps, data.global_clips)
    with reading.errors():
        Model(step).train(job.epochs_left(), rows, callbacks=[progress, job], dataset_sink_mode=False)


if __name__ == "__main__":
    run(main, __file__)
