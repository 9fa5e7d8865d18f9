"""Training by the clock and tuning, the same for every contender of an experiment."""
