"""Makes both tokenizers from captions of the training set: a unigram `spiece.model` as T5's, `vocab.json` and `merges.txt` as CLIP's."""
import collections
import json
import random
import re
import string

import sentencepiece

import world
from common import work

CAPTIONS = 40_000
T5_PIECES = 512
CLIP_MERGES = 512


def captions():
    rng = random.Random('captions')
    return [world.caption(rng, world.random_scene(rng)) for _ in range(CAPTIONS)]


def train_unigram(texts):
    # each printable character a few times, so that any English text has pieces
    alphabet = [' '.join(string.printable[:94])] * 20
    # sentencepiece takes a whole word for a piece only if it meets it inside another word, too
    words = sorted({word for text in texts for word in re.findall('[a-z]+', text)})
    with open(work('captions.txt'), 'w') as file:
        file.write('\n'.join(texts + alphabet + [f'{word}s {word}.' for word in words]))
    sentencepiece.SentencePieceTrainer.train(
        input=work('captions.txt'), model_prefix=work('spiece'), model_type='unigram', vocab_size=T5_PIECES, hard_vocab_limit=False,
        character_coverage=1.0, normalization_rule_name='nmt_nfkc_cf', pad_id=0, eos_id=1, unk_id=2, bos_id=-1, num_threads=1,
        shuffle_input_sentence=False, minloglevel=1,
    )


def byte_symbols():
    """One printable character for each byte, in the order of OpenAI's vocabulary: printable bytes first."""
    plain = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {**{byte: chr(byte) for byte in plain}, **{byte: chr(256 + i) for i, byte in enumerate(rest)}}


def train_pairs(texts):
    """Byte-pair encoding: the commonest pair of neighbours becomes one symbol, again and again; ties go to the first in order."""
    symbols = byte_symbols()
    counts = collections.Counter(word for text in texts for word in WORD.findall(text.lower()))
    words = {word: [symbols[byte] for byte in word.encode()] for word in counts}
    for parts in words.values():
        parts[-1] += '</w>'
    merges = []
    while len(merges) < CLIP_MERGES:
        pairs = collections.Counter()
        for word, parts in words.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for parts in words.values():
            merge(parts, best)
    names = [*symbols.values(), *(s + '</w>' for s in symbols.values()), *(a + b for a, b in merges), '<|startoftext|>', '<|endoftext|>']
    with open(work('vocab.json'), 'w') as file:
        json.dump({name: i for i, name in enumerate(names)}, file, ensure_ascii=False)
    with open(work('merges.txt'), 'w') as file:
        file.write('#version: 0.2\n' + ''.join(f'{a} {b}\n' for a, b in merges))


WORD = re.compile(r"[a-z]+|[0-9]|[^\sa-z0-9]+")


def merge(parts, pair):
    """Joins `pair` in `parts`, in place."""
    i = 0
    while i < len(parts) - 1:
        if (parts[i], parts[i + 1]) == pair:
            parts[i:i + 2] = [pair[0] + pair[1]]
        i += 1


class T5Tokenizer:
    def __init__(self):
        self.processor = sentencepiece.SentencePieceProcessor(model_file=work('spiece.model'))
        self.size = self.processor.vocab_size()

    def __call__(self, text, length):
        """Ids, the end token, padding; cut off to `length`."""
        ids = self.processor.encode(text)[:length - 1] + [1]
        return ids + [0] * (length - len(ids))


class ClipTokenizer:
    def __init__(self):
        self.vocab = json.load(open(work('vocab.json')))
        self.merges = [tuple(line.split(' ')) for line in open(work('merges.txt')).read().split('\n')[1:] if line]
        self.symbols = byte_symbols()
        self.size = len(self.vocab)
        self.end = self.vocab['<|endoftext|>']
        self.words = {}

    def word(self, word):
        if word not in self.words:
            parts = [self.symbols[byte] for byte in word.encode()]
            parts[-1] += '</w>'
            for pair in self.merges:
                merge(parts, pair)
            self.words[word] = [self.vocab[part] for part in parts]
        return self.words[word]

    def __call__(self, text):
        """Begin, ids, end; at most 77."""
        ids = [id for word in WORD.findall(text.lower()) for id in self.word(word)]
        return [self.vocab['<|startoftext|>'], *ids[:75], self.end]


if __name__ == '__main__':
    texts = captions()
    train_unigram(texts)
    train_pairs(texts)
    t5, clip = T5Tokenizer(), ClipTokenizer()
    lengths = [len(t5.processor.encode(text)) + 1 for text in texts]
    print('T5:', t5.size, 'pieces, longest caption', max(lengths), 'mean', sum(lengths) / len(lengths))
    print('CLIP:', clip.size, 'symbols, longest caption', max(len(clip(text)) for text in texts[:2000]))
    print(sorted(lengths)[-400::50])
