"""Counting as a step of scikit-learn's pipelines: a vectorizer of texts, and a transformer of categories.

scikit-learn itself is not needed. Both follow its contract of transformers: settings are stored by the constructor and
checked by ``fit``, what a fit finds is in attributes whose names end with an underscore, and ``transform`` gives as
many rows as it is given. May import ``saffu.utils``, ``saffu.text``, ``saffu.explicit`` and the checks of features of
``saffu.classifier``. Read ``bit_cipher_transformer.py`` first.
"""

from saffu.vectorizers.bit_cipher_transformer import BitCipherTransformer
from saffu.vectorizers.cooccurrence_vectorizer import CooccurrenceVectorizer

__all__ = ["BitCipherTransformer", "CooccurrenceVectorizer"]
