"""Text as token ids: tokenizers, vocabularies and corpora that are read file by file.

``tokenizers.py`` splits text and joins it again, ``subwords.py`` takes tokenizers of other libraries, ``vocabulary.py``
numbers the types, ``reading.py`` and ``compressed.py`` turn files into blocks of text, ``corpus.py`` puts them
together, and ``encoding.py`` makes ids and vocabulary in one reading. ``surprisal.py`` and ``words.py`` are about text
that a model has read. May import ``saffu.utils``. Read ``corpus.py`` first.
"""

from saffu.text.corpus import Chunk, Corpus
from saffu.text.encoding import EncodedCorpus
from saffu.text.reading import STANDARD_INPUT
from saffu.text.special import UNKNOWN
from saffu.text.subwords import SubwordTokenizer
from saffu.text.tokenizers import (
    DOCUMENTS,
    TOKENIZERS,
    Joiner,
    default_documents,
    default_min_count,
    detokenize,
    tokenize,
)
from saffu.text.vocabulary import LINE_END_ID, UNKNOWN_ID, ModelVocabulary, Vocabulary

__all__ = [
    "DOCUMENTS",
    "LINE_END_ID",
    "STANDARD_INPUT",
    "TOKENIZERS",
    "UNKNOWN",
    "UNKNOWN_ID",
    "Chunk",
    "Corpus",
    "EncodedCorpus",
    "Joiner",
    "ModelVocabulary",
    "SubwordTokenizer",
    "Vocabulary",
    "default_documents",
    "default_min_count",
    "detokenize",
    "tokenize",
]
