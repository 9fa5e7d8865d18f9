"""Backpropagation for what has been solved: minibatch Adam on any model that gives its loss and gradients.

May import ``saffu.utils``. Read ``refinement.py`` first.
"""
