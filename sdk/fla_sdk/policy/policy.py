"""`Policy`: a trained checkpoint as something that answers `infer`."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.codec import Codec
from fla_sdk.config import override, structure
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import CheckpointError, ConfigError, FlaError, ObservationError, UnknownNameError
from fla_sdk.model import ModelInput, ModelSpec, action_prefix
from fla_sdk.normalization import NormStats
from fla_sdk.plugins import Registry
from fla_sdk.policy import checkpoint, parameters
from fla_sdk.policy.batching import Kind, Prepared, Shape, buckets, examples, shape_of, stack
from fla_sdk.policy.fetch import fetch, is_remote
from fla_sdk.policy.interface import Request, RestMode
from fla_sdk.policy.parameters import Flat
from fla_sdk.records import ModelFamily

log = logging.getLogger(__name__)


class Policy:
    """One model, one codec per embodiment it was trained for. Made by `Policy.load`."""

    def __init__(
        self,
        *,
        graph: Any,
        params: Mapping[str, Any],
        spec: ModelSpec,
        codecs: Mapping[str, Codec],
        default: str,
        description: str = "policy",
        denoising_steps: int = 10,
        guidance: float | None = None,
        seed: int = 0,
        rest_mode: RestMode = "guided",
        in_batches: bool = True,
    ) -> None:
        """`default` is the embodiment of observations that name none. Fresh policies of one seed answer alike.

        With `guidance` every prompt asks for a good advantage, for models that were trained with both (RECAP); above 1
        the actions are pushed further that way, at the cost of a second prompt. `rest_mode` is how the model continues
        chunks. `in_batches=False` is for models whose answer to one robot depends on what others are answered.
        """
        import jax

        self.spec, self.codecs, self.default = spec, dict(codecs), default
        self.description = description
        self.rest_mode: RestMode = rest_mode
        self.max_batch = 1
        self._params = {path: jax.numpy.asarray(value, spec.serving_dtype) for path, value in params.items()}
        self._rng = jax.random.key(seed)
        self._guidance, self._in_batches = guidance, in_batches
        self._warm: list[Shape] = []
        """Compiled beforehand; a request takes the smallest one that holds it."""

        def sample(params: Any, rng: Any, inputs: ModelInput, noise: Any, prefix: Any, weight: Any) -> Any:
            model = parameters.merge(graph, params)
            return model.sample(rng, inputs, steps=denoising_steps, noise=noise, prefix=prefix, guidance=weight)

        self._sample = jax.jit(sample)

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        plugins: Registry,
        embodiment: str | None = None,
        denoising_steps: int = 10,
        guidance: float | None = None,
        seed: int = 0,
        merge_lora: bool | None = None,
        model_options: Mapping[str, Any] | None = None,
    ) -> "Policy":
        """Load a checkpoint, or the newest one of a run's folder; from a URI too.

        `embodiment` is the default one, else the first that the run was trained on. `model_options` changes fields of
        the model's config that no parameter depends on; `merge_lora` is that of `assemble`. Raises `CheckpointError`
        when the files are damaged or made for another model, `UnknownNameError` when a plugin it needs is missing.
        """
        folder = checkpoint.find(fetch(path) if is_remote(path) else Path(path).expanduser())
        manifest = checkpoint.read_manifest(folder)
        family, config = model_of(manifest, plugins, where=folder)
        if family.use_files is not None:
            config = family.use_files(config, folder / checkpoint.FILES)
        if model_options:
            config = override(config, model_options, where=f"model options for {folder}")
        robots = []
        for name in manifest.embodiments:
            robot = plugins.embodiment(name)
            checkpoint.check_embodiment(robot, manifest, where=folder)
            robots.append((robot, checkpoint.read_stats(folder, name)))
        return cls.assemble(
            family,
            config,
            robots=robots,
            read=lambda: checkpoint.read_params(folder),
            where=folder,
            default=embodiment,
            description=f"{manifest.family}/{manifest.variant} of step {manifest.step}",
            denoising_steps=denoising_steps,
            guidance=guidance,
            seed=seed,
            merge_lora=merge_lora,
        )

    @classmethod
    def assemble(
        cls,
        family: ModelFamily,
        config: Any,
        *,
        robots: Sequence[tuple[Embodiment, NormStats]],
        read: Callable[[], Flat],
        where: Path,
        default: str | None = None,
        description: str = "policy",
        denoising_steps: int = 10,
        guidance: float | None = None,
        seed: int = 0,
        merge_lora: bool | None = None,
    ) -> "Policy":
        """A policy from its parts. `read` gives the parameters once all else fits; `where` is their place.

        `merge_lora` merges adapters into the weights: the same actions but for rounding, sooner. Left open it is done
        unless the config asks for what openpi computes. Raises as `load` does.
        """
        spec, tokenizer = family.spec(config), family.tokenizer(config)
        codecs = {
            robot.name: Codec(embodiment=robot, spec=spec, stats=stats, tokenizer=tokenizer) for robot, stats in robots
        }
        default = default or next(iter(codecs))
        if default not in codecs:
            raise UnknownNameError(f"embodiment of checkpoint {where}", default, codecs)
        writes = spec.action_tokens == "sampled"
        graph, expected = parameters.abstract(family, config)
        params: Mapping[str, Any] = read()
        parameters.check(params, expected, where=str(where))
        if merge_lora is None:
            merge_lora = getattr(config, "compat", None) != "openpi"
        if merge_lora and family.for_serving is not None:
            config, params = family.for_serving(config, params)
            graph, _ = parameters.abstract(family, config)
        return cls(
            graph=graph,
            params=params,
            spec=spec,
            codecs=codecs,
            default=default,
            description=description,
            denoising_steps=denoising_steps,
            guidance=guidance,
            seed=seed,
            rest_mode="none" if writes else "trained" if getattr(config, "max_delay", 0) else "guided",
            # openpi's Pi0-FAST writes until all rows end at the same moment.
            in_batches=not (writes and getattr(config, "compat", None) == "openpi"),
        )

    @property
    def metadata(self) -> dict[str, Any]:
        """What openpi's clients see; what ours see besides, the server adds from the properties below."""
        return {"default_embodiment": self.default}

    @property
    def embodiments(self) -> dict[str, Embodiment]:
        return {name: codec.embodiment for name, codec in self.codecs.items()}

    @property
    def default_embodiment(self) -> str:
        return self.default

    @property
    def horizon(self) -> int:
        return self.spec.horizon

    @property
    def guidance(self) -> bool:
        """Whether requests may bring a weight of guidance: the policy was made with one."""
        return self._guidance is not None

    def infer(
        self,
        observation: Mapping[str, Any],
        *,
        noise: NDArray[np.floating] | None = None,
        rest: NDArray[np.floating] | None = None,
        delay: int = 0,
        guidance: float | None = None,
    ) -> dict[str, Any]:
        """Answer one observation: `actions` float32 `[T, A]` in the robot's units, and `policy_timing`.

        The key `embodiment` chooses the robot; the others are those of `Embodiment.observe`. `noise` `[T, D]` replaces
        the random start of the denoising. `rest` `[n, A]` is what was not yet executed of the last chunk at the time of
        the observation; the new chunk begins with it, bound to the `delay` actions that will be executed meanwhile, and
        continues it (real-time chunking). `guidance` replaces the policy's weight. Raises `ObservationError`.
        """
        request = Request(observation=observation, rest=rest, delay=delay, guidance=guidance)
        answer = self.infer_many([request], noise=None if noise is None else np.asarray(noise)[None])[0]
        if isinstance(answer, FlaError):
            raise answer
        return answer

    def infer_many(
        self, requests: Sequence[Request | Prepared], *, noise: NDArray[np.floating] | None = None
    ) -> list[dict[str, Any] | FlaError]:
        """Answer several robots, of any embodiments: for each what `infer` returns, or the error that it raises.

        Requests of one kind go through the model together, at most `max_batch` at once: with and without `rest`, with
        and without guidance. `noise` `[B, T, D]` replaces the random start. But for rounding and random numbers a row's
        actions are those of `infer`.
        """
        begun = time.perf_counter()
        answers: dict[int, NDArray[np.float32] | FlaError] = {}
        kinds: defaultdict[Kind, dict[int, Prepared]] = defaultdict(dict)
        for index, request in enumerate(requests):
            try:
                row = request if isinstance(request, Prepared) else self.prepare(request)
            except FlaError as error:
                answers[index] = error
            else:
                kinds[row.kind][index] = row
        for rows in kinds.values():
            indices = list(rows)
            for start in range(0, len(indices), self.max_batch):
                part = indices[start : start + self.max_batch]
                drawn = None if noise is None else noise[part]
                answers |= zip(part, self._answer([rows[i] for i in part], drawn), strict=True)
        timing = {"infer_ms": (time.perf_counter() - begun) * 1000}
        return [
            one if isinstance(one, FlaError) else {"actions": one, "policy_timing": dict(timing)}
            for one in (answers[index] for index in range(len(requests)))
        ]

    def prepare(self, request: Request) -> Prepared:
        """What needs no model, in any thread: checked, converted, normalized, resized, tokenized.

        Raises `ObservationError`.
        """
        codec = self._codec(request.observation)
        sample = codec.embodiment.observe(request.observation)
        if request.guidance is not None and not self.guidance:
            raise ObservationError(
                "this policy has no guidance: serve a model that was trained with advantages with --guidance, "
                "or leave out the weight"
            )
        weight = self._guidance if request.guidance is None else request.guidance
        prefix = None
        if request.rest is not None:
            if self.rest_mode == "none":
                raise ObservationError("this model cannot continue a chunk: leave out 'rest', and wait for each answer")
            known = codec.encode_actions(np.asarray(request.rest), sample.state)
            prefix = action_prefix(known, delay=request.delay, horizon=self.spec.horizon)
        return Prepared(
            codec=codec,
            state=sample.state,
            inputs=codec.encode(attrs.evolve(sample, advantage=None if weight is None else True)),
            prefix=prefix,
            guidance=None if weight == 1 else weight,  # 1 is the prompt as it is
        )

    def warm_up(self, *, max_batch: int = 1, rest: bool = True, progress: Callable[[str], None] | None = None) -> None:
        """Compile for every embodiment and batches up to `max_batch`, so that no robot waits for it.

        `progress` is told of every program before it is compiled. Without `rest`, and where the model turns out not to
        continue chunks, `rest_mode` is "none" from then on.
        """
        if not rest:
            self.rest_mode = "none"
        self.max_batch = max_batch if self._in_batches else 1
        rng, self._warm = self._rng, []
        rows = [row for codec in self.codecs.values() for one in examples(codec) for row in self._examples(one)]
        wanted = {shape_of([row], most=1): row for row in rows}
        for size in buckets(self.max_batch)[1:]:
            for kind in dict.fromkeys(row.kind for row in rows):
                alike = [row for row in rows if row.kind == kind]
                wanted.setdefault(shape_of(alike, most=len(alike))._replace(batch=size), alike[0])
        for number, (shape, row) in enumerate(wanted.items(), 1):
            if progress is not None:
                progress(f"compiling {number} of {len(wanted)}: {shape}")
            try:
                self._run([row], shape)
                self._warm.append(shape)
            except ConfigError:
                if not shape.kind.rest:
                    raise
                self.rest_mode = "none"
        self._rng = rng

    def _examples(self, observation: Mapping[str, Any]) -> list[Prepared]:
        """The observation in each way that robots may ask about it."""
        width = self._codec(observation).embodiment.action.width
        rests = [None] if self.rest_mode == "none" else [None, np.zeros((1, width), np.float32)]
        weights = [1.0, 2.0] if self.guidance else [None]
        return [
            self.prepare(Request(observation=observation, rest=rest, guidance=weight))
            for rest in rests
            for weight in weights
        ]

    def _answer(
        self, rows: Sequence[Prepared], noise: NDArray[np.floating] | None
    ) -> list[NDArray[np.float32] | FlaError]:
        """`[T, A]` for each of the rows, which are of one kind."""
        try:
            outputs = self._run(rows, self._shape(rows), noise=noise)
        except FlaError as error:
            return [error] * len(rows)
        answers: list[NDArray[np.float32] | FlaError] = []
        for row, output in zip(rows, outputs, strict=False):  # the batch may be larger
            try:
                answers.append(row.codec.decode(output, row.state).astype(np.float32))
            except FlaError as error:  # a model that writes its actions wrote something else
                answers.append(error)
        return answers

    def _shape(self, rows: Sequence[Prepared]) -> Shape:
        shape = shape_of(rows, most=self.max_batch)
        if not self._warm or not self._in_batches:
            return shape
        if fitting := [warm for warm in self._warm if warm.holds(shape)]:
            return min(fitting, key=lambda warm: warm.cost)
        log.warning("compiling for %s: all robots wait", shape)
        self._warm.append(shape)
        return shape

    def _run(
        self, rows: Sequence[Prepared], shape: Shape, *, noise: NDArray[np.floating] | None = None
    ) -> NDArray[Any]:
        """What the model answers, `[shape.batch, ...]`; the first rows are those asked for."""
        import jax

        inputs, prefix, weight = stack(rows, shape, size=self.spec.image_size)
        if noise is not None:
            noise = np.concatenate([noise, *[noise[:1]] * (shape.batch - len(noise))])
        self._rng, rng = jax.random.split(self._rng)
        return np.asarray(self._sample(self._params, rng, inputs, noise, prefix, weight))

    def _codec(self, observation: Mapping[str, Any]) -> Codec:
        name = observation.get("embodiment", self.default)
        if isinstance(name, np.ndarray):
            name = name.item() if name.ndim == 0 else str(name)
        if name not in self.codecs:
            error = UnknownNameError("embodiment for this checkpoint", str(name), self.codecs)
            raise ObservationError(str(error))
        return self.codecs[str(name)]


def model_of(manifest: checkpoint.Manifest, plugins: Registry, *, where: Path) -> tuple[ModelFamily, Any]:
    """Family and config of the model in a checkpoint."""
    family = plugins.model(manifest.family)
    if not family.variants:
        raise CheckpointError(f"model family {family.name!r} has no variants to build {where} from")
    config_class = type(next(iter(family.variants.values())))
    return family, structure(manifest.model, config_class, where=f"{where / 'fla.json'}: model")
