"""SaffuLM: a compact language model of self-attentive feed-forward units, alone or on top of an explicit one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from saffu import _core
from saffu.attention_lm import growth as new_units
from saffu.attention_lm import loss as text_loss
from saffu.attention_lm import online as learning
from saffu.attention_lm import units
from saffu.attention_lm.contexts import CONTEXTS, SEGMENT, contexts_in_order
from saffu.attention_lm.em_attention import ATTENTIONS
from saffu.attention_lm.loss import Embeddings, Network
from saffu.attention_lm.online import Known
from saffu.attention_lm.output_classes import Cells
from saffu.attention_lm.residual import HeldOutSource, TextSource, is_counted
from saffu.attention_lm.segments import CHUNK, Passage, Passages
from saffu.attention_lm.session import Session
from saffu.attention_lm.solver import SharedCounts, most_positions
from saffu.attention_lm.solver import solve as solve_bottom_up
from saffu.attention_lm.sufficient_statistics import Classes, Evidence
from saffu.attention_lm.windows import ComparisonCache
from saffu.ngram_lm.model import ExplicitLM
from saffu.text import ModelVocabulary, Vocabulary
from saffu.training import LEARNING_RATE
from saffu.training import random_start as start_at_random
from saffu.training import refine as improve
from saffu.training.history import history_from, history_to
from saffu.utils import checkpoint, fingerprints, validate
from saffu.utils.arrays import Array, Float32, Float64, Int64
from saffu.utils.fingerprints import Multiset
from saffu.utils.initializers import Init, Initializer
from saffu.utils.progress import progress_bar
from saffu.utils.sampling import Drawing
from saffu.utils.streams import TokenStream
from saffu.utils.threads import one_blas_thread, resolve_threads

Parameters = dict[str, Array]

BATCH_TOKENS = 512
ROOM = 1 << 27  # logits that growth holds at once
FASTER = 10  # times the learning rate of the output
EMBEDDINGS = "embeddings.logits"
SETTINGS = (
    "bits",
    "contexts",
    "block",
    "radius",
    "heads",
    "layers",
    "hidden",
    "words",
    "span",
    "attention",
    "min_count",
)


@checkpoint.register("saffu-lm")
class SaffuLM:
    """Language model of self-attentive feed-forward units, solved explicitly.

    Each unit compares the newest token with those of its context, attends to them, and tells which of its hidden
    units the context belongs to; all hidden states, side by side, give the logits of the next token::

        s = x_head X^T    a = softmax(s W + w)    z = a X    h = softmax(z U + u)    logits = [h_1 .. h_n] O + o

    Parameters
    ----------
    bits : int
        Width of the embeddings: classes of tokens, which start as the bits of their bit-cipher codes.
    contexts : sequence of {"block", "radial", "document"}
        What there are units for: the tokens of the present block, the last tokens, the document so far.
    block, radius : int
        Tokens that a block has, and how many of the last ones are seen; K of their attention.
    heads : int
        Units of each context and layer, the document's excepted, which has one in the first layer.
    layers : int
        Layers above the first see the hidden states of the positions in their contexts.
    hidden : int
        Hidden units of each head.
    residual : ExplicitLM, optional
        A model of the same vocabulary that this one stands on: its logits are added. It is solved, or will be, on
        the text given to :meth:`solve`.
    words : int
        With a residual: so many of the most frequent words have output weights of their own. The others share those
        of their classes, and keep the proportions that the residual gives them.
    span : int
        How far back the document context reaches, tokens.
    attention : {"responsibilities", "gradient", "uniform"}
        How attention is solved: by which tokens explain the next word, from there on by what each would do for the
        softmax over the words, or not at all.
    min_count : int
        With a residual: words that the text holds fewer times elsewhere are read as ``<unk>`` in training, as they
        would be in new text. That of the vocabulary.
    seed : int
        Of the positions that the solution is made on.
    n_threads : int, optional
        By default every available CPU.

    Attributes
    ----------
    n_parameters : int
        Numbers that the network consists of, the model that it stands on left out.
    history : list of dict or None
        Records of :func:`saffu.refine`; None as long as the weights follow from counts.
    attention_losses : list of float
        Loss of the rounds of explicit attention, nats per token; it never rises.
    vocabulary : saffu.text.Vocabulary or None
        Saved with the model if set; ValueError if it has another size than the model.

    Notes
    -----
    Units: arXiv 2311.07510. Kernels ``saffu_attend``, ``saffu_softmax``, ``saffu_cross_entropy_backward``.

    Any number of threads may read a model at once: score, draw, save, or ask for attributes; each has sessions of its
    own. One that changes it, by ``solve``, ``update`` or ``subtract``, must be alone.

    Examples
    --------
    >>> model = SaffuLM(bits=3, radius=2, hidden=4).solve([0, 1, 2] * 50)
    >>> int(model.distribution([0, 1]).argmax())
    2
    """

    vocabulary = ModelVocabulary()
    interrupted = False  # whether Ctrl-C ended the refinement that this model comes from

    def __init__(
        self,
        bits: int = 64,
        contexts: Sequence[str] = ("radial", "document"),
        block: int = 8,
        radius: int = 8,
        heads: int = 1,
        layers: int = 1,
        hidden: int = 64,
        residual: ExplicitLM | None = None,
        words: int = 6000,
        span: int = 2000,
        attention: str = "responsibilities",
        min_count: int = 0,
        seed: int = 0,
        n_threads: int | None = None,
    ) -> None:
        self.bits = validate.size(bits, "bits")
        self.contexts = _contexts(contexts)
        self.block = validate.size(block, "block")
        self.radius = validate.size(radius, "radius")
        self.heads = validate.size(heads, "heads")
        self.layers = validate.size(layers, "layers")
        self.hidden = validate.size(hidden, "hidden")
        self.words = validate.integer(words, "words", 1, validate.INT32_MAX)
        self.span = validate.integer(span, "span", SEGMENT, validate.LARGEST["window"])
        self.attention = validate.choice(attention, "attention", ATTENTIONS)
        self.min_count = validate.integer(min_count, "min_count", 0, validate.INT32_MAX)
        self.seed = validate.integer(seed, "seed", 0)
        self.n_threads = n_threads
        resolve_threads(n_threads)
        if residual is not None and not isinstance(residual, ExplicitLM):
            raise TypeError(f"residual must be an ExplicitLM or None, got {type(residual).__name__}")
        if self.layers > 1 and self.contexts == ("document",):
            raise ValueError("layers above the first see blocks or the last tokens: add one of them to contexts")
        self.residual = residual
        self._network = self._laid_out()
        self._values: Parameters | None = None
        self._evidence: Evidence | None = None
        self._classes: Classes | None = None
        self._heard: Multiset | None = Multiset()  # fingerprints of all documents; None if an older file lacks them
        self._cells: Cells | None = None  # of the output, unless each word has one
        self._frozen: Embeddings | None = None  # while a refinement leaves the embeddings as they are
        self.history: list[dict[str, Any]] | None = None
        self.growth: list[dict[str, Any]] = []
        self.attention_losses: list[float] = []
        self.scalars: list[float] = []
        self.seconds = {"solve": 0.0, "residual": 0.0}
        self.vocabulary = None

    def _laid_out(self) -> Network:
        sizes = {context: {"block": self.block, "radial": self.radius}.get(context, 0) for context in self.contexts}
        return Network(units.lay_out(self.contexts, sizes, self.heads, self.layers), self.layers, self.span)

    # ---- solving -----------------------------------------------------------------------------------------------------

    def solve(
        self,
        ids: ArrayLike,
        vocab_size: int | None = None,
        documents: ArrayLike | None = None,
        shared: SharedCounts | None = None,
        progress: bool = False,
    ) -> Self:
        """Solve every piece from the bottom up, then fit a scalar for each unit.

        A model that has grown begins anew, with the units that its settings say.

        Parameters
        ----------
        ids : array_like of int, shape (M,)
            Token ids in [0, vocab_size); faster if frequent tokens have small ids.
        vocab_size : int, optional
            V; by default the largest id plus one, or that of the residual.
        documents : array_like of int, optional
            Offsets in ``ids`` at which documents start. No context reaches over one.
        shared : SharedCounts, optional
            Counts of the same text, made before for another model.
        progress : bool
            Show progress on a terminal.

        Raises
        ------
        ValueError, TypeError
            If ids are out of range, not integers or absent, or the residual has another vocabulary or was made of
            another text.
        """
        stream, vocab_size = self._read_text(ids, documents, vocab_size)
        if stream.ids.size == 0:
            raise ValueError("ids must hold at least one token, got none")
        threads = resolve_threads(self.n_threads)
        began = time.perf_counter()
        if shared is None:
            shared = SharedCounts(stream.ids, stream.starts, vocab_size, threads)
        source = self._training_source(stream, vocab_size, threads, shared)
        self.seconds["residual"] = time.perf_counter() - began
        began = time.perf_counter()
        self._network, self.growth = self._laid_out(), []
        read = stream if source is None else source.stream
        plan = [(unit, self.hidden) for unit in self._network.units]
        most = most_positions(self._network, plan, read, self.attention)
        with progress_bar(most, "solve", progress) as bar, one_blas_thread():
            found = solve_bottom_up(
                self._network,
                shared,
                read,
                self.bits,
                self.hidden,
                self.attention,
                source,
                self.words,
                self.seed,
                bar.update,
            )
        self._values, self._cells = found.parameters, found.cells
        self.attention_losses, self.scalars = found.attention_losses, found.scalars.tolist()
        self._evidence, self._classes = found.evidence, found.classes
        self._heard = Multiset().plus(fingerprints.of_documents(stream.ids, stream.starts))
        self.history = None
        self.seconds["solve"] = time.perf_counter() - began
        return self

    def _read_text(
        self, ids: ArrayLike, documents: ArrayLike | None, vocab_size: int | None = None
    ) -> tuple[TokenStream, int]:
        if vocab_size is not None:
            vocab_size = validate.size(vocab_size, "vocab_size")
        if self.residual is not None and self.residual.n_tokens:
            if vocab_size not in (None, self.residual.vocab_size):
                raise ValueError(f"vocab_size must be {self.residual.vocab_size}, as of the residual, got {vocab_size}")
            vocab_size = self.residual.vocab_size
        vocab_size = ModelVocabulary.size(self.vocabulary, vocab_size)
        checked = validate.token_ids(ids, "ids", vocab_size)
        starts = validate.document_starts(documents, checked.size)
        return TokenStream(checked, starts), vocab_size or int(checked.max(initial=0)) + 1

    def _training_source(
        self, stream: TokenStream, vocab_size: int, n_threads: int, shared: SharedCounts
    ) -> HeldOutSource | None:
        """Logits of the residual as if the text around each position had not been counted; one for all who share."""
        if self.residual is None:
            return None
        if not self.residual.n_tokens:
            self.residual.fit(stream.ids, vocab_size, stream.starts)
        residual, least = self.residual, self.min_count
        return shared.source((id(residual), least), lambda: HeldOutSource(residual, stream, least, n_threads))

    # ---- learning on the spot ----------------------------------------------------------------------------------------

    def update(self, ids: ArrayLike, documents: ArrayLike | None = None, prime: bool = False) -> Self:
        """Learn on the spot: take new text into account, in time proportional to that text.

        Besides, one pass is made over the output weights, and the old text is not needed. Hidden layers and attention
        stay. The embeddings of the tokens in the text get their expected counts there, as one round of explicit
        attention would; counts of words are exact, and counts of hidden states and words are added to those that the
        output was solved of. The output moves by the change of the logarithms of its counts, also in a refined model.
        The model that this one stands on learns the text, too (:meth:`ExplicitLM.update`, which is exact).

        Parameters
        ----------
        ids : array_like of int, shape (M,)
            Token ids below ``vocab_size``; whole documents.
        documents : array_like of int, optional
            Offsets in ``ids`` at which documents start; the first starts at 0.
        prime : bool
            Prime the scalars, too: on the new text as it is predicted before it is learned, held by the curvature of
            what they were primed on before. The model that this one stands on primes its own on all its text.

        Raises
        ------
        ValueError, TypeError
            If ids are out of range or not integers, or the model was not solved.

        Notes
        -----
        Other models that stand on the same residual see it change.

        Examples
        --------
        >>> model = SaffuLM(bits=3, radius=2, hidden=4).solve([0, 1, 2] * 50, vocab_size=4)
        >>> int(model.update([0, 1, 3] * 200).distribution([0, 1]).argmax())
        3
        """
        stream, _ = self._read_text(ids, documents, self.vocab_size)
        if stream.ids.size:
            with one_blas_thread():
                self._become(learning.learned(self._network, self._known(), self._new_text(stream), prime))
            if self._heard is not None:
                self._heard = self._heard.plus(fingerprints.of_documents(stream.ids, stream.starts))
            if self.residual is not None:
                self.residual.update(stream.ids, stream.starts, prime)
        return self

    def subtract(self, ids: ArrayLike, documents: ArrayLike | None = None) -> Self:
        """Forget documents heard before, the scalars kept, in time proportional to their text.

        It undoes an update to rounding if it is the last one; an earlier one, except for what the model expected of
        hidden states, which is taken as it is now. Counts of words are exact always, as is the model that this one
        stands on. Text that the model was solved on can be forgotten, too, but what the hidden layers made of it stays.

        The model knows each document by a fingerprint of 64 bits, and what was not heard as a whole document is
        refused. A model without a residual from a file of an older version refuses only what its counts do not hold.

        Parameters
        ----------
        ids : array_like of int, shape (M,)
            Whole documents, first token to last.
        documents : array_like of int, optional
            Offsets in ``ids`` at which documents start; the first starts at 0.

        Raises
        ------
        ValueError, TypeError
            If these documents were never heard; the model is unchanged then.
        """
        stream, _ = self._read_text(ids, documents, self.vocab_size)
        if stream.ids.size:
            known = self._known()
            keys = fingerprints.of_documents(stream.ids, stream.starts)
            learning.check_heard(known.evidence, stream)
            if self._heard is not None and not self._heard.holds(keys):
                raise ValueError("documents to forget must have been heard, and be given whole")
            if self.residual is not None:
                self.residual.subtract(stream.ids, stream.starts)
            with one_blas_thread():
                self._become(learning.unlearned(self._network, known, self._new_text(stream)))
            if self._heard is not None:
                self._heard = self._heard.plus(keys, -1)
        return self

    def _known(self) -> Known:
        parameters = self._solved
        assert self._evidence is not None
        assert self._classes is not None
        return Known(parameters, self._evidence, self._classes, np.array(self.scalars))

    def _become(self, known: Known) -> None:
        self._values, self._evidence, self._classes = known.parameters, known.evidence, known.classes
        self.scalars = known.scalars.tolist()

    def _new_text(self, stream: TokenStream, dtype: DTypeLike = np.float32) -> Passages:
        """Text that was not counted."""
        source = None if self.residual is None else TextSource(self.residual, stream)
        threads = resolve_threads(self.n_threads)
        return Passages(stream, self.vocab_size, np.dtype(dtype), threads, source, self._cells)

    # ---- growth ------------------------------------------------------------------------------------------------------

    def grow(
        self,
        ids: ArrayLike | None = None,
        documents: ArrayLike | None = None,
        *,
        bits: int | None = None,
        contexts: Sequence[str] | None = None,
        block: int | None = None,
        radius: int | None = None,
        heads: int | None = None,
        layers: int | None = None,
        hidden: int | None = None,
        init: Init = "normal",
        rng: np.random.Generator | int | None = None,
        progress: bool = False,
    ) -> SaffuLM:
        """A larger model: the same function, or, solved on text, a better one.

        What is new are units in the highest layer, or in layers above it: one of each new length, one of each context
        for more hidden units, and so on. Their output weights are zero. With text they are solved by counting what
        the model as it is leaves unsaid, and enter with a scalar of their own fitted by Newton on positions that the
        counts leave out.

        Parameters
        ----------
        ids, documents : optional
            Text to solve the new units on, as in :meth:`solve`; with a residual, the text that it has counted.
        bits : int, optional
            2, 4, 8 ... times what there is: each class becomes as many equal ones, whose weights move apart by what
            ``init`` gives, at most by half. Text does not matter here.
        contexts : sequence of str, optional
            Those there are, and more. A document can be added to models of one layer only.
        block, radius, heads, layers, hidden : int, optional
            What they should be; at least what they are.
        init : {"normal", "zeros"} or callable
            Free new numbers without text: normal, of standard deviation 1 / sqrt(inputs), and biases zero; zero, where
            no gradient can tell hidden units apart; or what ``init(name, shape)`` makes.
        rng : Generator or int, optional
            Where chance comes from; 0 by default.
        progress : bool
            Show progress on a terminal.

        Returns
        -------
        SaffuLM
            This model stays as it is. ``growth`` tells what was added and, with text, the mean loss on up to 400 of its
            segments before and after, nats per token: new units that would make it higher stay silent.

        Raises
        ------
        ValueError, TypeError
            If a setting is smaller than what there is, or cannot be added.

        Notes
        -----
        Zero output weights: Gesmundo and Maile, arXiv 2308.06103, definition 3.2, for units in place of heads.

        Examples
        --------
        >>> model = SaffuLM(bits=3, radius=2, hidden=4).solve([0, 1, 2] * 50)
        >>> larger = model.grow(radius=4, hidden=8)
        >>> bool(np.allclose(larger.log_prob([0, 1, 2]), model.log_prob([0, 1, 2])))
        True
        """
        given = {"block": block, "radius": radius, "heads": heads, "layers": layers, "hidden": hidden}
        changed: dict[str, Any] = {
            name: validate.size(value, name) for name, value in given.items() if value is not None
        }
        if contexts is not None:
            changed["contexts"] = _contexts(contexts)
        free = Initializer(init, rng)
        start = self if bits is None else self._with_bits(bits, free)
        grown = start._copy(**changed)
        plan = new_units.planned(start._network, start._sizes(), grown._sizes())
        grown._network = new_units.grown_network(start._network, plan)
        record: dict[str, Any] = {"kind": "units", **changed, "added": [unit.name for unit, _ in plan]}
        if plan:
            if ids is None:
                start._add_silent(grown, plan, free)
            else:
                record["losses"] = start._add_solved(grown, plan, ids, documents, progress)
            grown.growth.append(record)
        return grown

    def _sizes(self) -> new_units.Sizes:
        sizes = {context: {"block": self.block, "radial": self.radius}.get(context, 0) for context in self.contexts}
        return new_units.Sizes(sizes, self.heads, self.layers, self.hidden)

    def _with_bits(self, bits: int, free: Initializer) -> SaffuLM:
        bits = validate.size(bits, "bits")
        times = bits // self.bits
        if times * self.bits != bits or times < 1 or times & (times - 1):
            raise ValueError(f"bits must be {self.bits}, as they are now, or 2, 4, 8 ... times that, got {bits}")
        known = self._known()
        grown = self._copy(bits=bits)
        if times > 1:
            grown._values = self._solved | new_units.split_classes(self._solved, self._network, times, free)
            grown._classes = known.classes.split(times)
            grown.growth.append({"kind": "bits", "bits": bits})
        return grown

    def _add_silent(self, grown: SaffuLM, plan: new_units.Plan, free: Initializer) -> None:
        known = self._known()
        made = new_units.silent(self._network, plan, known.parameters, free)
        weights = made.pop("output.weights")
        told = Evidence.none(weights.shape, len(plan), known.evidence.counts)
        grown._take(self, made, weights, told, np.zeros(len(plan)))

    def _add_solved(
        self, grown: SaffuLM, plan: new_units.Plan, ids: ArrayLike, documents: ArrayLike | None, progress: bool
    ) -> list[float]:
        """Solve the units of a plan; the loss before and after."""
        known, threads = self._known(), resolve_threads(self.n_threads)
        text = self._prepare(ids, documents, threads)
        most = most_positions(self._network, plan, text.stream, "responsibilities")
        with progress_bar(most, "grow", progress) as bar, one_blas_thread():
            found = new_units.solved(
                self._network,
                plan,
                known.parameters,
                known.evidence,
                known.classes,
                self._cells,
                text,
                self.attention,
                ROOM,
                self.seed,
                bar.update,
            )
            grown._take(self, found.parameters, found.weights, found.evidence, found.scalars)
            before, after = (model._mean_loss(text) for model in (self, grown))
            if not after <= before:
                grown._take(self, found.parameters, 0 * found.weights, found.evidence, 0 * found.scalars)
                after = before
        return [before, after]

    def _take(self, start: SaffuLM, new: Parameters, weights: Float32, evidence: Evidence, scalars: Float64) -> None:
        """Become another model with new units after its own."""
        assert start._evidence is not None
        output = np.concatenate([start._solved["output.weights"], weights], axis=1)
        self._values = {**start._solved, **new, "output.weights": output}
        self._evidence = start._evidence.beside(evidence)
        self.scalars = [*start.scalars, *scalars.tolist()]

    def _mean_loss(self, text: Passages) -> float:
        """Mean loss of up to so many segments of a text, nats per token."""
        # By chance and not evenly spaced: text often alternates between its sources.
        rng = np.random.default_rng(self.seed)
        rows = np.sort(rng.choice(len(text), min(text.sample_rows, len(text)), replace=False))
        passage = text.take(rows)
        losses = text_loss.losses(self._network, self._solved, passage, self._fixed(np.float32))
        return float(losses.sum() * text.tokens_per_row / passage.n_positions)

    # ---- parameters --------------------------------------------------------------------------------------------------

    @property
    def _solved(self) -> Parameters:
        if self._values is None:
            raise ValueError("the model has seen no text yet; call solve first")
        return self._values

    @property
    def vocab_size(self) -> int:
        """V, the number of token types."""
        return len(self._solved[EMBEDDINGS])

    @property
    def n_parameters(self) -> int:
        """Numbers that the network consists of."""
        return sum(value.size for value in self._solved.values())

    def _embeddings(self, parameters: Parameters, n_threads: int) -> Embeddings:
        if EMBEDDINGS not in parameters:
            assert self._frozen is not None
            return self._frozen
        return Embeddings(units.embeddings(parameters, n_threads), None, True)

    def _fixed(self, dtype: DTypeLike) -> Embeddings:
        """Embeddings as they are, with their comparisons cached."""
        logits = self._solved[EMBEDDINGS].astype(dtype)
        X = _core.softmax(logits, False, resolve_threads(self.n_threads))
        return Embeddings(X, ComparisonCache(X, n_threads=self.n_threads), False)

    # ---- refinement --------------------------------------------------------------------------------------------------

    def refine(
        self,
        ids: ArrayLike,
        epochs: int = 1,
        *,
        documents: ArrayLike | None = None,
        freeze_embeddings: bool = True,
        thaw_after: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
        validation: tuple[ArrayLike, ArrayLike | None] | None = None,
        **options: Any,
    ) -> SaffuLM:
        """Improve the model by backpropagation from where it stands; see :func:`saffu.refine`.

        Parameters
        ----------
        ids, documents
            Text, as in :meth:`solve`; with a residual, the text that it has counted: its logits are those of models
            that have not counted the text around each position.
        epochs : int
            Passes over the text.
        freeze_embeddings : bool
            Leave the embeddings as they are, so that comparisons are read from a cache.
        thaw_after : int, optional
            After so many epochs the embeddings move too, at a tenth of the rate of the units.
        batch_tokens : int
            Positions in a step, rounded to whole segments of 32.
        validation : (ids, documents), optional
            Other text to choose the best epoch by.
        **options
            ``learning_rate`` (a number is that of the output, the units and embeddings move at ten times it; 0.003),
            ``dropout`` (of hidden units), ``patience``, ``callback``, ``checkpoint`` (that of the
            epochs after the thaw ends in ``.thawed``), ``seed``, ``progress``, ``soften``.

        Returns
        -------
        SaffuLM
            A refined model; this one stays as it is. Its ``interrupted`` tells whether Ctrl-C ended it before its time.
        """
        batch_tokens = validate.integer(batch_tokens, "batch_tokens", 1, validate.INT32_MAX)
        options = {"soften": 1.0, "batch_size": max(batch_tokens // SEGMENT, 1), **options}
        options["validation"] = validation
        epochs = validate.integer(epochs, "epochs", 0, validate.INT32_MAX)
        stages = [(epochs, freeze_embeddings)]
        if thaw_after is not None:
            thaw_after = validate.integer(thaw_after, "thaw_after", 0, validate.INT32_MAX)
            stages = [(min(thaw_after, epochs), True), (max(epochs - thaw_after, 0), False)]
            stages = [stage for stage in stages if stage[0]] or stages[:1]
        model: SaffuLM = self
        history: list[dict[str, Any]] = []
        with one_blas_thread():
            for n_epochs, frozen in stages:
                model = model._stage(ids, documents, n_epochs, frozen, thawed=thaw_after is not None, options=options)
                history = _continued(history, model.history or [])
                if model.interrupted:
                    break
        model.history = history
        return model

    def _stage(
        self, ids: ArrayLike, documents: Any, epochs: int, frozen: bool, thawed: bool, options: dict[str, Any]
    ) -> SaffuLM:
        start = self._copy()
        start._frozen = start._fixed(np.float32) if frozen else None
        options = dict(options)
        rate = options.pop("learning_rate", LEARNING_RATE)
        options["learning_rate"] = rate if isinstance(rate, dict) else start._rates(rate, slow=thawed)
        if thawed and not frozen and options.get("checkpoint") is not None:
            # That of the epochs before is another refinement's.
            options["checkpoint"] = f"{os.fspath(options['checkpoint'])}.thawed"
        model = improve(start, ids, documents, epochs=epochs, n_threads=self.n_threads, **options)
        model._frozen = None
        return model

    def _rates(self, rate: float, slow: bool) -> dict[str, float]:
        """The rate of the output; tenfold for units and embeddings, whose logits must go far to change a softmax."""
        names = [name for name in self._solved if self._frozen is None or name != EMBEDDINGS]
        still = ("output.", "embeddings.") if slow else ("output.",)
        return {name: rate * (1 if name.startswith(still) else FASTER) for name in names}

    def random_start(self, scale: str | float = "glorot", seed: int = 0) -> SaffuLM:
        """A model of the same architecture with random weights, to compare a solved one with.

        The output bias is that of the unigram, or zero on a residual: nobody starts a language model without it. See
        :func:`saffu.random_start`.
        """
        found = start_at_random(self, scale, seed)
        bias = np.zeros_like(self._solved["output.bias"])
        if self.residual is None:
            assert self._evidence is not None
            bias = np.log(self._evidence.unigram).astype(np.float32)
            bias -= bias.mean()
        found._values = {**found._solved, "output.bias": bias}
        return found

    def _copy(self, **changed: Any) -> SaffuLM:
        settings = {name: getattr(self, name) for name in SETTINGS} | changed
        other = SaffuLM(**settings, residual=self.residual, seed=self.seed, n_threads=self.n_threads)
        other._network, other.growth = self._network, [dict(record) for record in self.growth]
        other._values, other._cells, other._frozen = self._values, self._cells, self._frozen
        other.history = self.history
        other._evidence, other._classes, other._heard = self._evidence, self._classes, self._heard
        other.attention_losses, other.scalars = list(self.attention_losses), list(self.scalars)
        other.seconds, other.vocabulary = dict(self.seconds), self.vocabulary
        return other

    # what saffu.refine asks of a model

    def _parameters(self, soften: float, dtype: DTypeLike) -> Parameters:
        names = [name for name in self._solved if self._frozen is None or name != EMBEDDINGS]
        hidden = {f"{unit.name}.{part}" for unit in self._network.units for part in ("weights", "bias")}
        return {name: (self._solved[name] * (soften if name in hidden else 1.0)).astype(dtype) for name in names}

    def _prepare(self, X: Any, y: Any, n_threads: int) -> Passages:
        stream, vocab_size = self._read_text(X, y, self.vocab_size)
        if stream.ids.size == 0:
            raise ValueError("ids must hold at least one token, got none")
        source: HeldOutSource | TextSource | None = None
        if self.residual is not None:
            if is_counted(self.residual, stream):
                source = HeldOutSource(self.residual, stream, self.min_count, n_threads)
            else:
                source = TextSource(self.residual, stream)
            stream = source.stream
        dtype = self._solved["output.weights"].dtype
        return Passages(stream, vocab_size, dtype, n_threads, source, self._cells)

    def _loss_and_gradients(
        self, parameters: Parameters, batch: Passage, gradients: Parameters, n_threads: int
    ) -> float:
        found = self._embeddings(parameters, n_threads)
        return text_loss.loss_and_gradients(self._network, parameters, batch, found, gradients)

    def _losses(self, parameters: Parameters, batch: Passage, n_threads: int) -> Float64:
        return text_loss.losses(self._network, parameters, batch, self._embeddings(parameters, n_threads))

    def _with_parameters(self, parameters: Parameters, history: list[dict[str, Any]]) -> Self:
        other = self._copy()
        moved = {name: np.array(value, np.float32) for name, value in parameters.items()}
        other._values = {**self._solved, **moved}
        other.history = history
        return other  # type: ignore[return-value]

    # ---- scoring -----------------------------------------------------------------------------------------------------

    def log_prob(
        self,
        ids: ArrayLike,
        documents: ArrayLike | None = None,
        progress: bool = False,
        dtype: DTypeLike = np.float32,
    ) -> Float64:
        """Log-probability of every token given what precedes it in its document.

        Parameters
        ----------
        ids : array_like of int, shape (M,)
        documents : array_like of int, optional
            As in :meth:`solve`.
        progress : bool
            Show progress on a terminal.
        dtype : {float32, float64}
            What it is computed in.

        Returns
        -------
        ndarray of float64, shape (M,)
            Nats.
        """
        stream, _ = self._read_text(ids, documents, self.vocab_size)
        text = self._new_text(stream, dtype)
        fixed, values = self._fixed(dtype), {name: value.astype(dtype) for name, value in self._solved.items()}

        def one(segments: Int64) -> Float64:
            first, last = text.first[segments], text.last[segments]
            found = text_loss.position_losses(self._network, values, text, fixed, first, last)
            bar.update(found.size)
            return found

        chunks = [np.arange(i, min(i + CHUNK, len(text))) for i in range(0, len(text), CHUNK)]
        with progress_bar(stream.ids.size, "score", progress) as bar, one_blas_thread():
            parts = text.workers.map(one, chunks)
        return -np.concatenate([*parts, np.empty(0)])

    def perplexity(self, ids: ArrayLike, documents: ArrayLike | None = None) -> float:
        """``exp`` of the mean negative log-probability per token."""
        log_prob = self.log_prob(ids, documents)
        if log_prob.size == 0:
            raise ValueError("ids must hold at least one token to have a perplexity")
        return float(np.exp(-log_prob.mean()))

    # ---- one token after the other -----------------------------------------------------------------------------------

    def session(self, context: ArrayLike = ()) -> Session:
        """A document to be read token by token, its hidden states kept; it begins with ``context``.

        It stays with the parameters of this moment, whatever becomes of the model.
        """
        threads = resolve_threads(self.n_threads)
        X = units.embeddings(self._solved, threads)
        return Session(self._network, self._solved, X, self.residual, self._cells).extend(context)

    def distribution(self, context: ArrayLike) -> Float64:
        """Distribution of the token that follows a context, within one document.

        Parameters
        ----------
        context : array_like of int, shape (n,)
            What precedes, oldest first, from the start of the document; may be empty.

        Returns
        -------
        ndarray of float64, shape (V,)
        """
        return self.session(validate.token_ids(context, "context", self.vocab_size)).distribution()

    def generate(
        self,
        prompt: ArrayLike = (),
        n_tokens: int = 100,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int | None = None,
        exclude: ArrayLike = (),
    ) -> Iterator[int]:
        """Draw tokens one after the other; the same seed draws the same tokens.

        Each token costs the same: the hidden states of those before it are kept.

        Parameters
        ----------
        prompt : array_like of int
            What precedes the first token drawn, from the start of the document.
        n_tokens : int
        temperature : float
            Probabilities are raised to 1 / temperature; 0 always takes the likeliest token.
        top_k : int, optional
            Draw among the k likeliest only.
        seed : int, optional
        exclude : array_like of int
            Tokens never to draw, such as that for unknown words.

        Yields
        ------
        int
        """
        drawing = Drawing(self.vocab_size, n_tokens, temperature, top_k, seed, exclude)
        session = self.session(validate.token_ids(prompt, "prompt", self.vocab_size))
        return drawing.tokens(session.distribution, session.push)

    # ---- what it is --------------------------------------------------------------------------------------------------

    def summary(self) -> dict[str, Any]:
        """Settings, sizes and bytes; those of the model that this one stands on under ``"residual"``."""
        facts = {
            **self._settings(),
            "vocab_size": self.vocab_size,
            "units": [unit.name for unit in self._network.units],
            "n_parameters": self.n_parameters,
            "bytes_parameters": sum(value.nbytes for value in self._solved.values()),
            "growth": self.growth,
            "epochs_refined": self.history[-1]["epoch"] if self.history else 0,
        }
        return facts if self.residual is None else facts | {"residual": self.residual.summary()}

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in SETTINGS} | {"contexts": list(self.contexts), "seed": self.seed}

    # ---- files -------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file, with the model that it stands on; see :func:`saffu.load`.

        An existing file is replaced only when this is whole.
        """
        checkpoint.save(self, path)

    def _to_checkpoint(self) -> tuple[dict[str, Array], dict[str, Any]]:
        known = self._known()
        arrays: dict[str, Array] = {f"parameters.{name}": value for name, value in known.parameters.items()}
        arrays |= {f"evidence.{name}": array for name, array in known.evidence.arrays().items()}
        arrays |= {f"classes.{name}": array for name, array in known.classes.arrays().items()}
        if self._cells is not None:
            arrays["cells"] = self._cells.of_word
        if self._heard is not None:
            arrays |= {f"documents.{name}": array for name, array in self._heard.arrays().items()}
        metadata: dict[str, Any] = {
            "settings": self._settings(),
            "units": [list(unit) for unit in self._network.units],
            "classes": known.classes.units,
            "growth": self.growth,
            "scalars": self.scalars,
            "attention_losses": self.attention_losses,
            "history": history_to(self.history),
            "seconds": self.seconds,
        }
        for name, part in (("residual", self.residual), ("vocabulary", self.vocabulary)):
            if part is not None:
                inner, metadata[name] = part._to_checkpoint()
                arrays |= {f"{name}.{key}": array for key, array in inner.items()}
        return arrays, metadata

    @classmethod
    def _from_checkpoint(cls, arrays: dict[str, Array], metadata: dict[str, Any]) -> Self:
        residual = None
        if "residual" in metadata:
            residual = ExplicitLM._from_checkpoint(checkpoint.with_prefix(arrays, "residual."), metadata["residual"])
        model = checkpoint.parse(lambda: cls(**metadata["settings"], residual=residual))
        found = checkpoint.parse(_units_of, metadata["units"], model.layers)
        model._network = model._network._replace(units=found)
        model.growth = checkpoint.parse(lambda: [dict(record) for record in metadata["growth"]])
        if "cells" in arrays:
            model._cells = checkpoint.parse(
                Cells, checkpoint.checked(arrays, "cells", np.int32, (arrays["cells"].size,))
            )
        model._values = model._checked(checkpoint.with_prefix(arrays, "parameters."))
        alone = model._values[f"{model._network.units[0].name}.bias"].size if residual is None else 0
        sizes = model.vocab_size, model._values["output.weights"].shape, alone
        model._evidence = Evidence.from_arrays(
            checkpoint.with_prefix(arrays, "evidence."), *sizes, len(model._network.units)
        )
        model._heard = None
        if "documents.keys" in arrays:
            model._heard = checkpoint.parse(Multiset.from_arrays, arrays["documents.keys"], arrays["documents.counts"])
        names = checkpoint.parse(lambda: tuple(map(str, metadata["classes"])))
        if not names or not {unit.name for unit in model._network.units if unit.layer == 0}.issuperset(names):
            raise checkpoint.Damaged("the units that the embeddings were solved with are damaged")
        model._classes = Classes.from_arrays(
            checkpoint.with_prefix(arrays, "classes."), model.vocab_size, model.bits, names
        )
        if any(array.shape != model._values[name].shape for name, array in model._classes.attention.items()):
            raise checkpoint.Damaged("the attention that the embeddings were solved with does not fit")
        model.scalars, model.attention_losses = (
            checkpoint.parse(lambda name=name: [float(number) for number in metadata[name]])
            for name in ("scalars", "attention_losses")
        )
        model.history = checkpoint.parse(history_from, metadata["history"])
        model.seconds = {name: checkpoint.parse(float, metadata["seconds"][name]) for name in model.seconds}
        if "vocabulary" in metadata:
            inner = checkpoint.with_prefix(arrays, "vocabulary.")
            checkpoint.parse(setattr, model, "vocabulary", Vocabulary._from_checkpoint(inner, metadata["vocabulary"]))
        if len(model.scalars) != 1 + len(model._network.units):
            raise checkpoint.Damaged(f"there are {len(model.scalars)} scalars and {len(model._network.units)} units")
        types = [model.vocab_size] + [part.vocab_size for part in [residual] if part is not None]
        if len(set(types)) > 1:
            raise checkpoint.Damaged(f"its parts have vocabularies of different sizes, {', '.join(map(str, types))}")
        return model

    def _checked(self, parameters: Parameters) -> Parameters:
        """Parameters of a file: all there, of the shapes of this architecture."""
        vocab_size = len(parameters[EMBEDDINGS]) if self._cells is None else self._cells.of_word.size
        n_outputs = vocab_size if self._cells is None else self._cells.n_cells
        shapes: dict[str, tuple[int, ...]] = {EMBEDDINGS: (vocab_size, self.bits), "output.bias": (n_outputs,)}
        widths = {unit.name: parameters[f"{unit.name}.bias"].size for unit in self._network.units}
        shapes["output.weights"] = n_outputs, sum(widths.values())
        for unit in self._network.units:
            below = sum(widths[other.name] for other in self._network.units if other.layer == unit.layer - 1)
            shapes |= units.shapes(unit, below if unit.layer else self.bits, widths[unit.name])
        if set(shapes) != set(parameters):
            raise checkpoint.Damaged(f"array {min(set(shapes) ^ set(parameters))!r} is missing, or should not be there")
        return {name: checkpoint.checked(parameters, name, np.float32, shape) for name, shape in shapes.items()}


