"""The world that the tiny model draws: scenes, their captions, their pictures.

A scene is one object, or two with a relation, on a plain or graded background. Everything is drawn from a random.Random, so a seed gives
the same scene, caption and picture on every machine. `HELD_PAIRS` and `HELD_RELATIONS` never occur in training; `held_out_prompts` asks
for nothing else.
"""
import math
import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

COLORS = {
    'red': (220, 40, 40), 'orange': (245, 140, 30), 'yellow': (250, 215, 50), 'green': (50, 165, 70), 'cyan': (60, 200, 215),
    'blue': (45, 85, 215), 'purple': (140, 60, 190), 'pink': (245, 135, 185), 'brown': (130, 80, 45), 'black': (25, 25, 28),
    'gray': (135, 135, 140), 'white': (248, 248, 246),
}
BACKGROUNDS = COLORS | {'light blue': (175, 210, 245), 'light green': (185, 230, 180), 'beige': (238, 224, 196), 'dark blue': (22, 32, 84)}
SHAPES = ['circle', 'square', 'triangle', 'star', 'ring', 'cross', 'heart', 'diamond']
# radius as a part of the picture's shorter side, about, in pictures of 128
SIZES = {'small': 0.12, 'medium': 0.17, 'large': 0.24}
# centre as parts of width and height
POSITIONS = {
    'center': (0.5, 0.5), 'left': (0.25, 0.5), 'right': (0.75, 0.5), 'top': (0.5, 0.25), 'bottom': (0.5, 0.75),
    'top left': (0.25, 0.25), 'top right': (0.75, 0.25), 'bottom left': (0.25, 0.75), 'bottom right': (0.75, 0.75),
}
# of the first object to the second; scenes are kept with the left or upper object first
RELATIONS = ['left of', 'above']

NAMES = list(COLORS)
HELD_PAIRS = {(color, SHAPES[(3 * i + 1) % len(SHAPES)]) for i, color in enumerate(NAMES)}
HELD_RELATIONS = {
    (a, relation, b)
    for i, a in enumerate(SHAPES) for j, b in enumerate(SHAPES) for k, relation in enumerate(RELATIONS)
    if (5 * i + 3 * j + k) % 8 == 0
}
# colours nearer than this are not put on one another
MIN_CONTRAST = 105
# how far each part of a colour may be from its name's
SHADES = 8


@dataclass
class Thing:
    shape: str
    color: str
    size: str


@dataclass
class Scene:
    things: list  # one or two; of two the left or upper one first
    relation: str | None
    position: str | None  # of a single thing, where the caption says one
    background: tuple  # one name, or two for a gradient
    direction: str | None  # of the gradient: 'down' or 'right'
    told_sizes: list  # whether the caption tells the thing's size
    told_background: bool


@lru_cache(maxsize=None)
def stands_out(color, background):
    """Whether a thing of this colour is seen everywhere on the background."""
    first, last = (np.array(BACKGROUNDS[name], float) for name in (background[0], background[-1]))
    return all(math.dist(COLORS[color], first + (last - first) * t) >= MIN_CONTRAST for t in np.linspace(0, 1, 9))


def random_scene(rng, held=False):
    """A scene of the training set; with `held` one with a held-out pair (single things) or a held-out relation (two things)."""
    while True:
        scene = propose(rng)
        pairs = [(thing.color, thing.shape) in HELD_PAIRS for thing in scene.things]
        relation = len(scene.things) == 2 and (scene.things[0].shape, scene.relation, scene.things[1].shape) in HELD_RELATIONS
        if held and (relation if len(scene.things) == 2 else pairs[0]):
            return scene
        if not held and not relation and not any(pairs):
            return scene


