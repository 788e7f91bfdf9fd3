"""Writes the outline ControlNet as F32 safetensors with the official names, for `ggflux convert` (README.md).

    python3 export_outline.py
"""
import os

import torch

from common import work
from export import write_safetensors

SCALE = 0.7  # of a ControlNet, where none is given; it was trained at 1

if __name__ == '__main__':
    os.makedirs(work('export'), exist_ok=True)
    state = torch.load(work('outline.pt'))
    write_safetensors(
        work('export/outline.safetensors'),
        {name: value / SCALE if name.startswith('controlnet_blocks.') else value for name, value in state.items()},
    )