def _units_of(records: Sequence[Sequence[Any]], n_layers: int) -> list[units.Unit]:
    """The units of a file, checked: layer by layer, each by a name of its own."""
    found = [units.Unit(int(layer), str(context), int(head), int(size)) for layer, context, head, size in records]
    for unit in found:
        validate.choice(unit.context, "context", CONTEXTS)
        if unit.head < 0 or (unit.context == "document" and (unit.layer or unit.size)):
            raise ValueError(f"unit {unit.name!r} is damaged")
        validate.integer(unit.size, "size", 0 if unit.context == "document" else 1)
    layers = [unit.layer for unit in found]
    if layers != sorted(layers) or set(layers) != set(range(n_layers)) or len({u.name for u in found}) < len(found):
        raise ValueError("the units of the file are not those of a network")
    return found


def _contexts(contexts: Sequence[str]) -> tuple[str, ...]:
    if isinstance(contexts, str):
        contexts = (contexts,)
    for context in contexts:
        validate.choice(context, "contexts", CONTEXTS)
    if not contexts:
        raise ValueError(f"contexts must name at least one of {', '.join(CONTEXTS)}")
    return contexts_in_order(contexts)


def _continued(history: list[dict[str, Any]], more: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records of two refinements, one from where the other ended, as of one."""
    if not history:
        return more
    epoch, seconds = history[-1]["epoch"], history[-1]["seconds"]
    return history + [r | {"epoch": epoch + r["epoch"], "seconds": seconds + r["seconds"]} for r in more[1:]]