def propose(rng):
    graded = rng.random() < 0.3
    while True:
        told_background = rng.random() < 0.75
        names = list(BACKGROUNDS)
        background = (rng.choice(names), rng.choice(names)) if graded else (rng.choice(names),)
        if not told_background and not graded and rng.random() < 0.5:
            background = ('white',)
        if graded and (background[0] == background[1] or math.dist(BACKGROUNDS[background[0]], BACKGROUNDS[background[1]]) < 60):
            continue
        colors = [name for name in NAMES if stands_out(name, background)]
        if len(colors) >= 3:
            break
    count = 1 if rng.random() < 0.45 else 2
    told_sizes = [rng.random() < 0.5 for _ in range(count)]
    things = [Thing(rng.choice(SHAPES), rng.choice(colors), a_size(rng, told)) for told in told_sizes]
    if count == 2:
        while things[0].size == 'large' and things[1].size == 'large':
            for thing, told in zip(things, told_sizes):
                thing.size = a_size(rng, told)
        # mostly two colours, so that the words have to be bound to their things
        if things[0].color == things[1].color and rng.random() < 0.8:
            things[1].color = rng.choice([name for name in colors if name != things[0].color])
    return Scene(
        things, rng.choice(RELATIONS) if count == 2 else None,
        rng.choice(list(POSITIONS)) if count == 1 and rng.random() < 0.5 else None,
        background, rng.choice(['down', 'right']) if graded else None, told_sizes, told_background,
    )


def a_size(rng, told):
    return rng.choice(list(SIZES)) if told else 'medium'


# ---- words

SIZE_WORDS = {'small': ['small', 'small', 'tiny', 'little'], 'medium': ['medium', 'medium sized'], 'large': ['large', 'large', 'big', 'huge']}
SHAPE_WORDS = {'circle': ['circle', 'circle', 'disc', 'dot'], 'cross': ['cross', 'cross', 'plus sign'], 'diamond': ['diamond', 'diamond', 'rhombus']}
COLOR_WORDS = {'gray': ['gray', 'grey'], 'purple': ['purple', 'purple', 'violet'], 'cyan': ['cyan', 'cyan', 'turquoise']}


def thing_words(rng, thing, told_size):
    """'a small red circle'"""
    color = rng.choice(COLOR_WORDS.get(thing.color, [thing.color]))
    shape = rng.choice(SHAPE_WORDS.get(thing.shape, [thing.shape]))
    size = rng.choice(SIZE_WORDS[thing.size]) + ' ' if told_size else ''
    form = rng.random()
    if form < 0.8:
        words = f'{size}{color} {shape}'
    elif form < 0.9:
        words = f'{size}{shape} in {color}'
    else:
        words = f'{color} {size}{shape}'
    article = rng.choice(['a', 'a', 'a', 'a', 'one', 'the', ''])
    if article == 'a' and words[0] in 'aeio':
        article = 'an'
    return f'{article} {words}'.strip()


def position_words(rng, position):
    middle = rng.choice(['center', 'center', 'centre', 'middle'])
    if position == 'center':
        return f'in the {middle}'
    if ' ' in position:
        vertical, horizontal = position.split()
        vertical = rng.choice([vertical, {'top': 'upper', 'bottom': 'lower'}[vertical]])
        return rng.choice([f'in the {vertical} {horizontal} corner', f'in the {vertical} {horizontal}', f'at the {vertical} {horizontal}'])
    if position in ('left', 'right'):
        return rng.choice([f'on the {position}', f'on the {position} side', f'at the {position}'])
    return rng.choice([f'at the {position}', f'at the {position}', f'near the {position}'])


def background_words(rng, scene):
    """'a white background'"""
    word = rng.choice(['background', 'background', 'background', 'backdrop'])
    names = [rng.choice(['grey', 'gray']) if name == 'gray' else name for name in scene.background]
    if len(names) == 1:
        plain = rng.choice(['', '', '', 'plain ', 'solid '])
        return f'a {plain}{names[0]} {word}'
    a, b = names
    if scene.direction == 'down':
        return rng.choice([f'a {word} fading from {a} to {b}', f'a {a} to {b} gradient', f'a gradient from {a} at the top to {b}', f'a vertical gradient from {a} to {b}'])
    return rng.choice([f'a {word} fading from {a} on the left to {b}', f'a horizontal {a} to {b} gradient', f'a horizontal gradient from {a} to {b}', f'a gradient from {a} on the left to {b}'])


