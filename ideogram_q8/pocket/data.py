"""The pocket's world: flat posters with a background, a shape and a short word, and the captions that describe them.

Everything is generated, so the data need no download and no licence. All boxes lie on the grid of 16 px latent tokens
(multiples of 125 in caption units of a thousandth): a small model learns a picture made of whole tiles in minutes, and
free placement would need a larger one. What this module does not know: models, training, files.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CANVAS = 128
"""Side of a training picture in pixels."""
TILE = 125
"""Side of one latent token (16 px of 128) in caption units."""
_OVERSAMPLE = 4

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "orange": (247, 140, 30),
    "yellow": (252, 216, 60),
    "green": (46, 160, 67),
    "teal": (38, 190, 190),
    "blue": (40, 84, 204),
    "purple": (134, 60, 176),
    "pink": (247, 150, 196),
    "brown": (116, 72, 40),
    "black": (24, 24, 28),
    "white": (250, 250, 246),
    "grey": (140, 142, 146),
}
MIN_CONTRAST = 140.0
"""Smallest Euclidean RGB distance between the background and what lies on it."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_COMMON = "AEIOURSTLNDCMPBGHKYWFVJXQZ"

TRAIN_WORDS: tuple[str, ...] = tuple(
    "ART BAG BAR BED BEE BIG BOX BUS CAP CAR CAT COW CUP DAY DOG EAR EGG END EYE FAN FLY FOX FUN GAS GYM HAT HEN "
    "HOT ICE INK JAM JAR JET JOB KEY KID LAB LAW LEG MAP MIX MUD NET NEW NUT OAK OIL OWL PEN PIE PIG POT RED RUN "
    "SAD SEA SKY SUN TAX TEA TOY TWO VAN WAX WEB WIN YES ZIP ZOO BABY BANK BELL BIRD BLUE BOAT BOOK CAKE CITY COLD "
    "CORN DEEP DESK DOOR DUCK EASY FAST FIRE FLAG FOOD FROG GAME GIFT GOAL GOLF HAND HARD HIGH HOME IDEA IRON JAZZ "
    "JUMP KIND KITE LAMP LAND LIFE LION LOOK MAIN MEAL MILK MIND MOON NAME NEST NOTE PARK PATH PLAY POND QUIZ RAIN "
    "RICE ROAD ROCK ROSE SALE SALT SHIP SHOE SING SNOW SOUP TALK TAXI TEAM TIME TREE UNIT VIEW WALK WAVE WEST WIND "
    "WOLF WOOD WORK YARD YEAR ZERO ZONE".split()
)
HELD_OUT_WORDS: tuple[str, ...] = tuple(
    "ACE BAT BUY COD DRY FIG GUM HUB JOY KIT LOG MOP NOW OUT PET RIB SIX TOP URN VET WHY YAK BEAR BIKE CAFE COIN "
    "DAWN EAST FISH FORK GATE HERO JOKE KING LEAF MASK NINE OPEN PINK QUAY RUBY SAFE STAR TUNE VASE WINE YOGA ZINC "
    "SHOP MENU HELP STOP LOVE PLAN HUGE".split()
)

Box = tuple[int, int, int, int]
"""(ymin, xmin, ymax, xmax) in thousandths of the canvas, as in Ideogram's captions."""


@dataclass(frozen=True)
class Shape:
    """An object: its noun, its colour's name and its box."""

    noun: str
    colour: str
    bbox: Box


@dataclass(frozen=True)
class Word:
    """Capital letters in equal cells of a box."""

    text: str
    colour: str
    bbox: Box


@dataclass(frozen=True)
class Scene:
    """All that a picture shows. `plain` scenes are captioned with one English sentence and no boxes."""

    background: str
    shape: Shape | None
    word: Word | None
    plain: bool = False


