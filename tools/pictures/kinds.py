"""Kinds of pictures such as people bring, drawn from images of the data set."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter

Colour = float | tuple[float, float, float]  # of 255: a grey, or red, green and blue

SIDE = 480  # pixels of a picture, both ways
FAINT = 8  # of 255; what is darker in an image isn't cut out as part of the garment
JPEG = {"format": "JPEG", "quality": 92}
PNG = {"format": "PNG"}


@dataclass
class Scene:
    """A garment before a ground, of 255: float [480, 480, 3] each, and where it is, 0 to 1."""

    ground: np.ndarray
    cloth: np.ndarray
    mask: np.ndarray
    chance: np.random.Generator

    def paint(self, share: np.ndarray, colour: Colour) -> None:
        """Paint over the garment and the ground, where and as far as a share, [480, 480], says."""
        share = share[..., None]
        self.ground = self.ground * (1 - share) + of_three(colour) * share
        self.mask = self.mask * (1 - share)

    def brighten(self, light: np.ndarray) -> None:
        """Add light, float [480, 480] or [480, 480, 3], to all that is seen."""
        light = light if light.ndim == 3 else light[..., None]
        self.ground, self.cloth = self.ground + light, self.cloth + light


Effect = Callable[[Scene], None]


class Kind:
    """A kind of picture.

    Parameters
    ----------
    ground : Colour or None
        None: transparent.
    cloth : tuple of two Colours
        What a garment's black and its white become.
    *effects : Effect
        What befalls the scene, one after the other.
    place : tuple of three int
        The edge of the garment's square, its top and its left, in pixels.
    size : tuple of two int
        What the picture is resized to: its width and height.
    file : dict
        How Pillow saves it.
    """

    def __init__(
        self,
        ground: Colour | None,
        cloth: tuple[Colour, Colour],
        *effects: Effect,
        place: tuple[int, int, int] = (320, 80, 80),
        size: tuple[int, int] = (SIDE, SIDE),
        file: dict = JPEG,
    ) -> None:
        self.ground, self.cloth, self.effects = ground, cloth, effects
        self.place, self.size, self.file = place, size, file

    def draw(self, image: torch.Tensor, seed: int) -> bytes:
        """Draw an image, uint8 [1, 28, 28], into a picture; return the content of its file."""
        scene = self.set_scene(image[0].numpy(), np.random.default_rng(seed))
        for effect in self.effects:
            effect(scene)
        if self.ground is None:
            pixels = np.dstack([scene.cloth, 255 * scene.mask])
        else:
            pixels = scene.ground * (1 - scene.mask) + scene.cloth * scene.mask
        picture = Image.fromarray(np.uint8(pixels.clip(0, 255).round()))
        if picture.size != self.size:
            smaller = self.size[0] < SIDE
            method = Image.Resampling.BOX if smaller else Image.Resampling.BICUBIC
            picture = picture.resize(self.size, method)
        file = io.BytesIO()
        picture.save(file, **self.file)
        return file.getvalue()

    def set_scene(self, image: np.ndarray, chance: np.random.Generator) -> Scene:
        brightness = enlarge(image, self.place)[..., None] / 255
        outline = enlarge(np.uint8(image > FAINT) * 255, self.place)[..., None] / 255
        black, white = map(of_three, self.cloth)
        return Scene(
            ground=np.tile(of_three(self.ground or 0), (SIDE, SIDE, 1)),
            cloth=black + (white - black) * brightness,
            mask=((outline - 0.5) * 8 + 0.5).clip(0, 1),
            chance=chance,
        )


def of_three(colour: Colour) -> np.ndarray:
    """Return red, green and blue."""
    return np.broadcast_to(np.float32(colour), 3)


def enlarge(image: np.ndarray, place: tuple[int, int, int]) -> np.ndarray:
    edge, top, left = place
    canvas = Image.new("L", (SIDE, SIDE))
    canvas.paste(Image.fromarray(image).resize((edge, edge), Image.Resampling.BICUBIC), (left, top))
    return np.asarray(canvas, np.float32)


def blur(values: np.ndarray, radius: float) -> np.ndarray:
    """Blur values of 0 to 1, [480, 480]."""
    picture = Image.fromarray(np.uint8(values * 255)).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(picture, np.float32) / 255


def draw_shape(draw: Callable[[ImageDraw.ImageDraw], None]) -> np.ndarray:
    shape = Image.new("L", (SIDE, SIDE))
    draw(ImageDraw.Draw(shape))
    return np.asarray(shape, np.float32) / 255


# From -1 to 1, from left to right and from top to bottom.
ACROSS, DOWN = np.meshgrid(*[np.linspace(-1, 1, SIDE, dtype=np.float32)] * 2)


def noise(deviation: float) -> Effect:
    return lambda scene: scene.brighten(
        deviation * scene.chance.standard_normal((SIDE, SIDE), np.float32)
    )


def darker(depth: float, where: np.ndarray) -> Effect:
    """Make the light fall off, by a depth where ``where`` is 1."""
    return lambda scene: scene.brighten(-depth * where)


def shadow(depth: float) -> Effect:
    def cast(scene: Scene) -> None:
        soft = np.roll(blur(scene.mask[..., 0], 12), (20, 20), (0, 1))
        scene.ground = scene.ground - depth * soft[..., None]

    return cast


def stripes(depth: float, period: int) -> Effect:
    """Draw planks, each of a shade of its own between 0 and a depth."""

    def draw(scene: Scene) -> None:
        shades = scene.chance.uniform(0, depth, SIDE // period + 1)
        scene.ground = scene.ground - shades[np.arange(SIDE) // period][:, None, None]

    return draw


def bars(depth: float, period: int) -> Effect:
    """Draw stripes of two shades, aslant."""
    aslant = np.int64((ACROSS + DOWN / 3 + 2) * SIDE / period) % 2
    return lambda scene: setattr(scene, "ground", scene.ground - depth * aslant[..., None])


def wrinkles(depth: float) -> Effect:
    def draw(scene: Scene) -> None:
        rough = blur(scene.chance.uniform(0, 1, (SIDE, SIDE)).round(), 14)
        rough = (rough - rough.mean()) / rough.std()
        scene.ground = scene.ground + depth / 2 * rough[..., None]

    return draw


def weave(deviation: float, grain: int) -> Effect:
    """Draw a rough cloth, of grains some pixels wide, on the ground."""

    def draw(scene: Scene) -> None:
        grains = scene.chance.normal(0, deviation, (SIDE // grain, SIDE // grain))
        scene.ground = scene.ground + np.kron(grains, np.ones((grain, grain)))[..., None]

    return draw


def dust(count: int, colour: Colour) -> Effect:
    def draw(scene: Scene) -> None:
        radii = scene.chance.integers(1, 5, count)
        for (x, y), r in zip(scene.chance.uniform(-0.97, 0.97, (count, 2)), radii, strict=True):
            scene.paint((SIDE * np.hypot(ACROSS - x, DOWN - y) / 2 <= r) * 1.0, colour)

    return draw


def frame(width: int, colour: Colour) -> Effect:
    inside = (width, width, SIDE - width, SIDE - width)
    edge = 1 - draw_shape(lambda pen: pen.rectangle(inside, 255))
    return lambda scene: scene.paint(edge, colour)


def smaller_twin(place: tuple[int, int, int], at: tuple[int, int, int]) -> Effect:
    """Lay the garment that has a place a second time, smaller, at another place."""
    (edge, top, left), (to_edge, to_top, to_left) = place, at
    steps = np.int64(np.arange(to_edge) * edge / to_edge)

    def draw(scene: Scene) -> None:
        for values in (scene.cloth, scene.mask):
            twin = values[top + steps][:, left + steps]
            values[to_top : to_top + to_edge, to_left : to_left + to_edge] = twin

    return draw


def hanger(colour: Colour) -> Effect:
    def draw(pen: ImageDraw.ImageDraw) -> None:
        pen.line((240, 90, 240, 0), 255, 5)
        pen.line((170, 110, 240, 85, 310, 110), 255, 5)

    return lambda scene: scene.paint(draw_shape(draw), colour)


def hand(colour: Colour) -> Effect:
    def draw(pen: ImageDraw.ImageDraw) -> None:
        pen.line((479, 479, 370, 330), 255, 60)
        pen.ellipse((335, 295, 405, 365), 255)

    return lambda scene: scene.paint(draw_shape(draw), colour)


def mark(size: int, colour: Colour) -> Effect:
    """Print a mark on the garment's breast."""
    low, high = (SIDE - size) // 2, (SIDE + size) // 2
    square = draw_shape(lambda pen: pen.rectangle((low, low, high, high), 255))[..., None]

    def draw(scene: Scene) -> None:
        scene.cloth = scene.cloth * (1 - square) + of_three(colour) * square

    return draw


