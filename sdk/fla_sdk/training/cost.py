"""What a traced program takes: operations of its matrix products, and memory beside its arguments.

A compiler that knows the device says it better, but takes a minute and the device; this takes a walk over the trace.
Three rules stand for the compiler. Elementwise arithmetic is fused: its results are written only for what cannot be
fused with it (products, loops, gathers). A value is kept until its last reader. Results take the place of arguments
that they replace: the caller donates them. `tests/bench/plan.py` compares this with compiled programs.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import attrs
import jax

_VIEWS = {"copy", "expand_dims", "reshape", "squeeze", "stop_gradient", "transpose"}
"""Other names for the same bytes; a product reads its operands in any order of axes."""

_WRITTEN = {
    *("conv_general_dilated", "dot_general", "ragged_dot_general", "gather", "scatter", "scatter-add", "sort", "top_k"),
    *("cumsum", "scan", "while", "cond", "custom_call", "pallas_call"),
}
"""What cannot be fused: it reads memory and writes memory."""

_REDUCTIONS = ("reduce_", "argm")
"""Fused with what they read, not with what reads them."""


@attrs.frozen(kw_only=True)
class Cost:
    """Of one run of the program on one device."""

    operations: Mapping[int, float]
    """Bytes per number -> multiplications and additions of products of such numbers."""

    memory: float
    """Bytes that are held at the most, beside arguments and what replaces them."""


def cost(function: Callable[..., Any], *arguments: Any, held: Callable[[tuple[int, ...]], int] = lambda _: 1) -> Cost:
    """Of `function` at abstract `arguments`; nothing is computed.

    `held(shape)` is over how many devices arrays of a shape are split, as parameters are (`mesh.split_axis`).
    """
    closed = jax.make_jaxpr(function)(*arguments)
    return _Walk(held).cost(closed.jaxpr)


class _Value:
    """A number's or an array's place in memory."""

    __slots__ = ("held", "whole")

    def __init__(self, aval: Any, held: Callable[[tuple[int, ...]], int]) -> None:
        dtype = getattr(aval, "dtype", None)
        shape = tuple(getattr(aval, "shape", ()))
        self.whole = math.prod(shape) * getattr(dtype, "itemsize", 4)
        self.held = self.whole / held(shape)


class _Operation(NamedTuple):
    name: str
    reads: Sequence[_Value]
    writes: Sequence[_Value]
    inside: float = 0.0
    """Bytes that it holds for itself while it runs."""

    in_place: Sequence[tuple[_Value, _Value]] = ()
    """What is read -> what takes its place, if nobody reads it later."""

    @property
    def written(self) -> bool:
        return self.name in _WRITTEN

    @property
    def fused(self) -> bool:
        return not self.written and not self.name.startswith(_REDUCTIONS)


class _Walk:
    def __init__(self, held: Callable[[tuple[int, ...]], int]) -> None:
        self._held = held
        self._operations: Counter[int] = Counter()

    def cost(self, jaxpr: Any) -> Cost:
        memory = self._memory(jaxpr)
        return Cost(operations=dict(self._operations), memory=memory)

    def _memory(self, jaxpr: Any, *, sliced: Sequence[int] = (), times: int = 1) -> float:
        """The peak of a program whose arguments are there, but those numbered `sliced` have to be cut out of larger
        ones; it runs `times` times.
        """
        names = {var: self._value(var) for var in (*jaxpr.invars, *jaxpr.constvars)}
        cut = [_Operation("slice", (), (names[jaxpr.invars[number]],)) for number in sliced]
        operations = [*cut, *self._flat(jaxpr, names, times)]
        return _peak(operations, [names[var] for var in jaxpr.outvars if not _is_literal(var)])

    def _value(self, var: Any) -> _Value:
        return _Value(var.aval, self._held)

    def _flat(self, jaxpr: Any, names: dict[Any, _Value], times: int) -> Iterator[_Operation]:
        """Its operations, with those of the functions that it calls in their place."""
        for eqn in jaxpr.eqns:
            name, bodies = eqn.primitive.name, list(_bodies(eqn))
            reads = [names[var] for var in eqn.invars if not _is_literal(var)]
            if name in _VIEWS and reads:
                names[eqn.outvars[0]] = reads[0]
                continue
            if name not in _WRITTEN and len(bodies) == 1 and len(bodies[0].invars) == len(eqn.invars):
                yield from self._called(eqn, bodies[0], names, times)
                continue
            for var in eqn.outvars:
                names[var] = self._value(var)
            writes = [names[var] for var in eqn.outvars]
            if name == "scan":
                yield self._loop(eqn, bodies[0], reads, writes, names, times)
            elif name in _WRITTEN:
                before, most = Counter(self._operations), Counter[int]()
                inside = 0.0
                for body in bodies:  # branches of which one is taken, or a loop that runs an unknown number of times
                    self._operations = Counter(before)
                    inside = max(inside, self._memory(body, times=times))
                    most |= self._operations
                self._operations = most | before
                self._count(eqn, times)
                # A product has its weights in one piece.
                pieces = sum(r.whole for r in {*reads} if r.held < r.whole) if "dot" in name else 0.0
                yield _Operation(name, reads, writes, inside + pieces)
            else:
                yield _Operation(name, reads, writes)

    def _called(self, eqn: Any, body: Any, names: dict[Any, _Value], times: int) -> Iterator[_Operation]:
        inner = {var: self._value(var) for var in body.constvars}
        for var, given in zip(body.invars, eqn.invars, strict=True):
            inner[var] = self._value(var) if _is_literal(given) else names[given]
        yield from self._flat(body, inner, times)
        for var, result in zip(eqn.outvars, body.outvars, strict=True):
            names[var] = self._value(var) if _is_literal(result) else inner[result]

    def _loop(
        self,
        eqn: Any,
        body: Any,
        reads: Sequence[_Value],
        writes: Sequence[_Value],
        names: Mapping[Any, _Value],
        times: int,
    ) -> _Operation:
        length = eqn.params["length"]

        def is_cut(outer: Any, inner: Any) -> bool:
            return tuple(outer.aval.shape) == (length, *inner.aval.shape)

        pairs = list(zip(eqn.invars, body.invars, strict=True))
        sliced = [number for number, pair in enumerate(pairs) if is_cut(*pair)]
        carried = sum(not is_cut(*pair) for pair in zip(eqn.outvars, body.outvars, strict=True))
        # Constants, then what is carried, then what is cut.
        whole = [outer for outer, inner in pairs if not is_cut(outer, inner)]
        before = whole[len(whole) - carried :]
        in_place = [(names[b], w) for b, w in zip(before, writes, strict=False) if not _is_literal(b)]
        return _Operation("scan", reads, writes, self._memory(body, sliced=sliced, times=times * length), in_place)

    def _count(self, eqn: Any, times: int) -> None:
        name = eqn.primitive.name
        if name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            left = eqn.invars[0].aval
            each = math.prod(left.shape[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            left, kernel = (var.aval for var in eqn.invars)
            outputs = kernel.shape[eqn.params["dimension_numbers"].rhs_spec[0]]
            each = math.prod(kernel.shape) // outputs
        else:
            return
        self._operations[left.dtype.itemsize] += 2 * times * each * math.prod(eqn.outvars[0].aval.shape)


def _is_literal(var: Any) -> bool:
    return hasattr(var, "val")


def _bodies(eqn: Any) -> Iterator[Any]:
    for value in eqn.params.values():
        for one in value if isinstance(value, (tuple, list)) else (value,):
            if hasattr(one, "jaxpr"):
                one = one.jaxpr
            if hasattr(one, "eqns"):
                yield one


def _peak(operations: Sequence[_Operation], results: Sequence[_Value]) -> float:
    """Bytes that are live at the most. `results` take the place of arguments unless something has written them."""
    operations = _used(operations, results)
    producers = {value: one for one in operations for value in one.writes}
    read = {value for one in operations if one.written for value in one.reads}
    stored = {value for value, one in producers.items() if not one.fused or value in read}

    sources: dict[_Value, frozenset[_Value]] = {}
    last: dict[_Value, int] = {}

    def of(values: Sequence[_Value]) -> frozenset[_Value]:
        """What of `stored` they are computed from."""
        return frozenset[_Value]().union(*(sources.get(value, frozenset()) for value in values))

    for number, one in enumerate(operations):
        found = of(one.reads)
        kept = [value for value in one.writes if value in stored]
        if kept:
            last.update(dict.fromkeys((*found, *kept), number))
        for value in one.writes:
            sources[value] = frozenset({value}) if value in stored else found
    last.update(dict.fromkeys(of(results), len(operations)))

    ending: dict[int, list[_Value]] = {}
    for value, number in last.items():
        ending.setdefault(number, []).append(value)
    live = most = 0.0
    for number, one in enumerate(operations):
        replaced = sum(old.held for old, _ in one.in_place if last.get(old) == number)
        live += sum(value.held for value in one.writes if value in stored)
        most = max(most, live - replaced + one.inside)
        live -= sum(value.held for value in ending.get(number, ()))
    return most


def _used(operations: Sequence[_Operation], results: Sequence[_Value]) -> list[_Operation]:
    """Without those whose results nobody reads."""
    needed, used = set(results), list[_Operation]()
    for one in reversed(operations):
        if not needed.isdisjoint(one.writes):
            used.append(one)
            needed.update(one.reads)
    return used[::-1]
