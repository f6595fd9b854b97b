"""Train ARN on episodes: python train.py -c FILE.yaml [--section.key=value ...]."""

from mindspore.train import FixedLossScaleManager, Model

from shared_utils import device, optim, training
from shared_utils.checkpoint import load_weights
from shared_utils.config import run
from src.dataset import Episodes, Videos, episode_dataset
from src.episodes import check_classes, check_positive
from src.evaluation import EncodedVideos, accuracy, first_clip
from src.loss import ARNLoss
from src.network import ARN, SelfSupervisionHead
from src.self_supervision import Augmentation


def main(config):
    rank, ranks = device.start(config)
    dataset, validation = config.data_loader.train.dataset, config.data_loader.eval

    videos = Videos(config.data_loader.train, dataset.split)
    augmentation = head = None
    if config.self_supervision.kind != "none":
        clip = first_clip(videos).shape[1:]
        features = tuple(extent // 4 for extent in clip)
        augmentation = Augmentation(**config.self_supervision, clip=clip, features=features)
        head = SelfSupervisionHead(augmentation.kinds, clip, config.model.channels)
    episodes = Episodes(videos, config.model.way, config.model.shot, dataset.query, config.seed, augmentation)

    network = ARN(**config.model)
    if head and config.loss.gamma and not (config.model.temporal_attention or config.model.spatial_attention):
        print("note: without attention loss.gamma has nothing to align")
    if config.train.pretrained_model:
        load_weights(network, config.train.pretrained_model)
    loss = ARNLoss(network, head, **config.loss)

    steps = dataset.episodes // ranks
    rates = optim.learning_rates(config.learning_rate, steps, config.train.epochs)
    scale = config.optimizer.loss_scale
    optimizer = optim.optimizer(config.optimizer, loss.trainable_params(), rates, scale)

    def validate():
        encoded = EncodedVideos(network, unseen, validation.dataset.batch_size)
        mean, half = accuracy(
            *encoded.episodes(
                config.model.way,
                config.model.shot,
                config.eval.query,
                config.train.eval_episodes,
                config.seed,
            )
        )
        loss.set_train(True)
        return mean, f"{config.model.way}-way {config.model.shot}-shot accuracy {mean:.4f} +- {half:.4f}"

    unseen = None
    if config.train.eval_epochs:
        unseen = Videos(validation, config.train.eval_split)
        check_classes(unseen.groups, config.model.way, config.model.shot, config.eval.query, unseen.names)
        first_clip(unseen)  # what cannot be made is told now, not after the first epoch
        check_positive(
            {
                "train.eval_episodes": config.train.eval_episodes,
                "data_loader.eval.dataset.batch_size": validation.dataset.batch_size,
            }
        )
    job = training.Run(
        config.train,
        "arn",
        network,
        loss,
        optimizer,
        steps,
        videos.labels(),
        unseen and validate,
        rank,
        bad=videos.bad,
    )
    if job.epochs_left() == 0:
        print(f"nothing to train: all {config.train.epochs} epochs are done")
        return
    rows, samples = episode_dataset(episodes, videos.reader.workers, steps, job.step, rank, ranks)
    clips = config.model.way * (config.model.shot + dataset.query) * ranks
    progress = training.Progress(job, config.train.log_steps, clips)
    manager = FixedLossScaleManager(scale, drop_overflow_update=False)
    model = Model(loss, optimizer=optimizer, loss_scale_manager=manager)
    kept = device.KeptGraph(config, job.folder / "graphs", __name__)
    with samples.errors():
        model.train(job.epochs_left(), rows, callbacks=[progress, job, kept], dataset_sink_mode=False)


if __name__ == "__main__":
    run(main, __file__)
