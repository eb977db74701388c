"""Classify the test images, or pictures of one's own, with a trained network.

Without pictures: models/<net>/ -> data/predictions/<net>.csv, plots/<net>/.
"""

import argparse
import functools
import json
import sys
from collections.abc import Sequence
from os.path import realpath
from pathlib import Path

import torch
from torch import nn

from stages.classifier.calibration import UNSURE_BELOW
from stages.classifier.inference import compute_logits_of_views, mean_logits
from stages.classifier.known_bits import use_everyones_bits
from stages.classifier.weights import read_network
from stages.common.console import StageError, printable, run_stage
from stages.common.determinism import make_torch_deterministic
from stages.common.files import write_csv
from stages.common.inputs import Inputs
from stages.common.layout import PLOTS_FOLDER, PREDICTIONS_FOLDER, model_file, split_file
from stages.common.params import Params
from stages.common.tensors import read_split
from stages.pictures import figures
from stages.pictures.own_pictures import OwnPicture, read_own_picture

LIKELIEST = 3  # classes, where there are as many


def main() -> None:
    arguments = parse_arguments()
    name = arguments.network
    inputs = Inputs("predict", name)
    params = inputs.params
    make_torch_deterministic()
    use_everyones_bits(name, params, training=False)
    network = read_network(model_file(name), name, params)
    if arguments.pictures:
        classify_pictures(network, params, arguments.pictures, arguments.json, arguments.save)
    else:
        classify_test_images(network, inputs, name)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.predict", description=__doc__)
    parser.add_argument("network", help="one of networks in params.yaml")
    parser.add_argument("pictures", nargs="*", type=Path, help="of one thing each")
    parser.add_argument("--json", action="store_true", help="print the answers on pictures as JSON")
    parser.add_argument("--save", type=Path, metavar="PNG", help="draw what the network saw")
    arguments = parser.parse_intermixed_args()  # pictures may follow options
    if (arguments.json or arguments.save) and not arguments.pictures:
        parser.error("--json and --save are for pictures; name one or more")
    saved = f"--save {printable(arguments.save or '')}"
    if arguments.save and arguments.save.suffix != ".png":
        parser.error(f"{saved}: the name should end in .png")
    if arguments.save and len(arguments.pictures) > figures.MOST_TITLED:
        parser.error(f"{saved}: can draw {figures.MOST_TITLED} pictures; name fewer")
    # realpath, unlike resolve, says nothing of links that lead in a circle: they can't be read.
    if arguments.save and realpath(arguments.save) in map(realpath, arguments.pictures):
        parser.error(f"{saved}: that would overwrite a picture to be classified")
    return arguments


def classify_test_images(network: nn.Module, inputs: Inputs, name: str) -> None:
    """Classify the test split; write the answers, and draw the first ones and the worst ones."""
    class_names = inputs.params.dataset.class_names
    test, dataset = read_split(split_file("test"), len(class_names))
    of_views = compute_logits_of_views(network, test.images, inputs.params.evaluate)
    logits = mean_logits(of_views)
    predicted = logits.argmax(dim=1)  # as evaluate does: after the softmax there can be ties
    confidence = logits.softmax(dim=1).amax(dim=1)
    wrong = (predicted != test.labels).nonzero()[:, 0]
    worst_first = wrong[confidence[wrong].argsort(descending=True, stable=True)]

    for file, title, chosen in (
        ("predictions.png", "the first test images; mistakes in red", torch.arange(len(test))),
        ("mistakes.png", "the most confident mistakes on test images", worst_first),
    ):
        figures.draw_predictions(
            PLOTS_FOLDER / name / file,
            f"{name} on {dataset} by {len(of_views)} views, {title}",
            class_names,
            test.take(chosen),
            predicted[chosen],
            confidence[chosen],
        )
    with inputs.writing_last_output():
        write_predictions(PREDICTIONS_FOLDER / f"{name}.csv", class_names, predicted, confidence)
    print(f"{name}: {len(test):,} predictions on {dataset}, {len(wrong):,} of them wrong")


def write_predictions(
    path: Path, class_names: Sequence[str], predicted: torch.Tensor, confidence: torch.Tensor
) -> None:
    """Write a row for each test image, in the test set's order.

    ``predicted``, int64 [N], are the classes, ``confidence``, float32 [N], their probabilities.
    """
    rows = (
        (index, label, class_names[label], f"{probability:.6f}")
        for index, (label, probability) in enumerate(
            zip(predicted.tolist(), confidence.tolist(), strict=True)
        )
    )
    write_csv(path, ("index", "class_id", "class_name", "confidence"), rows)


def classify_pictures(
    network: nn.Module, params: Params, paths: list[Path], as_json: bool, drawing: Path | None
) -> None:
    """Print the likeliest classes of each picture; then draw it beside what the network saw of it.

    A file that isn't a picture doesn't keep the others from their answers: what is wrong with each
    is printed below them, and the exit status is 1.
    """
    pictures, errors = {}, []
    for path in dict.fromkeys(paths):
        try:
            pictures[path] = read_own_picture(path)
        except StageError as error:
            errors.append(error)
    answers = {}
    if pictures:
        batch = torch.stack([picture.image for picture in pictures.values()])
        logits = mean_logits(compute_logits_of_views(network, batch, params.evaluate))
        answer_one = functools.partial(make_answer, params.dataset.class_names)
        made = map(answer_one, logits.softmax(dim=1), pictures.values())
        answers = dict(zip(pictures, made, strict=True))
    if as_json:
        entries = [{"file": str(path), **answer} for path, answer in answers.items()]
        print(json.dumps(entries, indent=2))
    else:
        for path, answer in answers.items():
            print(f"{printable(path)}: {put_in_words(answer)}")
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    if drawing and pictures:
        titles = [(printable(path.name), put_in_words(answer)) for path, answer in answers.items()]
        pairs = [(picture.thumbnail, picture.image) for picture in pictures.values()]
        figures.draw_titled(drawing, pairs, titles)
    if errors:
        sys.exit(1)


def make_answer(
    class_names: Sequence[str], probabilities: torch.Tensor, picture: OwnPicture
) -> dict:
    """Name the likeliest classes of probabilities, float32 [C], and tell what is doubtful."""
    top = probabilities.topk(min(LIKELIEST, len(class_names)))
    likeliest = [
        {"class_id": label, "class_name": class_names[label], "probability": round(probability, 4)}
        for label, probability in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]
    unsure = likeliest[0]["probability"] < UNSURE_BELOW
    return {"unsure": unsure, "likeliest": likeliest, "notes": picture.notes}


def put_in_words(answer: dict) -> str:
    """Put an answer in a line."""
    classes = [f"{one['class_name']} {one['probability']:.1%}" for one in answer["likeliest"]]
    notes = "".join(f" ({note})" for note in answer["notes"])
    return ("unsure: " if answer["unsure"] else "") + ", ".join(classes) + notes


if __name__ == "__main__":
    run_stage(main)
