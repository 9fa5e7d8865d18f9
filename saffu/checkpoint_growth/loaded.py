"""What needs a checkpoint as a live model, loaded by transformers: a comparison, and new parts from counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from saffu.checkpoint_growth.prototypes import DecoderPrototypes

ROWS, LENGTH = 2, 32
# Differences of logits, relative to the largest, that rounding explains; the library computes norms in float32 always.
LIMITS = {"float64": 1e-4, "float32": 1e-4, "float16": 0.02, "bfloat16": 0.1}


def difference(source: str, larger: str, dtype: str, seed: int = 0) -> float:
    """Largest difference of logits on random tokens, relative to the largest logit; both models are loaded whole.

    Parameters
    ----------
    source, larger : str
        Folders of checkpoints.
    dtype : str
        Of the larger one; 16 bits are compared in float32.
    seed : int
        Of the tokens.
    """
    library()
    import torch

    kind = torch.float64 if dtype == "float64" else torch.float32
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        logits: list[Any] = []
        ids = None
        for folder in (source, larger):
            model = _loaded(folder, kind)
            if ids is None:
                length = min(LENGTH, getattr(model.config, "max_position_embeddings", LENGTH))
                ids = torch.randint(model.config.vocab_size, (ROWS, length), generator=generator)
            logits.append(model(ids).logits)
    return float((logits[0] - logits[1]).abs().max() / logits[0].abs().max())


def explicit(source: str, data: str, seed: int = 0) -> DecoderPrototypes:
    """New parts of a checkpoint from counts over a text; the model is loaded whole, and reads it once.

    Parameters
    ----------
    source : str
        Folder of the checkpoint.
    data : str
        A file of text, for the tokenizer in that folder, or of ids as numpy saves them (``.npy``).
    seed : int
        Of all other new numbers.
    """
    if data.endswith(".npy"):
        ids = np.load(data)
    else:
        with open(data, encoding="utf-8") as file:
            text = file.read(1 << 20)  # more than is read of it
        ids = np.array(library().AutoTokenizer.from_pretrained(source, local_files_only=True)(text)["input_ids"])
    return DecoderPrototypes(_loaded(source, "auto"), ids, seed=seed)


def _loaded(folder: str, dtype: Any) -> Any:
    """A model of a folder, without the library's bars, which are drawn even where there is no terminal."""
    transformers = library()
    logging = transformers.utils.logging
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    finally:
        if bars:
            logging.enable_progress_bar()
    model.eval()
    return model


def library() -> Any:
    """The library, transformers; ImportError says what installs it."""
    try:
        import torch  # noqa: F401  (transformers loads without it, but no model)
        import transformers
    except ImportError as error:
        raise ImportError("this needs torch and transformers: pip install 'saffu[transformers]'") from error
    return transformers


def check(source: str, larger: str, dtype: str) -> float:
    """The same; ValueError if it is more than rounding explains."""
    found = difference(source, larger, dtype)
    if not found <= LIMITS[dtype]:
        raise ValueError(
            f"the larger checkpoint does not compute what its source does: logits differ by {found:.2g} of the "
            f"largest, and rounding to {dtype} explains {LIMITS[dtype]:g}"
        )
    return found
