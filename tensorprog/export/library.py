"""What generated source is written with: small helpers and primitive functions, in NumPy and in PyTorch.

Only those that a program uses are written into its module.
"""

from __future__ import annotations

NUMPY = {
    "zeros": "def zeros(w, *shape):\n    return np.zeros(shape, next(iter(w.values())).dtype)",
    "spread": "def spread(values, *shape):\n    return np.broadcast_to(values, shape)",
    "grid": "def grid(*extents):\n    return np.ix_(*map(np.arange, extents))",
    "real": "def real(w, index):\n    return np.asarray(index, dtype=next(iter(w.values())).dtype)",
    "whole": "def whole(u):\n    return np.asarray(u).astype(int)",
    "read": '''def read(family, *index):
    """family[:, index...], zero where an index is outside."""
    inside, places = True, []
    for i, extent in zip(index, family.shape[1:]):
        inside = inside & (np.asarray(i) >= 0) & (np.asarray(i) < extent)
        places.append(np.clip(i, 0, extent - 1))
    values = family[(slice(None), *places)]
    inside = inside.reshape(inside.shape + (1,) * (values.ndim - 1 - inside.ndim))
    return np.where(inside, values, np.zeros_like(values))''',
    "only": '''def only(condition, values):
    return np.where(condition, values, np.zeros_like(values))''',
    "inner": 'def inner(u, v):\n    return np.einsum("...n,...n->...", u, v)',
    "largest": "def largest(values, axes):\n    return values.max(axis=axes)",
    "stacked": "def stacked(states, axis):\n    return np.stack([states[k] for k in sorted(states)], axis)",
    "exp": "exp = np.exp",
    "log": "log = np.log",
    "sin": "sin = np.sin",
    "cos": "cos = np.cos",
    "sinh": "sinh = np.sinh",
    "cosh": "cosh = np.cosh",
    "tanh": "tanh = np.tanh",
    "atan": "atan = np.arctan",
    "sqrt": "sqrt = np.sqrt",
    "sigmoid": "def sigmoid(u):\n    return np.exp(-np.logaddexp(0, -u))",
    "softplus": "def softplus(u):\n    return np.logaddexp(0, u)",
    "erf": "def erf(u):\n    return np.asarray(np.vectorize(math.erf, otypes=[float])(u), dtype=u.dtype)",
    "erfc": "def erfc(u):\n    return np.asarray(np.vectorize(math.erfc, otypes=[float])(u), dtype=u.dtype)",
    "normcdf": "def normcdf(u):\n    values = 0.5 * np.vectorize(math.erfc, otypes=[float])(-u / math.sqrt(2))\n"
               "    return np.asarray(values, dtype=u.dtype)",
    "normpdf": "def normpdf(u):\n    return np.exp(-0.5 * u**2) / math.sqrt(2 * math.pi)",
    "sinc": "def sinc(u):\n    return np.sinc(u / math.pi)",
    "sign": "sign = np.sign",
    "step": "def step(u):\n    return (u >= 0) * np.ones_like(u)",
    "stop": "def stop(u):\n    return u",
    "maximum": "maximum = np.maximum",
    "minimum": "minimum = np.minimum",
}

_SAME = ("exp", "log", "sin", "cos", "sinh", "cosh", "tanh", "atan", "sigmoid", "erf", "erfc", "sign")
"""Primitive functions that PyTorch has under the same name."""

TORCH = {
    "zeros": "def zeros(w, *shape):\n    return next(iter(w.values())).new_zeros(shape)",
    "spread": "def spread(values, *shape):\n    return torch.broadcast_to(values, shape)",
    "grid": '''def grid(*extents):
    axes = [torch.arange(extent) for extent in extents]
    return [a.reshape([-1 if k == j else 1 for j in range(len(axes))]) for k, a in enumerate(axes)]''',
    "real": "def real(w, index):\n    return torch.as_tensor(index).to(next(iter(w.values())))",
    "whole": "def whole(u):\n    return torch.as_tensor(u).long()",
    "read": '''def read(family, *index):
    """family[:, index...], zero where an index is outside."""
    inside, places = True, []
    for i, extent in zip(index, family.shape[1:]):
        i = torch.as_tensor(i)
        inside = inside & (i >= 0) & (i < extent)
        places.append(i.clip(0, extent - 1))
    values = family[(slice(None), *places)]
    inside = inside.reshape(inside.shape + (1,) * (values.dim() - 1 - inside.dim())).to(values.device)
    return torch.where(inside, values, torch.zeros_like(values))''',
    "only": '''def only(condition, values):
    return torch.where(torch.as_tensor(condition, device=values.device), values, torch.zeros_like(values))''',
    "inner": 'def inner(u, v):\n    return torch.einsum("...n,...n->...", u, v)',
    "largest": "def largest(values, axes):\n    return torch.amax(values, dim=axes)",
    "stacked": "def stacked(states, axis):\n    return torch.stack([states[k] for k in sorted(states)], axis)",
    **{name: f"def {name}(u):\n    return torch.{name}(torch.as_tensor(u))" for name in _SAME},
    "sqrt": "def sqrt(u):\n    return u**0.5",
    "softplus": "def softplus(u):\n    return torch.logaddexp(torch.zeros_like(u), u)",
    "normcdf": "normcdf = torch.special.ndtr",
    "normpdf": "def normpdf(u):\n    return torch.exp(-0.5 * u**2) / math.sqrt(2 * math.pi)",
    "sinc": "def sinc(u):\n    return torch.sinc(u / math.pi)",
    "step": "def step(u):\n    return (u >= 0).to(u.dtype)",
    "stop": "def stop(u):\n    return u.detach()",
    "maximum": "def maximum(u, v):\n    if isinstance(u, int) and isinstance(v, int):\n        return max(u, v)\n"
               "    return torch.maximum(*torch.broadcast_tensors(*map(torch.as_tensor, (u, v))))",
    "minimum": "def minimum(u, v):\n    if isinstance(u, int) and isinstance(v, int):\n        return min(u, v)\n"
               "    return torch.minimum(*torch.broadcast_tensors(*map(torch.as_tensor, (u, v))))",
}

HELPERS = frozenset(NUMPY) | frozenset(TORCH)

PYTHON_NAMES = {"max": "maximum", "min": "minimum"}
"""Primitive functions of the language whose names mean something else in Python."""
