"""Tokenizers of other libraries, trained on a few lines."""

import io

LINES = [
    "The cat sat on the mat, and the naïve cat purred.",
    "  Lower, lowest and lowered: the lower the better  ",
    "It isn't so, he said; the café was closed.",
    "",
    "Übermut tut selten gut — 3.14 is not 22/7",
]
TEXT = "\n".join(LINES) + "\n"


def byte_pairs(tokenizers, n_pieces=330):
    """Byte pair encoding that truncates, pads and adds a token at the beginning, if it is let."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=n_pieces, initial_alphabet=alphabet, special_tokens=["<s>"], show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    start = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", None, [("<s>", start)])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(pad_id=start, pad_token="<s>")
    return tokenizer


def word_pieces(tokenizers):
    """Word pieces, which know few characters and join words with single spaces."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=120, limit_alphabet=30, special_tokens=["[UNK]", "[CLS]"], show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer


def sentence_pieces(sentencepiece, **settings):
    """Unigram pieces of sentencepiece."""
    model = io.BytesIO()
    defaults = {"model_type": "unigram", "vocab_size": 75, "character_coverage": 0.98, "minloglevel": 2}
    defaults["hard_vocab_limit"] = False
    lines = [line for line in LINES if line] * 4
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, **{**defaults, **settings}
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


class Letters:
    """A tokenizer that nobody knows: the numbers of letters, with ``encode(text).ids``."""

    class Found:
        def __init__(self, ids):
            self.ids = ids

    def encode(self, text):
        return self.Found([ord(letter) for letter in text])

    def decode(self, ids):
        return "".join(map(chr, ids))


class Callable:
    """The same with ``tokenizer(text)["input_ids"]``."""

    def __call__(self, text):
        return {"input_ids": Letters().encode(text).ids}

    def decode(self, ids):
        return Letters().decode(ids)
