"""saffu: neural networks solved explicitly, by counting, taking logarithms and fitting a handful of scalars.

Language models: :class:`ExplicitLM`, :class:`BackoffLM`, :class:`SaffuLM`, :class:`RecurrentLM`, :class:`Transformer`,
and :class:`MixtureLM`, which mixes others. Classifiers: :class:`SoftmaxLayer`, :class:`ExplicitNetwork`, of images
:class:`ExplicitConvNet`, and of texts :class:`ExplicitTextClassifier`. :func:`load` reads what any of them saved,
:func:`refine` trains one on by gradient steps, :mod:`saffu.text` turns files into token ids and :mod:`saffu.grow`
enlarges transformers. The rest are the parts that the models are made of.
"""

# Before all others: from here on, Ctrl-C ends the command at once while modules are being imported.
from saffu.utils import interrupts as _interrupts

from importlib import import_module  # isort: skip
from typing import TYPE_CHECKING, Any  # isort: skip

try:
    from saffu import _core  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"the compiled core saffu._core could not be imported ({error}); install a wheel, or build it where you are "
        "with 'pip install .' in a checkout (a C compiler is needed)"
    ) from error

# The names are imported when they are first asked for: "import saffu" alone is quick. Type checkers read the imports
# below, and the table says the same to the interpreter.
if TYPE_CHECKING:
    from saffu import grow, text
    from saffu.attention_lm.model import SaffuLM
    from saffu.classifier.network import ExplicitNetwork
    from saffu.classifier.softmax_layer import SoftmaxLayer
    from saffu.classifier.text_classifier import ExplicitTextClassifier
    from saffu.explicit.bit_cipher import BitCipher, enriched_embeddings
    from saffu.explicit.cooccurrence import cooccurrence
    from saffu.explicit.log_weights import log_weights
    from saffu.explicit.moments import moments
    from saffu.mixture_lm.model import MixtureLM
    from saffu.ngram_lm.backoff_lm import BackoffLM
    from saffu.ngram_lm.model import ExplicitLM
    from saffu.patches import ExplicitConvNet, PatchEncoder
    from saffu.recurrent_lm import RecurrentLM
    from saffu.training import random_start, refine
    from saffu.transformer.model import Transformer
    from saffu.transformer.prototypes import Prototypes
    from saffu.utils.checkpoint import load
    from saffu.utils.config import show_config
    from saffu.vectorizers import BitCipherTransformer, CooccurrenceVectorizer

_MODULES = {
    "grow": "saffu",
    "text": "saffu",
    "SaffuLM": "saffu.attention_lm.model",
    "ExplicitNetwork": "saffu.classifier.network",
    "SoftmaxLayer": "saffu.classifier.softmax_layer",
    "ExplicitTextClassifier": "saffu.classifier.text_classifier",
    "BitCipher": "saffu.explicit.bit_cipher",
    "enriched_embeddings": "saffu.explicit.bit_cipher",
    "cooccurrence": "saffu.explicit.cooccurrence",
    "log_weights": "saffu.explicit.log_weights",
    "moments": "saffu.explicit.moments",
    "MixtureLM": "saffu.mixture_lm.model",
    "BackoffLM": "saffu.ngram_lm.backoff_lm",
    "ExplicitLM": "saffu.ngram_lm.model",
    "random_start": "saffu.training",
    "refine": "saffu.training",
    "Transformer": "saffu.transformer.model",
    "Prototypes": "saffu.transformer.prototypes",
    "load": "saffu.utils.checkpoint",
    "show_config": "saffu.utils.config",
    "ExplicitConvNet": "saffu.patches",
    "PatchEncoder": "saffu.patches",
    "RecurrentLM": "saffu.recurrent_lm",
    "BitCipherTransformer": "saffu.vectorizers",
    "CooccurrenceVectorizer": "saffu.vectorizers",
}
# Attributes of the package as if they had been imported.
_PACKAGES = (
    "attention_lm",
    "classifier",
    "explicit",
    "mixture_lm",
    "ngram_lm",
    "patches",
    "recurrent_lm",
    "training",
    "transformer",
    "utils",
    "vectorizers",
)

_interrupts.end_import()

__version__ = "0.1.0"
__all__ = [
    "BackoffLM",
    "BitCipher",
    "BitCipherTransformer",
    "CooccurrenceVectorizer",
    "ExplicitConvNet",
    "ExplicitLM",
    "ExplicitNetwork",
    "ExplicitTextClassifier",
    "MixtureLM",
    "PatchEncoder",
    "Prototypes",
    "RecurrentLM",
    "SaffuLM",
    "SoftmaxLayer",
    "Transformer",
    "cooccurrence",
    "enriched_embeddings",
    "grow",
    "load",
    "log_weights",
    "moments",
    "random_start",
    "refine",
    "show_config",
    "text",
]


def __getattr__(name: str) -> Any:
    module = "saffu" if name in _PACKAGES else _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'saffu' has no attribute {name!r}")
    found = import_module(f"saffu.{name}") if module == "saffu" else getattr(import_module(module), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
