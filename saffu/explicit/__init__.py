"""The mathematics that all models share: sums per class, log weights, Newton's method, bit-cipher codes.

May import ``saffu.utils`` and the compiled core. Read ``log_weights.py`` first.
"""
