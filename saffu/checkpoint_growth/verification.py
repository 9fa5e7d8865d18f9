"""Whether a written checkpoint computes what its source did, by the library that will load it."""

from __future__ import annotations

from typing import Any

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
    import transformers

    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()  # which would be drawn even without a terminal
    try:
        return _compared(source, larger, dtype, seed)
    finally:
        if bars:
            transformers.utils.logging.enable_progress_bar()


def _compared(source: str, larger: str, dtype: str, seed: int) -> float:
    import torch
    import transformers

    kind = torch.float64 if dtype == "float64" else torch.float32
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        logits: list[Any] = []
        ids = None
        for folder in (source, larger):
            model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=kind, local_files_only=True)
            model.eval()
            if ids is None:
                ids = torch.randint(model.config.vocab_size, (ROWS, LENGTH), generator=generator)
            logits.append(model(ids).logits)
    return float((logits[0] - logits[1]).abs().max() / logits[0].abs().max())


def check(source: str, larger: str, dtype: str) -> float:
    """The same; ValueError if it is more than rounding explains."""
    found = difference(source, larger, dtype)
    if not found <= LIMITS[dtype]:
        raise ValueError(
            f"the larger checkpoint does not compute what its source does: logits differ by {found:.2g} of the "
            f"largest, and rounding to {dtype} explains {LIMITS[dtype]:g}"
        )
    return found
