"""What ComfyUI makes of weights in prompts: python3 make.py <checkout of comfyanonymous/ComfyUI> > expected.json

Runs `comfy/sd1_clip.py` of the checkout as it is, with numpy in place of torch, and with tokenizers that look texts up
in the expected ids beside this folder (by OpenAI's program and sentencepiece) in place of transformers'.
"""
import importlib.util
import json
import pathlib
import sys
import types

import numpy as np

GOLDEN = pathlib.Path(__file__).resolve().parent.parent


class Array(np.ndarray):
    def to(self, device):
        return self


def stub(name, **members):
    module = types.ModuleType(name)
    module.__dict__.update(members)
    sys.modules[name] = module
    return module


def load(checkout):
    torch = stub('torch', cat=lambda arrays, dim: np.concatenate(arrays, axis=dim).view(Array), Tensor=np.ndarray)
    torch.nn = stub('torch.nn', Module=type('Module', (), {}))
    stub('transformers', CLIPTokenizer=None)
    comfy = stub('comfy', __path__=[])
    for name in ('ops', 'clip_model'):
        setattr(comfy, name, stub(f'comfy.{name}', CLIPTextModel=None))
    comfy.model_management = stub('comfy.model_management', intermediate_device=lambda: 'cpu')
    spec = importlib.util.spec_from_file_location('comfy.sd1_clip', f'{checkout}/comfy/sd1_clip.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules['comfy.sd1_clip'] = module
    spec.loader.exec_module(module)
    return module


def lookup(folder, begin, end):
    """A tokenizer as transformers': it knows the texts of expected.json, and adds begin and end."""
    cases = json.loads((GOLDEN / folder / 'expected.json').read_text())['cases']
    known = {' '.join(case['text'].split()): case['ids'] for case in cases}

    class Lookup:
        @classmethod
        def from_pretrained(cls, path):
            return cls()

        def __call__(self, text):
            return {'input_ids': begin + known[' '.join(text.split())] + [end]}

        def get_vocab(self):
            return {}

    return Lookup


PARSED = [
    'a red circle',
    'a (red) circle',
    'a (red:1.3) circle',
    'a ((red)) circle',
    'a (((red))) circle',
    '((red):1.5) circle',
    '(a (red:1.3) circle:0.5) on white',
    '(a (red) circle:2) on white',
    'a (red circle:-0.5)',
    'a (red circle:1.2) (blue square:0.8)(green star)',
    '(:1.5) none',
    '(a:b:1.5)',
    '(time 12:30)',
    '(ratio 16:9 )',
    '(a: 1.25 )',
    '(a:+.5) (b:5.) (c:1e1) (d:1_0)',
    '(a:1.2.3) (b:) (c:x)',
    'a \\(red\\) circle',
    'a (red \\(dark\\):1.4) circle',
    'a \\\\(red:1.3) circle',
    '() ( ) (())',
    '',
    ' ',
    'a (red circle',
    'a red) circle',
    'a) (red:1.5) circle',
    'a) ((red:1.5)) circle',
    '(a(red)',
    '(a) red)',
    '((a)',
    'a (red\ncircle:1.3)\nwhite',
]

# Of texts whose ids are known.
FOX = '(the quick brown fox jumps over the lazy dog:1.1)'  # 15 tokens
CLIP = [
    'A  RED circle',
    'a (A  RED circle:1.3) x',
    '(a photo of a cat holding a sign that says hello world:1.2) (two blue squares above a green star:0.7)',
    ' '.join(5 * [FOX]),  # a full chunk
    ' '.join(4 * [FOX]) + ' (a photo of a cat holding a sign that says hello world:0.7)',  # a long part is cut in two
    ' '.join(4 * [FOX]) + ' (two blue squares above a green star:0.7) (A  RED circle:1.2)',  # a short one is not
    ' '.join(4 * [FOX]) + ' (two blue squares above a green star:0.7) (a:1.2) (x:0.5) (A  RED circle:1.4)',
    '((supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis)) '
    + ' '.join(8 * ['(a photo of a cat holding a sign that says hello world:1.1)']),
]
T5 = [
    'a photo of a cat',
    '(a photo of a cat:1.3)',
    '(a red circle on a blue background:1.2) a photo of a cat ((x)) (A cat holding a sign that says hello world:0.6)',
]


def main(checkout):
    comfy = load(checkout)

    def parse(prompt):
        parts = comfy.token_weights(comfy.escape_important(prompt), 1.0)
        return [[comfy.unescape_important(text), weight] for text, weight in parts]

    clip_class = lookup('clip-bpe-1k', [912], 913)
    clip = comfy.SDTokenizer(GOLDEN, tokenizer_class=clip_class)
    t5_class = lookup('t5-unigram-2k', [], 1)
    t5 = comfy.SDTokenizer(
        GOLDEN, tokenizer_class=t5_class, has_start_token=False, pad_with_end=False, pad_to_max_length=False,
        max_length=99999999, min_length=256, embedding_key='t5xxl')

    class Encoder(comfy.ClipTokenWeightEncoder):
        special_tokens = {'end': 1, 'pad': 0}

        def encode(self, batches):
            self.seen = np.array(batches)
            self.states = np.sin(np.arange(len(batches) * 6 * 4).reshape(len(batches), 6, 4) * 0.7).astype(np.float32)
            return self.states.copy().view(Array), self.states[:, 0].copy().view(Array)

    encoder = Encoder()
    pairs = [(5, 1.0), (6, 1.3), (7, 0.5), (8, -2.0), (1, 1.0), (0, 1.0)]
    weighted, pooled = encoder.encode_token_weights([pairs])
    applied = {
        'weights': [weight for _, weight in pairs],
        'empty_ids': encoder.seen[1].tolist(),
        'states': encoder.states[0].ravel().tolist(),
        'empty': encoder.states[1].ravel().tolist(),
        'expected': np.asarray(weighted).ravel().tolist(),
        'pooled_is_unweighted': bool((np.asarray(pooled) == encoder.states[0, 0]).all()),
    }
    split = lambda batches: [[[int(i) for i, _ in batch], [w for _, w in batch]] for batch in batches]
    print(json.dumps({
        'parsed': [{'prompt': p, 'parts': parse(p)} for p in PARSED],
        'clip': [{'prompt': p, 'chunks': split(clip.tokenize_with_weights(p))} for p in CLIP],
        't5': [{'prompt': p, 'chunks': split(t5.tokenize_with_weights(p))} for p in T5],
        'applied': applied,
    }, separators=(',', ':')))


main(sys.argv[1])