LIGHT, DARK = (0, 255), (255, 0)
ASIDE = (300, 10, 10)
CORNERS = (ACROSS**2 + DOWN**2) / 2
ONE_CORNER = (ACROSS + DOWN + 2) / 4
KINDS = {
    "light on black, as in the data set": Kind(0, LIGHT),
    "dark on white": Kind(255, DARK),
    "dark on white, noise of 6": Kind(255, DARK, noise(6)),
    "dark on white, a soft shadow of 60": Kind(255, DARK, shadow(60)),
    "dark on light grey": Kind(200, (200, 0)),
    "light on mid grey": Kind(110, (110, 255)),
    "dark on white, darker by 40 at the sides": Kind(255, DARK, darker(40, abs(ACROSS))),
    "dark on a carpet, noise of 15": Kind(190, (190, 0), noise(15)),
    "white on light grey": Kind(200, (215, 255)),
    "black on dark grey": Kind(95, (70, 5)),
    "cut out, light as in the data set": Kind(None, LIGHT, file=PNG),
    "cut out, white cloth": Kind(None, (215, 255), file=PNG),
    "cut out, white cloth, shaded": Kind(None, (255, 215), file=PNG),
    "cut out, dark cloth": Kind(None, DARK, file=PNG),
    "cut out, black cloth": Kind(None, (70, 5), file=PNG),
    "cut out, black cloth, lit": Kind(None, (5, 70), file=PNG),
    "cut out, cream cloth": Kind(None, ((225, 205, 180), (255, 245, 225)), file=PNG),
    "cut out, blue cloth": Kind(None, ((200, 215, 255), (10, 25, 90)), file=PNG),
    "cream on white": Kind(255, ((250, 245, 232), (232, 215, 180))),
    "red on a green of the same grey": Kind((60, 150, 60), ((110, 126, 70), (225, 66, 40))),
    "blue on wood": Kind(
        (190, 150, 110), ((190, 190, 220), (20, 30, 90)), stripes(40, 60), noise(6)
    ),
    "dark on a striped table": Kind(225, (225, 0), stripes(50, 40)),
    "dark on a wrinkled sheet": Kind(235, (235, 0), wrinkles(14)),
    "dark on a coarse carpet": Kind(200, (200, 0), weave(15, 4)),
    "light on dark, darker at the corners": Kind(70, (80, 255), darker(45, CORNERS)),
    "dark on white, darker towards a corner": Kind(255, DARK, darker(90, ONE_CORNER)),
    "white with a dark print on grey": Kind(150, (190, 250), mark(50, 40)),
    "dark on white, dust": Kind(255, DARK, dust(6, 60)),
    "white on grey, dust": Kind(170, (190, 255), dust(6, 40)),
    "dark on white, a black frame": Kind(255, DARK, frame(16, 0)),
    "dark on white, a grey frame": Kind(255, DARK, frame(30, 190)),
    "dark on white, a smaller one beside it": Kind(
        255, DARK, smaller_twin(ASIDE, (160, 315, 315)), place=ASIDE
    ),
    "dark on white, on a hanger": Kind(255, DARK, hanger(90)),
    "dark on white, held by a hand": Kind(255, DARK, hand((224, 172, 140))),
    "dark on white, small in a corner": Kind(255, DARK, place=(80, 12, 388)),
    "dark on white, 12 megapixels": Kind(245, (245, 0), noise(4), size=(3464, 3464)),
    "dark on white, 40 by 40": Kind(255, DARK, size=(40, 40)),
    "the image itself, 28 by 28": Kind(0, LIGHT, place=(480, 0, 0), size=(28, 28), file=PNG),
    "dark on white, from edge to edge": Kind(255, DARK, noise(2), place=(470, 5, 5)),
    "grey stripes of two shades": Kind(230, (230, 0), bars(30, 60)),
    "white on white": Kind(250, (244, 205), noise(1.5)),
    "black on black": Kind(12, (20, 60), noise(1.5)),
    "JPEG of quality 30": Kind(235, (215, 20), noise(3), file={"format": "JPEG", "quality": 30}),
}
