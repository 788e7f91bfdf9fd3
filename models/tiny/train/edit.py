"""Edits: a picture, what to change about it in words, and the picture after that; and low-rank weights beside the transformer's that learn it."""
import numpy as np
import torch
from torch import nn

import world
from flux import AXES, F, rotations, sinusoid
from outline import background, cover, free_scene

RANK = 24
# share of the scenes with things anywhere, of any size, as those of outline.py
FREE = 0.2


# ---- words and pictures

def named(rng, thing, told_color):
    shape = rng.choice(world.SHAPE_WORDS.get(thing.shape, [thing.shape]))
    return f'the {color_word(rng, thing.color)} {shape}' if told_color else f'the {shape}'


def color_word(rng, color):
    return rng.choice(world.COLOR_WORDS.get(color, [color]))


def proposed(rng, scene):
    """The words, and the things and background afterwards; None where the scene has no such edit."""
    kind = rng.choices(['color', 'shape', 'background'], [0.5, 0.25, 0.25])[0]
    if kind == 'background':
        name = rng.choice([name for name in world.BACKGROUNDS if (name,) != scene.background])
        if not all(world.stands_out(thing.color, (name,)) for thing in scene.things):
            return None
        word = color_word(rng, name)
        words = rng.choice([f'make the background {word}', f'make the background {word}', f'change the background to {word}', f'a {word} background'])
        return words, scene.things, (name,)
    which = rng.randrange(len(scene.things))
    thing = scene.things[which]
    same = sum(other.shape == thing.shape for other in scene.things) > 1
    if same and sum(other.color == thing.color for other in scene.things) > 1:
        return None
    name = named(rng, thing, same or rng.random() < 0.3)
    if kind == 'color':
        colors = [color for color in world.COLORS if color != thing.color and world.stands_out(color, scene.background)]
        if not colors:
            return None
        changed = world.Thing(thing.shape, rng.choice(colors), thing.size)
        word = color_word(rng, changed.color)
        words = rng.choice([f'make {name} {word}', f'make {name} {word}', f'turn {name} {word}', f'paint {name} {word}', f'change {name} to {word}'])
    else:
        changed = world.Thing(rng.choice([shape for shape in world.SHAPES if shape != thing.shape]), thing.color, thing.size)
        shape = rng.choice(world.SHAPE_WORDS.get(changed.shape, [changed.shape]))
        words = rng.choice([f'turn {name} into a {shape}', f'turn {name} into a {shape}', f'replace {name} with a {shape}', f'make {name} a {shape}'])
    things = [changed if i == which else other for i, other in enumerate(scene.things)]
    return words, things, scene.background


def allowed(things, relation):
    pairs = any((thing.color, thing.shape) in world.HELD_PAIRS for thing in things)
    return not pairs and not (len(things) == 2 and (things[0].shape, relation, things[1].shape) in world.HELD_RELATIONS)


def example(rng, width, height):
    """Words, picture before and after [height, width, 3] in 0..255. What is not changed keeps its shade."""
    while True:
        scene, places = (free_scene if rng.random() < FREE else usual_scene)(rng, width, height)
        places = [(x, y, radius, 0) for x, y, radius, _ in places]  # a square that stands on a corner would be called a diamond
        proposal = proposed(rng, scene)
        if proposal and allowed(proposal[1], scene.relation):
            break
    words, things, ground = proposal
    if rng.random() < 0.1:
        words += '.'
    before = background(rng, scene, width, height)
    after = before.copy()
    if ground != scene.background:
        scene.background = ground
        after = background(rng, scene, width, height)
    for old, new, place in zip(scene.things, things, places):
        color = world.shade(rng, world.COLORS[old.color])
        paint(before, old.shape, color, place)
        paint(after, new.shape, color if new.color == old.color else world.shade(rng, world.COLORS[new.color]), place)
    return words, before, after


def usual_scene(rng, width, height):
    """A scene with its things where the transformer has learned to draw them."""
    scene = world.random_scene(rng)
    for thing in scene.things:
        thing.size = rng.choice(list(world.SIZES))
    scene.position = rng.choice(list(world.POSITIONS)) if len(scene.things) == 1 else None
    return scene, [(*place, 0) for place in world.layout(scene, width, height, world.GRID)]


def paint(picture, shape, color, place):
    height, width, _ = picture.shape
    picture += (np.array(color, np.float32) - picture) * cover(shape, place, width, height)[:, :, None]


# ---- weights

class LowRank(nn.Module):
    """A frozen linear layer with up @ down beside it; up starts at zero."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.down = nn.Parameter(torch.randn(RANK, layer.in_features) * layer.in_features ** -0.5)
        self.up = nn.Parameter(torch.zeros(layer.out_features, RANK))

    def forward(self, x):
        return self.layer(x) + (x @ self.down.T) @ self.up.T


def adapt(net):
    """Puts LowRank around every linear layer of the blocks except the modulations; returns them by their layer's name."""
    found = {}
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.Linear) and '_blocks.' in name and not name.endswith('.lin'):
            parent = net.get_submodule(name.rpartition('.')[0])
            found[name] = LowRank(module)
            setattr(parent, name.rpartition('.')[2], found[name])
    return found


def positions(rows, columns, text):
    """Rotations of text, picture and, at index 1, reference."""
    cos, sin = rotations(rows, columns, text)
    turn = 10000.0 ** (-torch.arange(0, AXES[0], 2) / AXES[0])  # the angles of index 1; the picture's are 0
    reference = [part[text:].clone() for part in (cos, sin)]
    reference[0][:, :len(turn)], reference[1][:, :len(turn)] = turn.cos(), turn.sin()
    return tuple(torch.cat(pair) for pair in zip((cos, sin), reference))


def edited(net, img, reference, txt, vec, t, guidance, rows, columns):
    """flux.py's forward with the tokens of a reference image behind the picture's, as FLUX.1-Kontext has them."""
    pe, text, n = positions(rows, columns, txt.shape[1]), txt.shape[1], img.shape[1]
    vec = F.silu(net.time_in(sinusoid(t)) + net.guidance_in(sinusoid(guidance)) + net.vector_in(vec))
    img, txt = net.img_in(torch.cat([img, reference], 1)), net.txt_in(txt)
    for block in net.double_blocks:
        img, txt = block(img, txt, vec, pe)
    x = torch.cat([txt, img], 1)
    for block in net.single_blocks:
        x = block(x, vec, pe)
    return net.final_layer(x[:, text:text + n], vec)
