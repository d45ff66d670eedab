"""The quantizer that makes `from_pretrained` of transformers load a factored folder."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.auto import register_quantizer
from transformers.quantizers.base import HfQuantizer

from validate.hf.check import Checked, check_factored
from validate.hf.config import LowRankConfig
from validate.hf.errors import FactoredCheckpointError, refuse
from validate.hf.experts import ALIGNED, FactoredExperts
from validate.hf.modules import FactoredLinear, Int8Linear
from validate.hf.names import DECOMPOSITION, METHOD
from validate.hf.saving import save_factored
from validate.hf.structure import as_stored, install

_known: ContextVar[tuple[Path, Checked] | None] = ContextVar("known", default=None)


@contextlib.contextmanager
def already_checked(folder: Path, checked: Checked) -> Iterator[None]:
    """Within it the quantizer takes a folder as checked, so that its files are not read once more for their hashes."""
    token = _known.set((folder.resolve(), checked))
    try:
        yield
    finally:
        _known.reset(token)


@register_quantizer(METHOD)
class LowRankQuantizer(HfQuantizer):
    """Checks the folder, points transformers to its weight files, and puts factors where they belong.

    transformers asks it at these moments: before files are looked for, when the model is built without weights, and
    when they are loaded.
    """

    quantization_config: LowRankConfig
    requires_calibration = True  # weights are factored by `validate apply`, not while they are loaded

    def __init__(self, quantization_config: LowRankConfig, **options: Any) -> None:
        super().__init__(quantization_config, **options)
        self._folder: Path | None = None
        self._stored: frozenset[str] = frozenset()
        self.decomposition: bytes | None = None
        self.dense_fields: dict[str, Any] = {}
        """Fields of the model's configuration that dropped layers changed, as they were."""

    def update_attn_implementation(self, config: Any) -> Any:
        """Sees the configuration before files are looked for: names them, and checks the folder where it is known."""
        config.transformers_weights = self.quantization_config.weights_name
        if config.name_or_path and Path(config.name_or_path).is_dir():
            self._check(Path(config.name_or_path))
        return config

    def _check(self, folder: Path) -> None:
        """Check a folder, once."""
        if self._folder == folder.resolve():
            return
        known = _known.get()
        checked = known[1] if known is not None and known[0] == folder.resolve() else check_factored(folder)
        if LowRankConfig.of_manifest(checked.manifest) != self.quantization_config:
            raise FactoredCheckpointError(f"{folder}: the configuration given is not the folder's")
        self._folder, self._stored = folder.resolve(), frozenset(checked.tensors)
        if any(entry["name"] == DECOMPOSITION for entry in checked.manifest["files"]):
            self.decomposition = (folder / DECOMPOSITION).read_bytes()

    def _process_model_before_weight_loading(self, model: Any, **options: Any) -> Any:
        for parent in {Path(each).parent for each in options.get("checkpoint_files") or []}:
            self._check(parent)
        model.config.transformers_weights = None
        names = ("num_hidden_layers", "layer_types")
        self.dense_fields = {name: getattr(model.config, name) for name in names if hasattr(model.config, name)}
        as_stored(model, self._stored)
        self.quantization_config.layers = self._layers(model)
        install(model, self.quantization_config, self.quantization_config.layers)
        return model

    def _layers(self, model: Any) -> str:
        """Where the layers are in a class that may have a head or none, whatever the folder's own has."""
        layers, prefix = self.quantization_config.layers, f"{model.base_model_prefix}."
        for path in (layers, layers.removeprefix(prefix), f"{prefix}{layers}"):
            with contextlib.suppress(AttributeError):
                model.get_submodule(path)
                return path
        return refuse(f"no layers at {layers} in the class", type(model).__name__)

    def _process_model_after_weight_loading(self, model: Any, **options: Any) -> Any:
        for name, parameter in model.named_parameters():
            if parameter.is_floating_point() and not bool(torch.isfinite(parameter).all()):
                refuse(f"{self._folder}: {name} holds NaN or infinity")
            if parameter.device.type == "cpu" and parameter.data_ptr() % ALIGNED:
                parameter.data = parameter.data.clone()
        model.config.transformers_weights = None
        model.save_pretrained = functools.partial(save_factored, model)
        return model

    def _dequantize(self, model: Any, dtype: Any = None) -> Any:
        """The dense model of the products, so that anything that wants ordinary linears runs."""
        merge_factors(model)
        del model.save_pretrained
        return model

    def is_serializable(self) -> bool:
        """False: transformers' own way of saving writes what could be loaded without the factors; a loaded model has
        another `save_pretrained`."""
        return False

    @property
    def is_trainable(self) -> bool:
        """Whether the factors can be trained: they are ordinary linears, unless they are in int8."""
        return self.quantization_config.weight_dtype is None

    @property
    def is_qat_trainable(self) -> bool:
        """As `is_trainable`; all weights are trained, so no adapters are asked for."""
        return self.is_trainable

    @property
    def is_compileable(self) -> bool:
        """Whether `generate` may compile the model."""
        return True


def merge_factors(model: nn.Module) -> nn.Module:
    """Replace every FactoredLinear and Int8Linear by the linear that it stands for, and experts by their stacks, in
    place."""
    for name, module in list(model.named_modules()):
        if isinstance(module, FactoredExperts):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.dense())
    before = dict(model.named_modules())
    for name, module in before.items():
        parent, _, child = name.rpartition(".")
        if isinstance(module, FactoredLinear | Int8Linear) and not isinstance(before[parent], FactoredLinear):
            setattr(before[parent], child, _merged(module))
    return model


def _merged(module: FactoredLinear | Int8Linear) -> nn.Module:
    last: Any = list(module._modules.values())[-1] if isinstance(module, FactoredLinear) else module
    dtype = last.weight_scale.dtype if isinstance(last, Int8Linear) else last.weight.dtype
    weight = (module.product() if isinstance(module, FactoredLinear) else module.dense()).to(dtype)
    if module.transposed:
        dense: Any = Conv1D(module.out_features, module.in_features)
        weight = weight.T.contiguous()
    else:
        dense = nn.Linear(module.in_features, module.out_features, bias=False, device="meta")
    dense.weight = nn.Parameter(weight, requires_grad=bool(last.weight.requires_grad))
    dense.bias = last.bias
    return dense.train(module.training)  # type: ignore[no-any-return]


def load_factored(
    folder: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu", verify: bool = True
) -> nn.Module:
    """The model of a folder with its own head, in evaluation mode and without gradients.

    Args:
        dtype: of the weights in memory; None for the stored one.
        verify: compare the SHA-256 of files too, which reads them once more.

    Raises:
        FactoredCheckpointError: when the folder is not exactly what its manifest and config.json say.
    """
    from validate.hf.structure import model_classes, settings_class

    checked, folder = check_factored(folder, verify=verify), Path(folder)
    kind = model_classes(settings_class(checked.config))[checked.manifest["architecture"]]
    with already_checked(folder, checked):
        model: Any = kind.from_pretrained(
            str(folder),
            dtype=dtype or "auto",
            local_files_only=True,
            trust_remote_code=False,
        )
    return model.to(device).eval().requires_grad_(False)  # type: ignore[no-any-return]
