"""A device that does not exist, to see what would happen on one that does.

Tensors on it refuse to meet tensors of the CPU, and, where `float64` is False (as
on Apple's GPUs), they refuse to be float64. The numbers themselves stay on the CPU.

    with Device("mps", float64=False) as device:
        x = device.put(torch.zeros(3))
"""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

INDEXING = {
    torch.Tensor.__getitem__,
    torch.Tensor.__setitem__,
    torch.Tensor.index_put,
    torch.Tensor.index_put_,
}


class OnDevice(torch.Tensor):
    "A tensor that says that it lies on the device of the surrounding `Device`."

    where = "mps"

    @property
    def device(self):
        return torch.device(OnDevice.where)

    def numpy(self, *args, **kwargs):
        raise TypeError(f"can't convert {OnDevice.where} tensor to numpy")


def plain(x):
    return x.as_subclass(torch.Tensor) if isinstance(x, OnDevice) else x


class Device(TorchFunctionMode):
    def __init__(self, kind="mps", float64=False):
        super().__init__()
        self.kind = kind
        self.float64 = float64

    def __enter__(self):
        OnDevice.where = self.kind
        return super().__enter__()

    def put(self, x):
        "The same numbers on the device; float64 becomes float32 where it has to."
        if x.dtype == torch.float64 and not self.float64:
            x = x.float()
        return plain(x).as_subclass(OnDevice)

    def _wrap(self, out):
        def wrap(x):
            if type(x) is not torch.Tensor and not isinstance(
                x, torch.nn.Parameter
            ):
                return x
            if x.dtype == torch.float64 and not self.float64:
                raise TypeError(f"{self.kind} has no float64")
            return x.as_subclass(OnDevice)

        return tree_map(wrap, out)

    def _names(self, device):
        return device is not None and torch.device(device).type == self.kind

    def _to(self, args, kwargs):
        "`x.to(...)` in all its forms."
        x, *rest = args
        device = kwargs.pop("device", None)
        for i, word in enumerate(rest):
            if isinstance(word, torch.Tensor):
                device, rest[i] = word.device, word.dtype
                break
            if isinstance(word, (torch.device, str)):
                device = rest.pop(i)
                break
        there = (
            isinstance(x, OnDevice) if device is None else self._names(device)
        )
        out = plain(x).to(*rest, **kwargs) if rest or kwargs else plain(x)
        return self._wrap(out) if there else out

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.to:
            return self._to(args, kwargs)
        if func in (torch.Tensor.cpu,):
            return plain(args[0])
        if func is torch.Tensor.as_subclass or "__get__" in getattr(
            func, "__name__", ""
        ):
            return func(*args, **kwargs)
        if (
            func is torch.autograd.grad
        ):  # it wants the very tensors of the graph
            with torch._C.DisableTorchFunctionSubclass():
                out = func(*args, **kwargs)
            there = any(isinstance(x, OnDevice) for x in tree_flatten(args)[0])
            return self._wrap(out) if there else out
        asked = kwargs.get("device")
        if self._names(asked):
            self._check_generator(kwargs)
            kwargs["device"] = "cpu"
            args, kwargs = tree_map(plain, (args, kwargs))
            return self._wrap(func(*args, **kwargs))
        tensors = [
            x
            for x in tree_flatten((args, kwargs))[0]
            if isinstance(x, torch.Tensor)
        ]
        here = [x for x in tensors if isinstance(x, OnDevice)]
        away = [x for x in tensors if not isinstance(x, OnDevice) and x.ndim]
        if func in INDEXING and isinstance(args[0], OnDevice):
            away = []
        if here and away:
            raise RuntimeError(
                f"Expected all tensors on one device, found {self.kind} and cpu "
                f"in {getattr(func, '__name__', func)}"
            )
        if here:
            self._check_generator(kwargs)
        args, kwargs = tree_map(plain, (args, kwargs))
        out = func(*args, **kwargs)
        return self._wrap(out) if here and asked is None else out

    def _check_generator(self, kwargs):
        if kwargs.get("generator") is not None:
            raise RuntimeError(f"Expected a {self.kind} generator, found cpu")
