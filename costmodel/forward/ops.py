"""One operation of a forward pass, and the builder that strings operations together as the Hugging Face modules do."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from costmodel.forward.cost import (
    ACTIVATIONS,
    FP32_BYTES,
    OpCost,
    activation_program,
    elementwise,
    embedding,
    gemm,
    norm_program,
)
from costmodel.forward.routing import StackWork, grouped_work, stack_work
from costmodel.forward.work import AttentionShape, ExpertWork
from costmodel.forward.workload import Workload
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor
from costmodel.units import DType
from costmodel.weights import WeightFormat

Collective = Literal["all_reduce", "all_gather", "reduce_scatter", "alltoall", "send"]
Kind = Literal["embedding", "gemm", "attention", "kv_cache", "norm", "rope", "activation", "elementwise"] | Collective

FACTOR_SUFFIXES = (".in", ".core", ".out")
"""What the linears of a factored weight append to the module's name."""


class Op(NamedTuple):
    """An operation with what it reads and what its result occupies.

    Attributes:
        name: module path in the Hugging Face model; functions that are no module get a name of the same form.
        kind: class of operation, for calibration and for grouping in reports.
        cost: FLOPs, bytes and kernels.
        out_bytes: size of the result, alive until its last use.
        workspace_bytes: what exists besides inputs and result while the operation runs.
        gemm: (m, n, k) of a matrix product of activations with a weight, else None.
        attention: the shape of fused attention, else None.
        inputs: names of the operations whose results it reads.
        holds: names of results that it does not read but that a Python frame keeps alive until it is done.
        site: the decomposable tensor that this is the linear of, else None.
        merged_n: columns of the product that an engine makes of this dense linear and those that read the same input;
            0 where it stands alone.
        fp8: whether it is a product of fp8 inputs.
        experts: what it is of a layer of experts, where they run in one kernel; else None.
    """

    name: str
    kind: Kind
    cost: OpCost
    out_bytes: int
    workspace_bytes: int = 0
    gemm: tuple[int, int, int] | None = None
    attention: AttentionShape[int] | None = None
    inputs: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    site: str | None = None
    merged_n: int = 0
    fp8: bool = False
    experts: ExpertWork[int] | None = None

    @property
    def role(self) -> str:
        """What it is called where operations are added up: its tensor's name, its own outside the layers, else its
        kind."""
        if self.cost.message_bytes:
            return self.kind
        return self.site or (self.name if self.name in ("lm_head", "pooler.dense") else self.kind)

    @property
    def is_factor(self) -> bool:
        """Whether it is one of the linears that replace a factored weight."""
        return self.site is not None and self.name.endswith(FACTOR_SUFFIXES)


def live_bytes(ops: Sequence[Op]) -> list[int]:
    """Bytes of activations that exist while each operation runs: its inputs, its result, its workspace, and every
    earlier result that a later one reads or holds; results that nobody uses live to the end."""
    last_use = {name: position for position, op in enumerate(ops) for name in (*op.inputs, *op.holds)}
    ending = [0] * (len(ops) + 1)
    lives, live = [], 0
    for position, op in enumerate(ops):
        live += op.out_bytes
        ending[last_use.get(op.name, len(ops))] += op.out_bytes
        lives.append(live + op.workspace_bytes)
        live -= ending[position]
    return lives


def site_product(work: Workload, tensor: WeightTensor, stack: StackWork) -> Callable[..., OpCost]:
    """What gives the cost of n x k products over the rows of a stack, of a decomposable weight or one of its factors,
    from `n`, `k` and `bias`."""
    return functools.partial(
        gemm,
        stack.rows,
        act_bytes=work.act_bytes,
        weight_dtype=work.site_form(tensor),
        input_bytes=work.input_bytes,
        weights=stack.read,
        kernels=stack.kernels,
    )


def summed_rows(tensor: WeightTensor, stack: StackWork, work: Workload) -> int:
    """Rows of what several devices sum behind a weight: one of each token, also where each has passed several experts,
    whose results every device adds up first."""
    return work.tokens if tensor.experts else stack.rows


