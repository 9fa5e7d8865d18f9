"""What the benchmarks are measured on: corpora, labelled data sets and made-up utterances."""