def relation_words(rng, relation, a, b):
    """`a` is left of, or above, `b`."""
    if relation == 'left of':
        return rng.choice([
            f'{a} left of {b}', f'{a} to the left of {b}', f'{b} right of {a}', f'{b} to the right of {a}', f'{a} on the left of {b}',
            f'{b} on the right of {a}', f'{a} on the left and {b} on the right', f'{b} on the right and {a} on the left',
        ])
    return rng.choice([
        f'{a} above {b}', f'{a} above {b}', f'{b} below {a}', f'{b} below {a}', f'{a} over {b}', f'{b} under {a}', f'{a} on top of {b}',
        f'{a} at the top and {b} at the bottom', f'{b} at the bottom and {a} at the top',
    ])


def caption(rng, scene):
    things = [thing_words(rng, thing, told) for thing, told in zip(scene.things, scene.told_sizes)]
    if len(things) == 2:
        text = relation_words(rng, scene.relation, *things)
    else:
        text = things[0] + (' ' + position_words(rng, scene.position) if scene.position else '')
    if rng.random() < 0.15:
        text = rng.choice(['a picture of ', 'an image of ', 'a drawing of ', 'draw ', 'there is ']) + text
    if scene.told_background:
        background = background_words(rng, scene)
        form = rng.random()
        if form < 0.75:
            text = f'{text} on {background}'
        elif form < 0.9:
            text = f'{text}, {background}'
        else:
            text = f'{background} with {text}'
    if rng.random() < 0.1:
        text += '.'
    return text


# ---- pictures

def corners(count, outer, inner=None, turn=-90.0):
    """Vertices of a regular polygon, or of a star where `inner` is given, around (0, 0)."""
    steps = count if inner is None else 2 * count
    radii = [outer if inner is None or i % 2 == 0 else inner for i in range(steps)]
    angles = [math.radians(turn + 360 * i / steps) for i in range(steps)]
    return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles)]


def heart():
    points = []
    for i in range(80):
        t = 2 * math.pi * i / 80
        x = 16 * math.sin(t) ** 3
        y = -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t))
        points.append((x * 1.12 / 16, (y + 2.5) * 1.12 / 16))
    return points


