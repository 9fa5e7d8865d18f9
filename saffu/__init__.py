"""saffu: neural networks solved explicitly, by counting, taking logarithms and fitting a handful of scalars."""

from saffu import _interrupts  # before all others: it makes Ctrl-C end the command at once while they are imported

try:
    from saffu import _core  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"the compiled core saffu._core could not be imported ({error}); install a wheel, or build it where you are "
        "with 'pip install .' in a checkout (a C compiler is needed)"
    ) from error

from saffu import grow, text
from saffu._config import show_config
from saffu.checkpoint import load
from saffu.cipher import BitCipher, enriched_embeddings
from saffu.counts import cooccurrence
from saffu.explicit import log_weights, moments
from saffu.explicit_lm import ExplicitLM
from saffu.layer import SoftmaxLayer
from saffu.network import ExplicitNetwork
from saffu.prototypes import Prototypes
from saffu.refine import random_start, refine
from saffu.saffu_lm import SaffuLM
from saffu.transformer import Transformer

_interrupts.end_import()

__version__ = "0.1.0"
__all__ = [
    "BitCipher",
    "ExplicitLM",
    "ExplicitNetwork",
    "Prototypes",
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
