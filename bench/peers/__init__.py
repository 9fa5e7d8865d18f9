"""What saffu is measured against: the same computation in numpy, scipy, polars, scikit-learn and torch."""
