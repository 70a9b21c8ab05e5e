"""Train a small convolutional network on images.

    # a first run: offline, on a CPU, a few seconds, scikit-learn's handwritten digits
    python recipes/train_cnn.py

    # your own images: one folder per class, all resized to 64x64
    python recipes/train_cnn.py --data.train photos/ --data.image_size 64 --train.output_dir runs/photos

    # MNIST, from the folder with its four files, for minutes and with augmentation; mnist.yaml takes seconds
    python recipes/train_cnn.py --config recipes/configs/train_cnn/mnist_long.yaml --data.train mnist/

    # a data set from the Hub, by the names of its columns
    python recipes/train_cnn.py --data.train uoft-cs/cifar10 --data.test uoft-cs/cifar10#test --data.image img \
        --augment.flip 0.5 --augment.shift 0.1 --train.output_dir runs/cifar10

    # two processes, on two GPUs or on a CPU
    accelerate launch --config_file accelerate_configs/ddp.yaml recipes/train_cnn.py

`--help` explains every setting; `--print_config` shows what a command would run.
"""

from dataclasses import dataclass, field
from functools import partial

from hfscale import config as settings
from hfscale import data, evaluation, files, hub, launch, models, runs, schemas, training
from hfscale.schemas import (
    AugmentSettings,
    CnnSettings,
    ImageDataSettings,
    OptimSettings,
    TrainSettings,
    check_best_metric,
    require,
    with_length,
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Train a small convolutional network on images, for 20 epochs unless told otherwise."""

    model: CnnSettings = field(default_factory=CnnSettings)
    data: ImageDataSettings = field(default_factory=lambda: ImageDataSettings(train="builtin:digits"))
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    optim: OptimSettings = field(default_factory=lambda: OptimSettings(lr=4e-3))
    train: TrainSettings = field(default_factory=lambda: TrainSettings(output_dir="runs/train_cnn"))
    hub: schemas.HubSettings | None = None
    label_smoothing: float = 0.1
    """Share of each target that is spread over all classes; 0 for none."""
    baselines: bool = True
    """Also score the majority class and, where it is cheap, logistic regression, trained on the same images."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "train", with_length(self.train, epochs=20))
        check_best_metric("single_label_classification", self.train)
        require(0 <= self.label_smoothing < 1, f"--label_smoothing must be in [0, 1), got {self.label_smoothing}")


def main(config: Config) -> None:
    # 1. Where are we running, and where to? A run that was interrupted goes on where it was
    accelerator = launch.start(config.train)
    run = runs.claim(config, accelerator)
    folder = run.folder

    # 2. Data: decoded once and checked by the first process, taken from the cache by the others
    with accelerator.main_process_first():
        splits = data.load_image_splits(config.data)
    labels, shape = splits.train.classes, splits.train.shape

    # 3. Model: a new network that normalizes as the training images ask for, or one that goes on learning
    normalization = data.mean_and_std(splits.train)
    classifier = models.load_image_classifier(config.model, shape, labels.names, normalization, config.train.seed)
    model, processor = classifier

    # 4. Batches in the same order, and varied in the same way, on any number of processes
    shared = {"mean": processor.image_mean, "std": processor.image_std, **launch.batching(accelerator, pads=False)}
    sizes = {"global_batch_size": config.train.global_batch_size, "micro_batch_size": config.train.micro_batch_size}
    batches = data.ImageTrainBatches(
        splits.train, augmentation=config.augment, seed=config.train.seed, **sizes, **shared
    )
    launch.preflight(accelerator, config, model, batches)

    def score(model, images):
        held_out = data.ImageEvalBatches(images, batch_size=config.train.eval_batch_size, **shared)
        return evaluation.score_classifier(accelerator, model, held_out, images, labels)

    # 5. Train; afterwards `model` has the weights of its best evaluation, and they are saved in `model/`
    optimizer = training.build_optimizer(model, config.optim)
    loss_fn = training.classification_loss(labels.task, config.label_smoothing)
    evaluate = (lambda model: score(model, splits.validation)) if splits.validation else None
    save = partial(models.save_image_classifier, classifier)
    with runs.open_run(run, config, launch.environment(accelerator), accelerator), hub.follow(config.hub, folder):
        fitted = training.fit(accelerator, model, optimizer, batches, loss_fn, config, evaluate, save, run)

    # 6. Evaluate on images that no gradient came from; the result is on disk before anything else is tried
    held_out = splits.held_out
    result = runs.result(accelerator, model, fitted, metrics=score(model, held_out) if held_out else {})
    result["num_examples"] = {name: len(images) for name, images in splits._asdict().items() if images}
    result["held_out"] = "test" if splits.test else "validation" if held_out else None
    if accelerator.is_main_process:
        runs.write_result(folder, result)

        # 7. What simple methods reach on the same images, model card, learning curve
        if config.baselines and held_out:
            result["baselines"] = evaluation.image_baselines(splits.train, held_out)
            runs.write_result(folder, result)
        files.write_text(folder / "model" / "README.md", hub.image_model_card(config, result, labels.names))
        evaluation.plot_learning_curve(folder)
        example = data.write_example(held_out or splits.train, folder)
        runs.complete_run(folder, result, [runs.pipeline_command("image-classification", folder, f'"{example}"')])
    launch.finish(accelerator)
    hub.publish(config.hub, folder)


if __name__ == "__main__":
    settings.run(main, Config)
