"""The shipped model, for training on top of it: its transformer, and embeddings of captions by its text encoders."""
import json
import os
import subprocess

import numpy as np
import torch

from common import HERE, work
from flux import CONTEXT, VEC, Flux

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
    """The transformer with the shipped, quantised, weights, frozen; txt [n, TEXT, CONTEXT] and vec [n, VEC] of the texts, mapped."""
    with open(work('captions.json'), 'w') as file:
        json.dump(texts, file)
    subprocess.run(['node', os.path.join(HERE, 'embed.mjs')], check=True)
    net = Flux()
    net.load_state_dict(read_safetensors(work('transformer.safetensors')))
    net.requires_grad_(False)
    rows = np.memmap(work('captions.f32'), np.float32, 'r').reshape(len(texts), TEXT * CONTEXT + VEC)
    return net, rows[:, :TEXT * CONTEXT].reshape(-1, TEXT, CONTEXT), rows[:, TEXT * CONTEXT:]
