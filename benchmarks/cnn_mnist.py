"""Seconds of training until a CNN knows 99% of MNIST's test images: recipes/train_cnn.py beside the Keras tutorial.

    python -m venv keras && keras/bin/pip install tensorflow-cpu
    python benchmarks/cnn_mnist.py --mnist FOLDER --keras_python keras/bin/python

FOLDER holds the four idx files. Both train the same network (three 3x3 convolutions of 32, 64, 64 channels, a dense
layer of 64; 93,322 parameters) in float32 on all 60,000 training images, and are tested on the 10,000 test images:

- hfscale: recipes/configs/train_cnn/mnist.yaml as it is, whose settings were chosen on held-out training images. It
  counts as there when the model that the run leaves behind is at the target.
- keras: the listing that Keras tutorials give for this network: pixels / 255, Adam with its defaults, batches of 64,
  up to five epochs, tested after each. It is there at the end of the first epoch that is at the target, and stops.

Every measurement is a process of its own; the two take turns, in a new order for each seed. Timed is training, not
start-up, compiling, reading files, evaluation. `--results FILE` keeps the measurements of several calls together.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KERAS = """
import gzip, json, os, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np
from keras import layers

folder, seed, target, epochs, batch_size = sys.argv[1], *map(float, sys.argv[2:])
keras.utils.set_random_seed(int(seed))

def read(name, skip, *shape):
    path = next(p for p in (f"{folder}/{name}.gz", f"{folder}/{name}") if os.path.exists(p))
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
        return np.frombuffer(file.read(), np.uint8, offset=skip).reshape(-1, *shape)

def split(name):
    images = read(f"{name}-images-idx3-ubyte", 16, 28, 28, 1).astype("float32") / 255
    return images, read(f"{name}-labels-idx1-ubyte", 8)

(train_x, train_y), (test_x, test_y) = split("train"), split("t10k")
model = keras.Sequential([
    keras.Input((28, 28, 1)),
    layers.Conv2D(32, (3, 3), activation="relu"), layers.MaxPooling2D((2, 2)),
    layers.Conv2D(64, (3, 3), activation="relu"), layers.MaxPooling2D((2, 2)),
    layers.Conv2D(64, (3, 3), activation="relu"),
    layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dense(10),
])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
model.optimizer.build(model.trainable_variables)
state = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
model.fit(train_x[:int(batch_size)], train_y[:int(batch_size)], batch_size=int(batch_size), verbose=0)  # compiles
for variable, value in zip((*model.variables, *model.optimizer.variables), state):
    variable.assign(value)
seconds, history = 0.0, []
for _ in range(int(epochs)):
    start = time.perf_counter()
    model.fit(train_x, train_y, batch_size=int(batch_size), epochs=1, verbose=0)
    seconds += time.perf_counter() - start
    history.append((seconds, float(model.evaluate(test_x, test_y, verbose=0)[1])))
    if history[-1][1] >= target:
        break
print(json.dumps({"history": history, "parameters": model.count_params()}))
"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", required=True, help="folder with MNIST's four idx files, plain or .gz")
    parser.add_argument(
        "--keras_python", help="python of an environment with tensorflow; without it hfscale runs alone"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--target", type=float, default=0.99, help="test accuracy to reach")
    parser.add_argument("--keras_epochs", type=int, default=5, help="epochs after which Keras gives up")
    parser.add_argument("--keras_batch_size", type=int, default=64)
    parser.add_argument(
        "--config", default=str(ROOT / "recipes/configs/train_cnn/mnist.yaml"), help="hfscale's settings"
    )
    parser.add_argument("--results", type=Path, help="JSON lines to add the measurements to, and to report on")
    return parser.parse_args()


def train_hfscale(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, str(ROOT / "recipes/train_cnn.py"), "--config", args.config]
        words += ["--data.train", args.mnist, "--train.output_dir", f"{folder}/run", "--train.seed", str(seed)]
        last_line(words)
        result = json.loads(Path(folder, "run", "result.json").read_text())
    assert result["held_out"] == "test"
    history = [(result["train_seconds"], result["metrics"]["accuracy"])]
    return {"history": history, "parameters": result["num_parameters"]}


def train_keras(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    options = (args.mnist, seed, args.target, args.keras_epochs, args.keras_batch_size)
    return json.loads(last_line([args.keras_python, "-c", KERAS, *map(str, options)]))


def last_line(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{words[0]} failed:\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
    return done.stdout.strip().splitlines()[-1]


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    contestants = {"hfscale": train_hfscale, **({"keras": train_keras} if args.keras_python else {})}
    measured = []
    for seed in args.seeds:
        order = list(contestants)[:: 1 if seed % 2 else -1]
        for name in order:
            start = time.perf_counter()
            run = {"name": name, "seed": seed, **contestants[name](args, seed)}
            run["wall_seconds"] = time.perf_counter() - start
            assert run["parameters"] == 93_322, f"{name} trained another network: {run['parameters']:,} parameters"
            steps = "  ".join(f"{accuracy:.4f} after {seconds:.1f} s" for seconds, accuracy in run["history"])
            print(f"seed {seed}  {name:<8} {steps}  (process {run['wall_seconds']:.0f} s)", flush=True)
            measured.append(run)
            if args.results:
                with args.results.open("a") as file:
                    file.write(json.dumps(run) + "\n")
    return measured


def seconds_to(run: dict[str, Any], target: float) -> float:
    return next((seconds for seconds, accuracy in run["history"] if accuracy >= target), math.inf)


def report(measured: list[dict[str, Any]], target: float) -> None:
    print(f"\n| contestant | seeds | reached {target:.1%} | seconds of training: median | min | max | last accuracy |")
    print("|---|---|---|---|---|---|---|")
    medians = {}
    for name in dict.fromkeys(run["name"] for run in measured):
        runs = [run for run in measured if run["name"] == name]
        times = [seconds_to(run, target) for run in runs]
        medians[name] = statistics.median(times)
        reached = sum(math.isfinite(seconds) for seconds in times)
        accuracy = statistics.median(run["history"][-1][1] for run in runs)
        spread = " | ".join(f"{seconds:.1f}" for seconds in (medians[name], min(times), max(times)))
        print(f"| {name} | {len(runs)} | {reached} | {spread} | {accuracy:.4f} |")
    if len(medians) == 2:
        keras = [run for run in measured if run["name"] == "keras"]
        at_least = statistics.median(min(seconds_to(run, target), run["history"][-1][0]) for run in keras)
        print(
            f"\nhfscale needs {medians['hfscale'] / at_least:.2f} of Keras' time (medians; a Keras run that did not "
            "get there counts with its five epochs)"
        )


if __name__ == "__main__":
    arguments = parse_arguments()
    runs_now = measure(arguments)
    lines = arguments.results.read_text().splitlines() if arguments.results else []
    report([json.loads(line) for line in lines] or runs_now, arguments.target)