# outlines for radius 1; circles and rings are drawn as such
OUTLINES = {
    'square': [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    'triangle': [(x, y + 0.2) for x, y in corners(3, 1.25)],
    'star': corners(5, 1.25, 0.5),
    'cross': [(-0.34, -1.05), (0.34, -1.05), (0.34, -0.34), (1.05, -0.34), (1.05, 0.34), (0.34, 0.34),
              (0.34, 1.05), (-0.34, 1.05), (-0.34, 0.34), (-1.05, 0.34), (-1.05, -0.34), (-0.34, -0.34)],
    'heart': heart(),
    'diamond': [(0, -1.25), (0.95, 0), (0, 1.25), (-0.95, 0)],
}
REACH = 1.3  # no shape reaches farther than this times its radius
OVERSAMPLING = 4
# Radii come from this ladder, in pixels, and centres lie on the corners or (8 pixels on) the middles of the transformer's tokens: a thing of
# a size looks the same in tokens wherever it is.
GRID = 16
RADII = {8: 0, 11: 0, 15: 8, 21: 0, 29: 8}


def radius_of(size, side):
    """Three neighbours of the ladder by the picture's shorter side: what two things find room with. From 128 pixels on they stay as they are."""
    step = sum(side >= least for least in (88, 120))
    return list(RADII)[step + list(SIZES).index(size)]


def on_grid(value, radius, size, grid):
    """The place nearest to `value` where a thing of this radius fits."""
    offset, margin = RADII[radius] % grid, min(REACH * radius, size / 2)
    first, last = math.ceil((margin - offset) / grid), math.floor((size - margin - offset) / grid)
    return offset + grid * min(max(round((value - offset) / grid), first), max(first, last))


def layout(scene, width, height, grid):
    """Centre and radius in pixels of every thing."""
    side = min(width, height)
    radii = [radius_of(thing.size, side) for thing in scene.things]
    if len(radii) == 1:
        fx, fy = POSITIONS[scene.position or 'center']
        centres = [[fx * width, fy * height]]
    else:
        length, across = (width, height) if scene.relation == 'left of' else (height, width)
        reach = [min(REACH * r, 0.5 * side) for r in radii]
        # the free length is shared out: before, between, behind
        free = max(0.0, length - 2 * sum(reach))
        before, between = 0.3 * free, 0.4 * free
        along = [before + reach[0], before + 2 * reach[0] + between + reach[1]]
        centres = [[a, across / 2] if scene.relation == 'left of' else [across / 2, a] for a in along]
    return [(on_grid(x, radius, width, grid), on_grid(y, radius, height, grid), radius) for (x, y), radius in zip(centres, radii)]


@lru_cache(maxsize=None)
def mask(shape, radius):
    """[2 reach, 2 reach], 0 to 1: how much of every pixel the shape around the middle covers."""
    reach = math.ceil(REACH * radius)
    image = Image.new('L', (2 * reach * OVERSAMPLING, 2 * reach * OVERSAMPLING), 0)
    draw = ImageDraw.Draw(image)
    middle, radius = reach * OVERSAMPLING, radius * OVERSAMPLING
    disc = lambda r, fill: draw.ellipse((middle - r, middle - r, middle + r, middle + r), fill=fill)
    if shape in ('circle', 'ring'):
        disc(radius if shape == 'circle' else 1.05 * radius, 255)
        if shape == 'ring':
            disc(0.58 * radius, 0)
    else:
        draw.polygon([(middle + px * radius, middle + py * radius) for px, py in OUTLINES[shape]], fill=255)
    return np.asarray(image.reduce(OVERSAMPLING), np.float32) / 255


def shade(rng, color):
    """What seeds are free to choose: this red or that. Where things stand and how large they are is the caption's, or the middle and medium."""
    return tuple(min(255, max(0, part + rng.uniform(-SHADES, SHADES))) for part in color)


def render(rng, scene, width, height, colors=None, grid=GRID):
    """The picture, [height, width, 3], 0 to 255. `colors` replaces the things' and the background's colours."""
    return render_with_cover(rng, scene, width, height, colors, grid)[0]


def render_with_cover(rng, scene, width, height, colors=None, grid=GRID):
    """The picture, and [height, width] for every thing: how much of each pixel it covers."""
    things = colors[:2] if colors else [shade(rng, COLORS[thing.color]) for thing in scene.things]
    ends = colors[2:] if colors else [shade(rng, BACKGROUNDS[name]) for name in scene.background]
    first, last = (np.array(end, np.float32) for end in (ends[0], ends[len(scene.background) - 1]))
    ramp = np.linspace(0, 1, height if scene.direction == 'down' else width, dtype=np.float32)
    ramp = ramp[:, None, None] if scene.direction == 'down' else ramp[None, :, None]
    picture = np.broadcast_to(first + (last - first) * ramp, (height, width, 3)).copy()
    covers = []
    for thing, color, (x, y, radius) in zip(scene.things, things, layout(scene, width, height, grid)):
        alpha = mask(thing.shape, radius)
        reach = len(alpha) // 2
        x0, x1, y0, y1 = max(0, x - reach), min(width, x + reach), max(0, y - reach), min(height, y + reach)
        alpha = alpha[y0 - y + reach:y1 - y + reach, x0 - x + reach:x1 - x + reach]
        picture[y0:y1, x0:x1] += (np.array(color, np.float32) - picture[y0:y1, x0:x1]) * alpha[:, :, None]
        cover = np.zeros((height, width), np.float32)
        cover[y0:y1, x0:x1] = alpha
        covers.append(cover)
    return picture, covers


def sample(seed, width, height):
    """Scene and picture number `seed` of the training set."""
    rng = random.Random(seed)
    scene = random_scene(rng)
    return scene, render(rng, scene, width, height)


if __name__ == '__main__':
    import sys
    rows = []
    for row in range(6):
        rows.append(np.concatenate([sample(row * 8 + i, 128, 128)[1] for i in range(8)], 1))
        for i in range(8):
            rng = random.Random(row * 8 + i)
            print(caption(rng, random_scene(rng)))
    Image.fromarray(np.concatenate(rows).astype(np.uint8)).save(sys.argv[1] if len(sys.argv) > 1 else 'world.png')
    print(len(HELD_PAIRS), 'held-out pairs,', len(HELD_RELATIONS), 'held-out relations')
