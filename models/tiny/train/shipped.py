"""The shipped model, for training on top of it: its transformer, and embeddings of captions by its text encoders."""
import json
import os
import subprocess

import numpy as np
import torch

import world
from common import HERE, work
from flux import CONTEXT, VEC, Flux
from latents import Basis

TEXT = 32  # tokens of T5


def read_safetensors(path):
    """F32 files only"""
    data = np.memmap(path, np.uint8, 'r')
    length = int(data[:8].view(np.uint64)[0])
    header = json.loads(bytes(data[8:8 + length]))
    start = 8 + length
    tensors = {}
    for name, entry in header.items():
        if name != '__metadata__':
            first, last = entry['data_offsets']
            tensors[name] = torch.from_numpy(data[start + first:start + last].view(np.float32).reshape(entry['shape']).copy())
    return tensors


def shipped(texts):
    """The transformer with the shipped, quantised, weights, frozen; the basis of its latents; txt [n, TEXT, CONTEXT] and vec [n, VEC] of the texts, mapped."""
    with open(work('captions.json'), 'w') as file:
        json.dump(texts, file)
    pictures = np.stack([world.sample(i, 128, 128)[1] for i in range(16)])
    (pictures.transpose(0, 3, 1, 2) / 127.5 - 1).astype(np.float32).tofile(work('pictures.f32'))
    subprocess.run(['node', os.path.join(HERE, 'embed.mjs')], check=True)
    net = Flux()
    net.load_state_dict(read_safetensors(work('transformer.safetensors')))
    net.requires_grad_(False)
    rows = np.memmap(work('captions.f32'), np.float32, 'r').reshape(len(texts), TEXT * CONTEXT + VEC)
    return net, as_shipped(Basis(), pictures), rows[:, :TEXT * CONTEXT].reshape(-1, TEXT, CONTEXT), rows[:, TEXT * CONTEXT:]


def as_shipped(basis, pictures):
    """The signs of principal components, and the order of those of equal variance, differ between machines: takes those of the shipped encoder."""
    wanted = np.fromfile(work('latents.f32'), np.float32).reshape(len(pictures), 16, 16, 16).transpose(1, 0, 2, 3).reshape(16, -1)
    found = basis.encode(pictures).numpy().transpose(1, 0, 2, 3).reshape(16, -1)
    correlation = np.corrcoef(wanted, found)[:16, 16:]
    order = np.abs(correlation).argmax(1)
    signs = np.sign(correlation[range(16), order]).astype(np.float32)
    assert sorted(order) == list(range(16)) and np.abs(correlation).max(1).min() > 0.98, 'these are not the latents of the shipped model'
    basis.forward, basis.backward = basis.forward[:, order] * signs, basis.backward[order] * signs[:, None]
    error = np.linalg.norm(signs[:, None] * found[order] - wanted) / np.linalg.norm(wanted)
    print(f'latents by the basis and by the encoder differ by {100 * error:.1f} %')
    return basis
