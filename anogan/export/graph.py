"""Writes ONNX nodes: one `Graph` for the file, and one for each `Loop` or `If` body in it.

Constants lie in the outermost graph and are shared by content, so that forward and backward passes, and
every body, use one copy of each weight.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from anogan.errors import ExportError

OPSET = 18  # Old enough for the runtimes of stations, new enough for reductions with axes as inputs.
IR_VERSION = 8

FLOAT, DOUBLE, INT64, BOOL = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.BOOL
FLOAT16, UINT8, UINT16 = TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.UINT16


Precision = Literal["fp32", "fp16", "mixed", "int8"]
"""fp16 stores weights in half precision and computes in single; mixed also convolves in half; int8 is single
but for the encoder."""


class Graph:
    """A list of nodes under construction; values are known by their names."""

    def __init__(self, parent: Graph | None = None, precision: Precision = "fp32") -> None:
        """An outermost graph, or a body whose values may also come from `parent`."""
        self._root: Graph = self if parent is None else parent._root
        self.precision: Precision = precision if parent is None else parent.precision
        self._nodes: list[onnx.NodeProto] = []
        self._written: dict[tuple[Hashable, ...], tuple[str, ...]] = {}
        if parent is None:
            self._widened: dict[str, str] = {}
            self._constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}
            self._count = 0

    @property
    def root(self) -> Graph:
        """The outermost graph, whose nodes so far come before this one."""
        return self._root

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output and returns the output's name."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, n_outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Adds a node and returns the names of its outputs."""
        outputs = [self.fresh(kind) for _ in range(n_outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), outputs, **attributes))
        return outputs

    def once(self, key: tuple[Hashable, ...], write: Callable[[Graph], tuple[str, ...]]) -> tuple[str, ...]:
        """What `write` gives, or gave for the same key before: a backward pass reuses what forward wrote."""
        if key not in self._written:
            self._written[key] = write(self)
        return self._written[key]

    def rename(self, value: str, name: str) -> str:
        """Gives a value the name under which the file shows it."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        return name

    def fresh(self, kind: str) -> str:
        """A name that no other value has."""
        self._root._count += 1
        return f"{kind}_{self._root._count}"

    def constant(self, array: ArrayLike, dtype: type[np.generic] | None = None) -> str:
        """An initializer with these numbers; equal ones are stored once."""
        values: NDArray[Any] = np.asarray(array, dtype=dtype, order="C")
        constants = self._root._constants
        key = (str(values.dtype), values.shape, values.tobytes())
        if key not in constants:
            constants[key] = numpy_helper.from_array(values, self.fresh("const"))
        return constants[key].name

    def weight(self, array: NDArray[Any]) -> str:
        """A convolution's weight or bias in the precision in which convolutions compute.

        Raises:
            ExportError: A weight is too large for half precision.
        """
        if self.precision in ("fp32", "int8"):
            return self.constant(array, np.float32)
        with np.errstate(over="ignore"):
            half = np.asarray(array, np.float16)
        if not np.isfinite(half).all():
            raise ExportError(
                f"A weight of {np.abs(array).max():.3g} is too large for half precision (65504 at most); "
                "export with --precision fp32."
            )
        stored = self.constant(half)
        if self.precision == "mixed":
            return stored
        if stored not in self._root._widened:  # Outermost, where ONNX Runtime widens it once, at loading.
            self._root._widened[stored] = self._root.cast(stored, FLOAT)
        return self._root._widened[stored]

    def f32(self, value: ArrayLike) -> str:
        """A float32 constant."""
        return self.constant(value, np.float32)

    def f64(self, value: ArrayLike) -> str:
        """A float64 constant."""
        return self.constant(value, np.float64)

    def i64(self, value: ArrayLike) -> str:
        """An int64 constant."""
        return self.constant(value, np.int64)

    def cast(self, value: str, to: int) -> str:
        """The value as another ONNX element type."""
        return self.op("Cast", value, to=to)

    def include(self, model: onnx.ModelProto, x: str) -> str:
        """The nodes of a model with one input and one output, for x; returns the output."""
        graph = model.graph
        names = {tensor.name: self.constant(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
        names |= {graph.input[0].name: x, "": ""}
        for node in graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = ""
            copy.input[:] = [names[name] for name in node.input]
            names |= {name: self.fresh(node.op_type) for name in node.output}
            copy.output[:] = [names[name] for name in node.output]
            self._nodes.append(copy)
        return names[graph.output[0].name]

    def body(
        self,
        write: Callable[[Graph, list[str]], Sequence[str]],
        input_types: Sequence[int],
        output_types: Sequence[int],
    ) -> onnx.GraphProto:
        """The graph attribute of a `Loop` or `If`.

        Args:
            write: Adds the body's nodes, given its input names; returns its output names.
            input_types: ONNX element type of each input.
            output_types: And of each output.
        """
        inner = Graph(self)
        inputs = [inner.fresh("in") for _ in input_types]
        # ONNX Runtime must know that a loop's counter and condition, its first two inputs, are scalars.
        shapes: list[list[int] | None] = [[], []] + [None] * len(input_types)
        # A body's output may be an outer value or a value given twice; ONNX wants one of its own for each.
        outputs = [inner.op("Identity", value) for value in write(inner, inputs)]
        return helper.make_graph(
            inner._nodes,
            inner.fresh("body"),
            [
                helper.make_tensor_value_info(name, kind, shape)
                for name, kind, shape in zip(inputs, input_types, shapes, strict=False)
            ],
            [helper.make_tensor_value_info(n, t, None) for n, t in zip(outputs, output_types, strict=True)],
        )

    def choose(
        self,
        condition: str,
        then: Callable[[Graph], Sequence[str]],
        otherwise: Callable[[Graph], Sequence[str]],
        types: Sequence[int],
    ) -> list[str]:
        """`If`: the values of one of two bodies."""
        branches = [self.body(lambda g, _, f=f: f(g), (), types) for f in (then, otherwise)]  # type: ignore[misc]
        return self.ops("If", len(types), condition, then_branch=branches[0], else_branch=branches[1])

    def finish(
        self,
        name: str,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        defaults: Sequence[onnx.TensorProto] = (),
    ) -> onnx.ModelProto:
        """The model; `defaults` are the values of optional inputs, by the inputs' names."""
        graph = helper.make_graph(
            self._nodes, name, list(inputs), list(outputs), [*defaults, *self._constants.values()]
        )
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="anogan",
        )
