"""What an optimiser of torch has gathered, for a larger model, so that training goes on."""

from __future__ import annotations

from typing import Any

from saffu.checkpoint_growth.names import names_in
from saffu.checkpoint_growth.plan import Plan
from saffu.checkpoint_growth.tensors import moment
from saffu.utils import validate
from saffu.utils.arrays import Array

# With which power of the gradient by a number goes what is kept of it.
POWERS = {"exp_avg": -1, "momentum_buffer": -1, "exp_avg_sq": -2, "max_exp_avg_sq": -2}
NEW_SQUARES = ("zeros", "mean")


def optimizer_state(
    optimizer: Any, *, larger_optimizer: Any, model: Any, larger: Any, plan: Plan, new_squares: str = "zeros"
) -> dict[str, Any]:
    """The moments of Adam, or the momentum of SGD, grown alongside a model.

    Old entries keep theirs: divided by the factor of a scaled entry, whose gradient is smaller by as much, and means of
    squares by its square. New entries begin at zero, and tensors of new layers without any state. Copies of a head of
    keys and values each begin with what that has gathered.

    Parameters
    ----------
    optimizer, larger_optimizer : torch optimizer
        Of the model and of the larger one; its groups may be others.
    model, larger : transformers model or saffu.torch.Transformer
        Before and after.
    plan : Plan
        By which it has grown.
    new_squares : {"zeros", "mean"}
        What means of squares of new entries begin at in a tensor that is there already. After many steps Adam takes
        them for what was gathered in all of them, so from zero the first steps of new entries are several times the
        learning rate; from the mean of the tensor's old ones they are like those of others.

    Returns
    -------
    dict
        For ``larger_optimizer.load_state_dict``, with that optimiser's own settings.

    Raises
    ------
    ValueError
        If an optimiser has parameters that are none of its model's, or keeps something of which it is not known how it
        grows.

    Examples
    --------
    >>> import torch
    >>> import saffu
    >>> from saffu.torch import Transformer
    >>> model = Transformer(saffu.Transformer(5, hidden=4, layers=1, positions=8).arrays)
    >>> adam = torch.optim.Adam(model.parameters())
    >>> model(torch.tensor([[1, 2, 3]])).sum().backward()
    >>> adam.step()
    >>> planned = saffu.grow.plan(model, hidden=6)
    >>> larger = saffu.grow.module(model, hidden=6)
    >>> next_adam = torch.optim.Adam(larger.parameters())
    >>> next_adam.load_state_dict(optimizer_state(
    ...     adam, larger_optimizer=next_adam, model=model, larger=larger, plan=planned))
    >>> next_adam.state[larger.output]["exp_avg"].shape
    torch.Size([6, 5])
    """
    validate.choice(new_squares, "new_squares", NEW_SQUARES)
    before, after = _names(model), _names(larger)
    names = names_in(plan, before.values())
    steps = {names(step.name): step for step in plan.steps}
    kept = {_name(before, p, "optimizer"): optimizer.state.get(p, {}) for p in _parameters(optimizer)}
    state: dict[int, dict[str, Any]] = {}
    for number, parameter in enumerate(_parameters(larger_optimizer)):
        step = steps[_name(after, parameter, "larger_optimizer")]
        for key, value in (kept.get(names(step.source) or "", {}) if step.source else {}).items():
            grown = value
            if getattr(value, "shape", ()) == step.old_shape and step.old_shape:
                grown = _grown(plan, step, key, value, new_squares).to(parameter.device)
            state.setdefault(number, {})[key] = grown
    return {"state": state, "param_groups": larger_optimizer.state_dict()["param_groups"]}


def _parameters(optimizer: Any) -> list[Any]:
    """Parameters in the order in which an optimiser numbers them."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _names(model: Any) -> dict[int, str]:
    """Names of a model's parameters, by their identities."""
    found = {id(parameter): name for name, parameter in model.named_parameters()}
    if hasattr(model, "with_arrays"):  # whose layers are a list of modules
        return {key: _own_name(name) if "." in name else name for key, name in found.items()}
    return found


def _own_name(name: str) -> str:
    """The array of a :class:`saffu.torch.Transformer` that a parameter is."""
    _, layer, part = name.split(".")
    return f"layer{layer}.{part}"


def _name(names: dict[int, str], parameter: Any, which: str) -> str:
    if id(parameter) not in names:
        raise ValueError(f"{which} has a parameter of shape {tuple(parameter.shape)} that is none of its model's")
    return names[id(parameter)]


def _grown(plan: Plan, step: Any, key: str, value: Any, new_squares: str) -> Any:
    import torch

    if key not in POWERS:
        raise ValueError(f"the optimiser keeps {key!r} of each number, of which it is not known how it grows")
    array: Array = value.detach().cpu().to(torch.float64 if value.dtype == torch.float64 else torch.float32).numpy()
    mean = new_squares == "mean" and POWERS[key] == -2
    made = moment(plan, step, array, POWERS[key], float(array.mean()) if mean else 0.0)
    return torch.from_numpy(made).to(value.dtype)
