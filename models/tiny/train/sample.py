"""A sheet of samples, to look at while the model trains.

    python3 sample.py flux.pt|guided.pt sheet.png [steps] [guidance] [classifier-free guidance]
"""
import math
import os
import random
import sys

import numpy as np
import torch
from PIL import Image

import fast_flux
import world
from autoencoder import Autoencoder
from common import start, work
from flux import Flux, unpack
from latents import Basis
from train_flux import Captions


def sigmas(steps, tokens):
    """FLUX.1-dev's: equal distances, shifted by the number of tokens (`src/flux/sampling.py`)."""
    shift = math.exp(0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256))
    return [shift / (shift + 1 / t - 1) if t else 0.0 for t in np.linspace(1, 0, steps + 1)]


@torch.no_grad()
def sample(net, decode, captions, texts, rows, columns, steps, guidance, true_guidance=1.0, seed=0):
    """uint8 [b, 16 rows, 16 columns, 3]"""
    x = torch.randn(len(texts), rows * columns, 64, generator=torch.Generator().manual_seed(seed))
    (txt, vec), (no_txt, no_vec) = captions(texts), captions([''] * len(texts))
    levels = sigmas(steps, rows * columns)
    for now, then in zip(levels, levels[1:]):
        t, g = torch.full((len(texts),), now), torch.full((len(texts),), guidance)
        v = fast_flux.forward(net, x, txt, vec, t, g, rows, columns)
        if true_guidance != 1:
            without = fast_flux.forward(net, x, no_txt, no_vec, t, g, rows, columns)
            v = without + true_guidance * (v - without)
        x = x + (then - now) * v
    return decode(unpack(x, rows, columns)).clip(0, 255).astype(np.uint8)


def decoder():
    """Latents -> [b, height, width, 3], 0 to 255: the autoencoder's where it is trained, the linear one until then."""
    if not os.path.exists(work('autoencoder.pt')):
        return Basis().decode
    autoencoder = Autoencoder()
    autoencoder.load_state_dict(torch.load(work('autoencoder.pt')))
    return lambda latents: autoencoder.decode(latents).add(1).mul(127.5).permute(0, 2, 3, 1).numpy()


def main():
    file, target, steps, guidance, true_guidance = (sys.argv[1:] + ['8', '3.5', '1'][len(sys.argv) - 3:])[:5]
    start(2)
    net, captions = Flux(), Captions()
    net.load_state_dict(torch.load(work(file)))
    rng = random.Random('sheet')
    texts = [world.caption(rng, world.random_scene(rng, held=True)) for _ in range(32)]
    pictures = sample(net, decoder(), captions, texts, 8, 8, int(steps), float(guidance), float(true_guidance))
    Image.fromarray(pictures.reshape(4, 8, 128, 128, 3).transpose(0, 2, 1, 3, 4).reshape(512, 1024, 3)).save(target)
    print('\n'.join(texts))


if __name__ == '__main__':
    main()
