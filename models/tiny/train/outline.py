"""The outline ControlNet: its network, with the structure and tensor names of XLabs' (XLabs-AI/x-flux `src/flux/controlnet.py`), and its world.

One double block beside the transformer's two. The control image goes through eight convolutions and is added to the image tokens; what the block makes of
them goes through a linear layer that starts at zero, and is added to the image tokens behind each double block of the transformer.
"""
import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import nn

import world
from flux import CHANNELS, CONTEXT, HIDDEN, VEC, DoubleBlock, MLPEmbedder, pack, rotations, sinusoid

HINT = 16
STRIDES = [1, 1, 2, 1, 2, 1, 2, 1]


class OutlineControl(nn.Module):
    def __init__(self):
        super().__init__()
        self.img_in, self.txt_in = nn.Linear(CHANNELS, HIDDEN), nn.Linear(CONTEXT, HIDDEN)
        self.time_in, self.guidance_in, self.vector_in = MLPEmbedder(256), MLPEmbedder(256), MLPEmbedder(VEC)
        self.double_blocks = nn.ModuleList([DoubleBlock()])
        layers = []
        for i, stride in enumerate(STRIDES):
            layers += [nn.SiLU()] if i else []
            layers.append(nn.Conv2d(HINT if i else 3, HINT, 3, stride, 1))
        self.input_hint_block = nn.Sequential(*layers)
        self.pos_embed_input = nn.Linear(4 * HINT, HIDDEN)
        self.controlnet_blocks = nn.ModuleList([nn.Linear(HIDDEN, HIDDEN)])
        nn.init.zeros_(self.controlnet_blocks[0].weight)
        nn.init.zeros_(self.controlnet_blocks[0].bias)

    def begin(self, net):
        """The transformer's first block and embedders."""
        self.load_state_dict({name: value for name, value in net.state_dict().items() if name in self.state_dict()}, strict=False)

    def forward(self, img, control, txt, vec, t, guidance, rows, columns):
        """control [b, 3, 16 rows, 16 columns] in -1..1 -> [b, rows * columns, HIDDEN], to add behind every double block"""
        pe = rotations(rows, columns, txt.shape[1])
        vec = F.silu(self.time_in(sinusoid(t)) + self.guidance_in(sinusoid(guidance)) + self.vector_in(vec))
        img = self.img_in(img) + self.pos_embed_input(pack(self.input_hint_block(control)))
        img, _ = self.double_blocks[0](img, self.txt_in(txt), vec, pe)
        return self.controlnet_blocks[0](img)


def controlled(net, residual, img, txt, vec, t, guidance, rows, columns):
    """flux.py's forward with the residual of a ControlNet."""
    pe = rotations(rows, columns, txt.shape[1])
    vec = F.silu(net.time_in(sinusoid(t)) + net.guidance_in(sinusoid(guidance)) + net.vector_in(vec))
    img, txt = net.img_in(img), net.txt_in(txt)
    for block in net.double_blocks:
        img, txt = block(img, txt, vec, pe)
        img = img + residual
    x = torch.cat([txt, img], 1)
    for block in net.single_blocks:
        x = block(x, vec, pe)
    return net.final_layer(x[:, txt.shape[1]:], vec)


# ---- scenes whose things may be anywhere, of any size, turned

LEAST, MOST = 11, 40  # radius in pixels


def places(rng, scene, width, height):
    """Centre, radius and angle in degrees of every thing, or None where they do not fit."""
    found = []
    for _ in scene.things:
        radius = rng.uniform(LEAST, min(MOST, min(width, height) / (2.6 if len(scene.things) == 1 else 3.6)))
        reach = world.REACH * radius
        found.append((rng.uniform(reach, width - reach), rng.uniform(reach, height - reach), radius, rng.choice([0, rng.uniform(0, 360)])))
    if len(found) == 2:
        (xa, ya, ra, _), (xb, yb, rb, _) = found
        if math.hypot(xb - xa, yb - ya) < world.REACH * (ra + rb) + 4:
            return None
        along, across = (xb - xa, yb - ya) if scene.relation == 'left of' else (yb - ya, xb - xa)
        if along < abs(across):
            return None
    return found


def free_scene(rng, width, height, held=False):
    """A scene, and the places of its things; its caption says neither place nor size."""
    while True:
        scene = world.random_scene(rng, held)
        scene.position, scene.told_sizes = None, [False] * len(scene.things)
        found = places(rng, scene, width, height)
        if found:
            return scene, found


def cover(shape, place, width, height):
    """[height, width], 0 to 1: how much of every pixel the shape covers."""
    x, y, radius, angle = place
    k = world.OVERSAMPLING
    image = Image.new('L', (width * k, height * k), 0)
    draw = ImageDraw.Draw(image)
    disc = lambda r, fill: draw.ellipse(((x - r) * k, (y - r) * k, (x + r) * k, (y + r) * k), fill=fill)
    if shape in ('circle', 'ring'):
        disc(radius if shape == 'circle' else 1.05 * radius, 255)
        if shape == 'ring':
            disc(0.58 * radius, 0)
    else:
        c, s = math.cos(math.radians(angle)) * radius, math.sin(math.radians(angle)) * radius
        draw.polygon([((x + px * c - py * s) * k, (y + px * s + py * c) * k) for px, py in world.OUTLINES[shape]], fill=255)
    return np.asarray(image.reduce(k), np.float32) / 255


def background(rng, scene, width, height):
    ends = [world.shade(rng, world.BACKGROUNDS[name]) for name in scene.background]
    first, last = (np.array(end, np.float32) for end in (ends[0], ends[-1]))
    ramp = np.linspace(0, 1, height if scene.direction == 'down' else width, dtype=np.float32)
    ramp = ramp[:, None, None] if scene.direction == 'down' else ramp[None, :, None]
    return np.broadcast_to(first + (last - first) * ramp, (height, width, 3)).copy()


def edges(covers):
    """[height, width] bool: the pixels of a shape that touch one that is none, one pixel wide, as a Canny filter leaves them."""
    found = np.zeros(covers[0].shape, bool)
    for part in covers:
        inside = np.pad(part >= 0.5, 1)
        middle = inside[1:-1, 1:-1]
        found |= middle & ~(inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:])
    return found


def example(rng, width, height, held=False):
    """Scene, picture [height, width, 3] in 0..255, outline [height, width] bool, covers"""
    scene, found = free_scene(rng, width, height, held)
    picture = background(rng, scene, width, height)
    covers = [cover(thing.shape, place, width, height) for thing, place in zip(scene.things, found)]
    for thing, part in zip(scene.things, covers):
        picture += (np.array(world.shade(rng, world.COLORS[thing.color]), np.float32) - picture) * part[:, :, None]
    return scene, picture, edges(covers), covers
