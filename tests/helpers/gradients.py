"""Gradients by differences."""

import numpy as np


def central_differences(parameters, loss, step=1e-4):
    """Fourth-order central differences of a loss by every entry of every parameter."""
    found = {}
    for name, value in parameters.items():
        found[name] = np.empty_like(value)
        for place in np.ndindex(value.shape):
            at = []
            for k in (-2, -1, 1, 2):
                moved = value.copy()
                moved[place] += k * step
                at.append(loss({**parameters, name: moved}))
            found[name][place] = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * step)
    return found
