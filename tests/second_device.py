"""A second device without a second processor: tensors that lie in main memory, say that they are on `far`, and mix with no others.

What CUDA refuses, an operation whose tensors are on two devices, is refused here too; values are computed for real, so that what comes
back can be compared. For mistakes of placement, which no test on the CPU alone can see. Not seen here: streams, kernels, `is_cuda`.

torch's fake tensors would not do: on a build without CUDA, indexing and copying fake CUDA tensors ask for CUDA's own guard, and
values that decide, as in `.item()`, do not exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "far"
_aten = torch.ops.aten
_ANYWHERE = {_aten._to_copy.default, _aten.copy_.default}
_INDICES = {_aten.index.Tensor, _aten.index_put_.default}
"""CUDA takes indices from main memory."""


@contextmanager
def second_device() -> Iterator[torch.device]:
    """In this thread tensors can be made on, and moved to, the device that it gives."""
    if torch._C._get_privateuse1_backend_name() != NAME:
        _setup_privateuseone_for_python_backend(NAME, _Backend())
    with _Construction(), _Placement():
        yield torch.device(NAME, 0)


class _Backend(_DummyBackendModule):
    """What torch asks a device about."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def get_rng_state(self, _device: object = None) -> torch.Tensor:
        """What torch's own checks of operators keep and put back, for as long as the process has seen this device."""
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, _device: object = None) -> None:
        torch.set_rng_state(state)


class FarTensor(torch.Tensor):
    """Shows the shape and type of `near`, which has the values, and another device."""

    near: torch.Tensor

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> FarTensor:
        found: FarTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            near.shape,
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            device=torch.device(NAME, 0),
        )
        found.near = near
        return found

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Placement(TorchDispatchMode):
    """Sees what FarTensor does not: new tensors, and those that move."""

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Construction(TorchFunctionMode):
    """`torch.tensor` moves what it made behind the back of every dispatch mode: here it makes it in main memory, and `to` moves it."""

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        if func not in (torch.tensor, torch.as_tensor) or device is None or torch.device(device).type != NAME:
            return func(*args, **kwargs)
        return func(*args, **{**kwargs, "device": "cpu"}).to(device)


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    wrappers = {id(tensor.near): tensor for tensor in tensors if isinstance(tensor, FarTensor)}
    if wrappers and func not in _ANYWHERE:
        _check_devices(func, args[:1] if func in _INDICES else tensors)
    target = kwargs.get("device")
    if func is _aten.copy_.default:
        target = args[0].device
    far = bool(wrappers) if target is None else torch.device(target).type == NAME

    def wrapped(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return wrappers.get(id(value)) if id(value) in wrappers else FarTensor(value) if far else value

    return tree_map(wrapped, func(*tree_map(_near, args), **tree_map(_near, kwargs)))


def _near(value: Any) -> Any:
    if isinstance(value, FarTensor):
        return value.near
    return torch.device("cpu") if isinstance(value, torch.device) and value.type == NAME else value


def _check_devices(func: Any, tensors: Any) -> None:
    strangers = [tensor for tensor in tensors if not isinstance(tensor, FarTensor) and tensor.dim()]
    if strangers:
        raise RuntimeError(f"{func}: tensors are on {NAME} and on {strangers[0].device}")