class Builder:
    """Collects operations in execution order; each method adds one and returns its name."""

    def __init__(self, model: ModelSpec, work: Workload) -> None:
        self.model = model
        self.work = work
        self.ops: list[Op] = []

    def add(
        self,
        name: str,
        kind: Kind,
        cost: OpCost,
        inputs: Sequence[str],
        out_elements: int,
        *,
        workspace: int = 0,
        gemm: tuple[int, int, int] | None = None,
        holds: Sequence[str] = (),
        site: str | None = None,
        attention: AttentionShape[int] | None = None,
        merged_n: int = 0,
        experts: ExpertWork[int] | None = None,
    ) -> str:
        """Add any operation; `out_elements` and `workspace` in elements of the activation type."""
        size = self.work.act_bytes
        self.ops.append(
            Op(
                name=name,
                kind=kind,
                cost=cost if self.work.kv_bytes == size else cost.with_kv_elements(size, self.work.kv_bytes),
                out_bytes=out_elements * size,
                workspace_bytes=workspace * size,
                gemm=gemm,
                attention=attention,
                inputs=tuple(inputs),
                holds=tuple(holds),
                site=site,
                merged_n=merged_n,
                experts=experts,
                fp8=self.work.fp8 and site is not None,
            )
        )
        return name

    def site(self, tensor: WeightTensor, source: str, *, holds: Sequence[str] = ()) -> str:
        """The linear of a decomposable tensor, dense; of a stack of experts those of all experts, whose results several
        devices sum once they are added up."""
        n, k = tensor.out_features, tensor.in_features
        stack = stack_work(tensor, self.model, self.work)
        cost, m = site_product(self.work, tensor, stack)(n, k, bias=tensor.bias), stack.rows
        name = self.add(
            tensor.path,
            "gemm",
            cost,
            [source],
            m * n,
            gemm=(m, n, k),
            holds=holds,
            site=tensor.name,
            merged_n=tensor.merged_n,
            experts=grouped_work(tensor, self.model, self.work),
        )
        if tensor.split != "columns":
            return name
        rows = summed_rows(tensor, stack, self.work)
        return self.collective("all_reduce", name, rows * n, holds=[*holds, source], site=tensor.name)

    def collective(
        self, kind: Collective, source: str, elements: int, *, holds: Sequence[str] = (), site: str | None = None
    ) -> str:
        """What devices do together to a result, the whole message of which has so many elements; not in place."""
        cost = OpCost(message_bytes=elements * self.work.act_bytes, kernels=1)
        return self.add(f"{source}.{kind}", kind, cost, [source], elements, holds=holds, site=site)

    def linear(
        self, name: str, rows: int, n: int, k: int, source: str, *, bias: bool, form: DType | WeightFormat | None = None
    ) -> str:
        """A linear that is never decomposed (LM head, pooler, projections); its weight has the compute type unless
        `form` says how else it is held."""
        dtype = DType.BF16 if self.work.fp8 else self.work.dtype
        cost = gemm(rows, n, k, act_bytes=self.work.act_bytes, weight_dtype=form or dtype, bias=bias)
        return self.add(name, "gemm", cost, [source], rows * n, gemm=(rows, n, k))

    def norm(self, name: str, source: str, *, rows: int = 0, columns: int = 0, holds: Sequence[str] = ()) -> str:
        """A norm over hidden_size, or over `columns` of `rows`; RMSNorm works in fp32 on whole-size temporaries.

        Statistics of each row exist beside them, in fp32.
        """
        rows, columns = rows or self.work.tokens, columns or self.model.hidden_size
        program = norm_program(self.model.family.norm, self.work.act_bytes)
        cost = elementwise(program, rows, columns, act_bytes=self.work.act_bytes, weight=self.model.norm_affine)
        temporaries, statistics = {"rms_norm": (3, 2), "rms_norm_fp32": (1, 1), "layer_norm": (0, 2)}[program]
        size = rows * columns
        workspace = temporaries * size + statistics * rows * FP32_BYTES // self.work.act_bytes
        return self.add(name, "norm", cost, [source], size, workspace=workspace, holds=holds)

    def activation(
        self,
        name: str,
        source: str,
        columns: int,
        *,
        rows: int = 0,
        holds: Sequence[str] = (),
        experts: ExpertWork[int] | None = None,
    ) -> str:
        """The MLP's activation; one that is written in Python is a chain of kernels with temporaries."""
        program, rows = activation_program(self.model.activation), rows or self.work.tokens
        cost = elementwise(program, rows, columns, act_bytes=self.work.act_bytes)
        size = rows * columns
        temporaries = ACTIVATIONS[self.model.activation]
        return self.add(
            name, "activation", cost, [source], size, workspace=temporaries * size, holds=holds, experts=experts
        )

    def pointwise(
        self,
        name: str,
        program: str,
        sources: Sequence[str],
        columns: int,
        *,
        rows: int = 0,
        holds: Sequence[str] = (),
        experts: ExpertWork[int] | None = None,
    ) -> str:
        """An element-wise operation on whole activations."""
        rows = rows or self.work.tokens
        cost = elementwise(program, rows, columns, act_bytes=self.work.act_bytes)
        return self.add(name, "elementwise", cost, sources, rows * columns, holds=holds, experts=experts)

    def embed(self, name: str, rows: int, columns: int, sources: Sequence[str] = ()) -> str:
        """A table look-up, of numbers that `sources` made or of the input tokens."""
        cost = embedding(rows, columns, act_bytes=self.work.act_bytes)
        return self.add(name, "embedding", cost, sources, rows * columns)