def _polygon(sides: int, phase: float = 0.0, inner: float | None = None) -> list[tuple[float, float]]:
    count = sides * (2 if inner else 1)
    radii = [1.0 if inner is None or i % 2 == 0 else inner for i in range(count)]
    angles = [2 * math.pi * i / count - math.pi / 2 + phase for i in range(count)]
    return [(0.5 + 0.5 * r * math.cos(a), 0.5 + 0.5 * r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def _heart() -> list[tuple[float, float]]:
    points = []
    for i in range(60):
        a = 2 * math.pi * i / 60
        x = 16 * math.sin(a) ** 3
        y = 13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)
        points.append((0.5 + x / 34, 0.46 - y / 33))
    return points


_POLYGONS: dict[str, list[tuple[float, float]]] = {
    "triangle": [(0.5, 0.02), (1.0, 0.96), (0.0, 0.96)],
    "square": [(0.06, 0.06), (0.94, 0.06), (0.94, 0.94), (0.06, 0.94)],
    "diamond": [(0.5, 0.0), (0.92, 0.5), (0.5, 1.0), (0.08, 0.5)],
    "hexagon": _polygon(6, math.pi / 6),
    "star": _polygon(5, inner=0.42),
    "burst": _polygon(12, inner=0.62),
    "heart": _heart(),
    "cross": [
        (0.34, 0.04),
        (0.66, 0.04),
        (0.66, 0.34),
        (0.96, 0.34),
        (0.96, 0.66),
        (0.66, 0.66),
        (0.66, 0.96),
        (0.34, 0.96),
        (0.34, 0.66),
        (0.04, 0.66),
        (0.04, 0.34),
        (0.34, 0.34),
    ],
    "arrow": [(0.02, 0.36), (0.54, 0.36), (0.54, 0.1), (0.98, 0.5), (0.54, 0.9), (0.54, 0.64), (0.02, 0.64)],
    "bolt": [(0.62, 0.0), (0.16, 0.58), (0.46, 0.58), (0.36, 1.0), (0.86, 0.38), (0.54, 0.38)],
    "house": [(0.5, 0.02), (1.0, 0.46), (0.86, 0.46), (0.86, 0.96), (0.14, 0.96), (0.14, 0.46), (0.0, 0.46)],
    "kite": [(0.5, 0.0), (0.86, 0.36), (0.5, 1.0), (0.14, 0.36)],
    "hourglass": [(0.1, 0.04), (0.9, 0.04), (0.58, 0.5), (0.9, 0.96), (0.1, 0.96), (0.42, 0.5)],
    "crown": [(0.04, 0.2), (0.28, 0.52), (0.5, 0.1), (0.72, 0.52), (0.96, 0.2), (0.88, 0.9), (0.12, 0.9)],
    "flag": [(0.1, 0.0), (0.96, 0.3), (0.24, 0.58), (0.24, 1.0), (0.1, 1.0)],
}


def _blob(*ellipses: Box | tuple[float, ...]) -> list[tuple[str, tuple[float, ...], bool]]:
    return [("ellipse", tuple(float(v) for v in e), True) for e in ellipses]


_COMPOSED: dict[str, list[tuple[str, tuple[float, ...], bool]]] = {
    # (primitive, x0 y0 x1 y1 in box units or polygon points, filled or cut out)
    "circle": _blob((0.03, 0.03, 0.97, 0.97)),
    "ring": [("ellipse", (0.02, 0.02, 0.98, 0.98), True), ("ellipse", (0.28, 0.28, 0.72, 0.72), False)],
    "moon": [("ellipse", (0.02, 0.02, 0.98, 0.98), True), ("ellipse", (0.32, -0.04, 1.16, 0.8), False)],
    "cloud": _blob((0.0, 0.4, 0.5, 0.86), (0.5, 0.4, 1.0, 0.86), (0.2, 0.14, 0.8, 0.86)),
    "drop": [("polygon", (0.5, 0.0, 0.84, 0.52, 0.16, 0.52), True), ("ellipse", (0.12, 0.28, 0.88, 1.0), True)],
    "tree": [("polygon", (0.5, 0.0, 0.96, 0.74, 0.04, 0.74), True), ("polygon", (0.4, 0.7, 0.6, 0.7, 0.6, 1.0, 0.4, 1.0), True)],
    "mushroom": [
        ("ellipse", (0.02, 0.04, 0.98, 0.96), True), ("polygon", (0.0, 0.52, 1.0, 0.52, 1.0, 1.0, 0.0, 1.0), False),
        ("polygon", (0.36, 0.5, 0.64, 0.5, 0.68, 0.96, 0.32, 0.96), True),
    ],
    "fish": [("ellipse", (0.0, 0.2, 0.76, 0.8), True), ("polygon", (0.64, 0.5, 1.0, 0.16, 1.0, 0.84), True)],
    "flower": [
        *_blob((0.3, 0.0, 0.7, 0.44), (0.3, 0.56, 0.7, 1.0), (0.0, 0.3, 0.44, 0.7), (0.56, 0.3, 1.0, 0.7)),
        ("ellipse", (0.38, 0.38, 0.62, 0.62), False),
    ],
}  # fmt: skip

NOUNS: tuple[str, ...] = (*_POLYGONS, *_COMPOSED)


@functools.lru_cache(maxsize=256)
def shape_mask(noun: str, height: int, width: int) -> Image.Image:
    """The silhouette of `noun` as an "L" picture of `width` x `height` pixels, 255 inside."""
    size = (width * _OVERSAMPLE, height * _OVERSAMPLE)
    mask = Image.new("L", size, 0)
    draw = ImageDraw.Draw(mask)

    def scaled(values: Sequence[float]) -> list[tuple[float, float]]:
        return [(x * (size[0] - 1), y * (size[1] - 1)) for x, y in zip(values[::2], values[1::2], strict=True)]

    if noun in _POLYGONS:
        draw.polygon(scaled([v for point in _POLYGONS[noun] for v in point]), fill=255)
    else:
        for primitive, values, filled in _COMPOSED[noun]:
            points = scaled(values)
            if primitive == "ellipse":
                draw.ellipse([points[0], points[1]], fill=255 if filled else 0)
            else:
                draw.polygon(points, fill=255 if filled else 0)
    return mask.resize((width, height), Image.Resampling.BOX)


@functools.lru_cache(maxsize=256)
def letter_mask(letter: str, height: int, width: int) -> Image.Image:
    """A bold capital stretched to fill its cell but for a margin (the I keeps its own width); "L", 255 inside."""
    font = ImageFont.load_default(size=160)
    canvas = Image.new("L", (320, 320), 0)
    ImageDraw.Draw(canvas).text((60, 60), letter, fill=255, font=font, stroke_width=7, stroke_fill=255)
    left, top, right, bottom = canvas.getbbox() or (0, 0, 320, 320)
    glyph = canvas.crop((left, top, right, bottom))
    inner_h = height - 4
    inner_w = width - 5 if letter != "I" else max(5, round(inner_h * 0.26))
    mask = Image.new("L", (width, height), 0)
    glyph = glyph.resize((inner_w * _OVERSAMPLE, inner_h * _OVERSAMPLE), Image.Resampling.BICUBIC)
    mask.paste(glyph.resize((inner_w, inner_h), Image.Resampling.BOX), ((width - inner_w) // 2, 2))
    return mask


def pixel_box(bbox: Box, size: int = CANVAS) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) in pixels of a square picture."""
    top, left, bottom, right = (round(v * size / 1000) for v in bbox)
    return top, left, bottom, right


def render(scene: Scene, size: int = CANVAS) -> Image.Image:
    """The picture of a scene: RGB, `size` x `size`."""
    picture = Image.new("RGB", (size, size), COLOURS[scene.background])
    if scene.shape is not None:
        top, left, bottom, right = pixel_box(scene.shape.bbox, size)
        picture.paste(COLOURS[scene.shape.colour], (left, top), shape_mask(scene.shape.noun, bottom - top, right - left))
    if scene.word is not None:
        top, left, bottom, right = pixel_box(scene.word.bbox, size)
        cell = (right - left) / len(scene.word.text)
        for i, letter in enumerate(scene.word.text):
            x0, x1 = round(left + i * cell), round(left + (i + 1) * cell)
            picture.paste(COLOURS[scene.word.colour], (x0, top), letter_mask(letter, bottom - top, x1 - x0))
    return picture


def to_array(picture: Image.Image) -> np.ndarray:
    """uint8 [H, W, 3]."""
    return np.asarray(picture, dtype=np.uint8)


def article(noun: str) -> str:
    """The noun behind its indefinite article."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def caption_value(scene: Scene) -> dict[str, object]:
    """The scene as an Ideogram JSON caption (public `docs/prompting.md` of ideogram-oss/ideogram4), keys in their order."""
    if scene.plain:
        elements: list[dict[str, object]] = []
        sentence = plain_sentence(scene)
        return {
            "high_level_description": sentence,
            "compositional_deconstruction": {"background": "", "elements": elements},
        }
    elements = []
    if scene.word is not None:
        word = scene.word
        elements.append({"type": "text", "bbox": list(word.bbox), "text": word.text, "desc": f"{word.colour} letters"})
    if scene.shape is not None:
        shape = scene.shape
        elements.append({"type": "obj", "bbox": list(shape.bbox), "desc": article(f"{shape.colour} {shape.noun}")})
    return {"compositional_deconstruction": {"background": f"plain {scene.background}", "elements": elements}}


def plain_sentence(scene: Scene) -> str:
    """One English sentence, for people who type a prompt instead of a caption."""
    parts = []
    if scene.shape is not None:
        parts.append(article(f"{scene.shape.colour} {scene.shape.noun}"))
    if scene.word is not None:
        parts.append(f"the word {scene.word.text} in {scene.word.colour}")
    return f"{' and '.join(parts)} on {article(scene.background)} background"


def contrasting(background: str) -> list[str]:
    """Colour names that can be told from `background`."""
    base = np.array(COLOURS[background], dtype=np.float64)
    return [n for n, c in COLOURS.items() if float(np.linalg.norm(np.array(c) - base)) >= MIN_CONTRAST]


PLAIN_SHAPE_BOX: Box = (125, 250, 625, 750)
"""Where the shape of a plain sentence is painted."""
PLAIN_WORD_TOP = 750


def _random_word(rng: random.Random, words: Sequence[str] | None) -> str:
    if words is not None:
        return rng.choice(words)
    if rng.random() < 0.15:
        return rng.choice(TRAIN_WORDS)
    while True:
        pool = LETTERS if rng.random() < 0.7 else _COMMON[:14]
        text = "".join(rng.choice(pool) for _ in range(rng.choice((2, 3, 3, 4, 4, 4))))
        if text not in HELD_OUT_WORDS:
            return text


def sample_scene(
    rng: random.Random, *, words: Sequence[str] | None = None, plain: float = 0.1, need_both: bool = False
) -> Scene:
    """A random scene.

    Args:
        rng: the only source of randomness.
        words: draw words from these; None draws random strings and `TRAIN_WORDS`, never a held-out word.
        plain: share of scenes captioned with a plain sentence and a fixed layout.
        need_both: always place a shape and a word.
    """
    background = rng.choice(list(COLOURS))
    ink = contrasting(background)
    is_plain = rng.random() < plain
    kind = 1.0 if need_both else rng.random()
    with_word, with_shape = kind > 0.15, kind > 0.3 or kind <= 0.15
    word = shape = None
    text_top = None
    if with_word:
        text = _random_word(rng, words)
        columns = 8 - 2 * len(text)
        left = TILE * (columns // 2 if is_plain else rng.randint(0, columns))
        text_top = PLAIN_WORD_TOP if is_plain else TILE * rng.choice((0, 1, 5, 6) if with_shape else range(7))
        bbox = (text_top, left, text_top + 2 * TILE, left + 2 * TILE * len(text))
        word = Word(text, rng.choice(ink), bbox)
    if with_shape:
        side = rng.choice((3, 4))
        if is_plain:
            box = PLAIN_SHAPE_BOX
        else:
            first, last = 0, 8 - side
            if text_top is not None:
                first, last = (text_top // TILE + 2, 8 - side) if text_top < 500 else (0, text_top // TILE - side)
            top, left = TILE * rng.randint(first, last), TILE * rng.randint(0, 8 - side)
            box = (top, left, top + side * TILE, left + side * TILE)
        shape = Shape(rng.choice(NOUNS), rng.choice(ink), box)
    return Scene(background, shape, word, is_plain)


def held_out_scenes(count: int, seed: int = 2026) -> list[Scene]:
    """Scenes for evaluation: a shape and a held-out word each, structured captions."""
    rng = random.Random(f"held-out/{seed}")
    return [sample_scene(rng, words=HELD_OUT_WORDS, plain=0.0, need_both=True) for _ in range(count)]
