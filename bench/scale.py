"""``python -m bench.scale``: short for ``python -m bench.experiments.scale``."""

from bench.experiments.scale import main

if __name__ == "__main__":
    main()
