"""Measure how many garments are known in pictures such as people bring, of each of many kinds."""

import argparse
import functools
import tempfile
from pathlib import Path
from typing import Any

import torch

from stages.classifier.inference import compute_logits_of_views, mean_logits
from stages.classifier.weights import read_network
from stages.common.console import StageError, run_stage
from stages.common.determinism import make_torch_deterministic
from stages.common.files import write_json
from stages.common.layout import METRICS_FOLDER, PLOTS_FOLDER, model_file, split_file
from stages.common.params import EvaluateParams, load_params
from stages.common.tensors import LabelledImages, read_split
from stages.common.workers import map_in_order
from stages.pictures.figures import draw_titled
from stages.pictures.own_pictures import OwnPicture, read_own_picture
from tools.pictures.kinds import KINDS

SUMMARY = METRICS_FOLDER / "own_pictures.json"
PICTURE = PLOTS_FOLDER / "own_pictures.png"
IMAGES = 300  # of a split; the standard error of 0.92 is 0.016


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.pictures", description=__doc__)
    parser.add_argument("--split", choices=("val", "test"), default="test", help="default: test")
    parser.add_argument("--images", type=int, default=IMAGES, help=f"default: {IMAGES}")
    options = parser.parse_args()

    make_torch_deterministic()
    params = load_params()
    networks = {name: read_network(model_file(name), name, params) for name in params.networks}
    examples, _ = read_split(split_file(options.split), len(params.dataset.class_names))
    examples = examples.take(slice(options.images))
    itself = {"itself": [OwnPicture(image, [], None) for image in examples.images]}
    seen = itself | {kind: see(kind, examples.images) for kind in KINDS}
    shares = {
        kind: measure(networks, params.evaluate, pictures, examples)
        for kind, pictures in seen.items()
    }
    summary = {"split": options.split, "images": len(examples), "right": shares}
    if options.split == "test":  # val is for choices
        write_json(SUMMARY, summary)
        draw(seen, shares)
    print(format_shares(summary))


def see(kind: str, images: torch.Tensor) -> list[OwnPicture | None]:
    """Draw images, uint8 [N, 1, 28, 28], into pictures of a kind, and read these; None: refused."""
    with tempfile.TemporaryDirectory() as folder:
        return map_in_order(
            functools.partial(see_one, kind, Path(folder)), images, range(len(images))
        )


def see_one(kind: str, folder: Path, image: torch.Tensor, seed: int) -> OwnPicture | None:
    path = folder / str(seed)
    path.write_bytes(KINDS[kind].draw(image, seed))
    try:
        return read_own_picture(path)
    except StageError:
        return None


def measure(
    networks: dict[str, torch.nn.Module],
    evaluate: EvaluateParams,
    pictures: list[OwnPicture | None],
    examples: LabelledImages,
) -> dict[str, float]:
    """Measure the share of pictures that each network knows, and of those that were refused."""
    read = [index for index, picture in enumerate(pictures) if picture]
    labels = examples.labels[read]
    shares = {}
    for name, network in networks.items():
        right = 0
        if read:
            images = torch.stack([pictures[i].image for i in read])
            logits = mean_logits(compute_logits_of_views(network, images, evaluate))
            right = (logits.argmax(dim=1) == labels).sum().item()
        shares[name] = round(right / len(pictures), 4)
    return shares | {"refused": round(1 - len(read) / len(pictures), 4)}


def draw(seen: dict[str, list[OwnPicture | None]], shares: dict[str, dict[str, float]]) -> None:
    """Draw a picture of each kind beside what was seen of it."""
    shown = {kind: next(filter(None, seen[kind][i:]), None) for i, kind in enumerate(KINDS)}
    shown = {kind: picture for kind, picture in shown.items() if picture}
    titles = [
        (kind, ", ".join(f"{name} {share:.1%}" for name, share in shares[kind].items()))
        for kind in shown
    ]
    draw_titled(PICTURE, [(one.thumbnail, one.image) for one in shown.values()], titles)


def format_shares(summary: dict[str, Any]) -> str:
    """Lay the shares out as a Markdown table, in per cent, the hardest kind first."""
    names = list(summary["right"]["itself"])
    lines = [["kind", *names], ["---", *["---:"] * len(names)]]
    hardest_first = sorted(summary["right"].items(), key=lambda item: item[1][names[0]])
    for kind, shares in hardest_first:
        lines.append([kind, *(f"{100 * share:.1f}" for share in shares.values())])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    run_stage(main)
