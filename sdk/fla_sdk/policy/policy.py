"""`Policy`: a trained checkpoint as something that answers `infer`."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.codec import Codec, collate_inputs
from fla_sdk.config import override, structure
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import ActionTokenError, CheckpointError, ObservationError, UnknownNameError
from fla_sdk.model import ModelInput, ModelSpec, action_prefix
from fla_sdk.normalization import NormStats
from fla_sdk.plugins import Registry
from fla_sdk.policy import checkpoint, parameters
from fla_sdk.policy.fetch import fetch, is_remote
from fla_sdk.policy.parameters import Flat
from fla_sdk.records import ModelFamily


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
    ) -> None:
        """`default` is the embodiment of observations that name none. Fresh policies of one seed answer alike.

        With `guidance` every prompt asks for a good advantage, for models that were trained with both (RECAP); above 1
        the actions are pushed further that way, at the cost of a second prompt.
        """
        import jax

        self.spec, self.codecs, self.default = spec, dict(codecs), default
        self.description = description
        self._params = {path: jax.numpy.asarray(value, spec.serving_dtype) for path, value in params.items()}
        self._rng = jax.random.key(seed)
        self._advantage = None if guidance is None else True
        weight = None if guidance == 1 else guidance  # 1 is the prompt as it is

        def sample(params: Any, rng: Any, inputs: ModelInput, noise: Any, prefix: Any) -> Any:
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
        )

    @property
    def metadata(self) -> dict[str, Any]:
        """What openpi's clients see; what ours see besides, the server adds from `codecs`."""
        return {"default_embodiment": self.default}

    def infer(
        self,
        observation: Mapping[str, Any],
        *,
        noise: NDArray[np.floating] | None = None,
        rest: NDArray[np.floating] | None = None,
        delay: int = 0,
    ) -> dict[str, Any]:
        """Answer one observation: `actions` float32 `[T, A]` in the robot's units, and `policy_timing`.

        The key `embodiment` chooses the robot; the others are those of `Embodiment.observe`. `noise` `[T, D]` replaces
        the random start of the denoising. `rest` `[n, A]` is what was not yet executed of the last chunk at the time of
        the observation; the new chunk begins with it, bound to the `delay` actions that will be executed meanwhile, and
        continues it (real-time chunking). Raises `ObservationError`.
        """
        import jax

        begun = time.perf_counter()
        codec = self._codec(observation)
        sample = codec.embodiment.observe(observation)
        inputs = collate_inputs([codec.encode(attrs.evolve(sample, advantage=self._advantage))])
        self._rng, rng = jax.random.split(self._rng)
        prefix = None
        if rest is not None:
            known = codec.encode_actions(np.asarray(rest), sample.state)
            prefix = action_prefix(known, delay=delay, horizon=self.spec.horizon)
        noise = None if noise is None else np.asarray(noise)[None]
        actions = self._sample(self._params, rng, inputs, noise, prefix)
        decoded = codec.decode(np.asarray(actions)[0], sample.state).astype(np.float32)
        return {
            "actions": decoded,
            "policy_timing": {"infer_ms": (time.perf_counter() - begun) * 1000},
        }

    def warm_up(self) -> None:
        """Compile for every embodiment, so that no robot waits for it."""
        rng = self._rng
        for name, codec in self.codecs.items():
            # A model that writes its actions may not have learned to; that is for its robot to hear, not for us.
            with contextlib.suppress(ActionTokenError):
                self.infer({**codec.embodiment.example_observation(), "embodiment": name})
        self._rng = rng

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
