"""What the 16 latent channels mean: the principal components of 8 x 8 pixels, scaled so that edges count.

The transformer learns to draw these, the encoder learns to compute them, the decoder learns to draw sharp pictures from them, noise and
all. Linear latents need no encoder while the transformer trains: pictures are drawn, and projected, as they are needed.

    python3 latents.py    # writes basis.pt
"""
import random

import numpy as np
import torch

import world
from common import save, start, work

CHANNELS, CELL = 16, 8
# spread of a channel over the cells that hold an edge: the colour itself, its slopes, what is finer
SPREADS = [1.0] * 3 + [0.8] * 6 + [0.55] * 7
SIDES = [(64, 64), (96, 96), (128, 128), (128, 128), (192, 192), (256, 256)]


def cells(pictures):
    """[b, height, width, 3], 0 to 255 -> [b, height / 8, width / 8, 192], -1 to 1"""
    b, height, width, _ = pictures.shape
    split = pictures.reshape(b, height // CELL, CELL, width // CELL, CELL, 3).transpose(0, 1, 3, 2, 4, 5)
    return split.reshape(b, height // CELL, width // CELL, 3 * CELL * CELL) / 127.5 - 1


class Basis:
    def __init__(self):
        state = torch.load(work('basis.pt'))
        self.mean, self.forward, self.backward = (state[name].numpy() for name in ('mean', 'forward', 'backward'))

    def encode(self, pictures):
        """[b, height, width, 3], 0 to 255 -> float32 [b, 16, height / 8, width / 8]"""
        return torch.from_numpy(((cells(pictures) - self.mean) @ self.forward).transpose(0, 3, 1, 2).copy())

    def decode(self, latents):
        """The nearest picture that is linear in the latents: the right colours, soft edges."""
        found = latents.permute(0, 2, 3, 1).numpy() @ self.backward + self.mean
        b, rows, columns, _ = found.shape
        pictures = found.reshape(b, rows, columns, CELL, CELL, 3).transpose(0, 1, 3, 2, 4, 5)
        return (pictures.reshape(b, rows * CELL, columns * CELL, 3) + 1) * 127.5


def main():
    start(6)
    rng, found = random.Random('basis'), []
    for height, width in SIDES:
        pictures = np.stack([world.render(rng, world.random_scene(rng), width, height) for _ in range(600 * 64 * 64 // (height * width) + 40)])
        found.append(cells(pictures).reshape(-1, 3 * CELL * CELL))
    found = np.concatenate(found)
    mean = found.mean(0)
    values, vectors = np.linalg.eigh(np.cov((found - mean).T))
    vectors = vectors[:, ::-1][:, :CHANNELS]
    edges = found[found.reshape(len(found), CELL * CELL, 3).std(1).max(1) > 0.1]
    spread = ((edges - mean) @ vectors).std(0)
    scale = np.array(SPREADS) / spread
    print('share of the variance', values[::-1][:CHANNELS].sum() / values.sum(), 'cells with edges', len(edges) / len(found))
    print('spreads', spread.round(3), 'over all cells', (((found - mean) @ vectors).std(0) * scale).round(3))
    save('basis.pt', {'mean': torch.from_numpy(mean).float(), 'forward': torch.from_numpy(vectors * scale).float(),
                      'backward': torch.from_numpy((vectors / scale).T.copy()).float()})


if __name__ == '__main__':
    main()
