"""vllm: samples come from a vLLM engine (extra `cluster`), refreshed from the policy's weights through a folder.

Written against the source of vLLM 0.33.0: `vllm.AsyncEngineArgs`, `vllm.v1.engine.async_llm.AsyncLLM` (`from_engine_args`, `generate`,
`collective_rpc`, `reset_prefix_cache`, `shutdown`), the workers' `reload_weights`, `vllm.SamplingParams`, `vllm.TokensPrompt`. Names and
arguments were checked there; it has not been run against a live vLLM.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import os
import shutil
import tempfile
import weakref
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from burnish.inference.backends.loop_thread import LoopThread
from burnish.inference.backends.protocol import Chunk, Request, merged
from burnish.models.heads import base_of
from burnish.models.lora import merged_state
from burnish.models.quant import is_quantised
from burnish.records import Sampling, StopReason
from burnish.runs import atomic, ranks
from burnish.runs.errors import UserError

TEMPERATURES = (0.01, 2.0)  # vLLM raises a positive temperature below the first to it, and refuses one above the second
SET_HERE = ("model", "logprobs_mode", "generation_config", "tokenizer", "skip_tokenizer_init", "quantization")


class VLLM:
    """gpu_memory_utilization: share of each GPU's memory for weights and cache; the trainer needs the rest where they share one.

    tensor_parallel_size: GPUs that hold the model together. max_model_len: longest row, prompt included (None: the model's context).
    dtype: of vLLM's weights (None: the policy's). folder: where weights are handed over; a memory disk such as /dev/shm is fastest
    (None: a temporary folder). It takes the size of the model. engine_args: further arguments of vLLM's AsyncEngineArgs.

    Log-probs are vLLM's `processed_logprobs`: after the division by the temperature, and, as truncation and bans are refused, of the whole
    distribution, which makes them the policy's own. They still differ from the trainer's by rounding, as other kernels computed them.
    A seed repeats a completion only as far as vLLM's batches do not change its bits.
    """

    capabilities = frozenset({"token_ids", "logprobs", "load_weights"})

    def __init__(
        self,
        gpu_memory_utilization: float = 0.4,
        tensor_parallel_size: int = 1,
        max_model_len: int | None = None,
        dtype: str | None = None,
        enforce_eager: bool = False,
        folder: str | None = None,
        engine_args: dict[str, Any] | None = None,
    ) -> None:
        if taken := sorted(set(engine_args or ()) & set(SET_HERE)):
            raise UserError(f"rl.backend vllm: engine_args.{taken[0]} is set by burnish; leave it out")
        self.settings = {
            "gpu_memory_utilization": gpu_memory_utilization,
            "tensor_parallel_size": tensor_parallel_size,
            "max_model_len": max_model_len,
            "dtype": dtype,
            "enforce_eager": enforce_eager,
        } | (engine_args or {})
        self.folder = folder
        self.version = 0
        self._policy: Any = None
        self._engine: Any = None
        self._loop: LoopThread | None = None
        self._numbers = itertools.count()

    def check(self, sampling: Sampling) -> None:
        """Raises UserError where vLLM is not installed, for several ranks, and for sampling that it cannot do faithfully."""
        check_sampling(sampling)
        if ranks.current().world > 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError("rl.backend vllm cannot run under several training ranks; start one process, or use rl.backend: built_in")
        if importlib.util.find_spec("vllm") is None:
            raise UserError("rl.backend vllm: vllm is not installed; pip install 'burnish[cluster]' (Linux with a GPU), or use built_in")

    def bind(self, policy: Any) -> None:
        """Nothing is loaded before the first `refresh`. Raises UserError for a model that vLLM cannot be handed."""
        model = policy.model
        if hasattr(model, "burnish_score") or not hasattr(base_of(model), "save_pretrained"):
            raise UserError(f"rl.backend vllm: {type(model).__name__} is no Hugging Face model; use rl.backend: built_in")
        if is_quantised(model):
            raise UserError("rl.backend vllm cannot be handed a 4-bit base; use rl.backend: built_in, or model.quantize: none")
        self._policy = policy

    def refresh(self, version: int) -> None:
        """Writes the policy's weights, adapter merged, and has all workers read them again; what the prefix cache held is dropped."""
        if self._policy is None:
            raise RuntimeError("the vllm backend has no policy yet; call bind(policy) first")
        if self.folder is None:
            self.folder = tempfile.mkdtemp(prefix="burnish-vllm-")
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        model_folder = Path(self.folder) / "model"
        write_weights(self._policy, model_folder)
        if self._engine is None:
            self._loop = LoopThread("vllm")
            self._engine = self._loop.run(self._start(str(model_folder)))
        else:
            self._thread.run(self._reload())
        self.version = version

    async def _start(self, folder: str) -> Any:
        import vllm
        from vllm.v1.engine.async_llm import AsyncLLM

        return AsyncLLM.from_engine_args(vllm.AsyncEngineArgs(**engine_kwargs(self.settings, folder, self._policy)))

    async def _reload(self) -> None:
        # Without a path the workers read the folder again that they were started from.
        await self._engine.collective_rpc("reload_weights")
        if await self._engine.reset_prefix_cache() is False:
            raise RuntimeError("vLLM did not drop its prefix cache; the next samples would be of the old weights")

    async def submit(self, request: Request) -> AsyncIterator[Chunk]:
        """Each completion is a vLLM request of its own, with its own seed; vLLM's prefix cache computes the prompt once."""
        check_sampling(request.sampling)
        if self._engine is None:
            await asyncio.to_thread(self.refresh, self.version)
        async for chunk in merged([self._completion(request, index) for index in range(request.n)]):
            yield chunk

    async def _completion(self, request: Request, index: int) -> AsyncIterator[Chunk]:
        import vllm
        from vllm.sampling_params import RequestOutputKind

        ends = self._policy.eos_ids
        settings = vllm.SamplingParams(**sampling_kwargs(request, index, ends), output_kind=RequestOutputKind.DELTA)
        prompt = vllm.TokensPrompt(prompt_token_ids=[int(token) for token in request.prompt])
        name, version = f"burnish-{next(self._numbers)}", self.version
        async for output in self._thread.stream(lambda: self._engine.generate(prompt, settings, name)):
            yield chunk_of(output.outputs[0], index, version, ends)

    def close(self) -> None:
        """Stops vLLM's processes and removes the temporary folder."""
        if self._engine is not None:
            self._engine.shutdown()
            self._thread.close()
        self._engine = self._loop = None

    @property
    def _thread(self) -> LoopThread:
        assert self._loop is not None
        return self._loop


def check_sampling(sampling: Sampling) -> None:
    """Raises UserError for sampling whose log-probs vLLM could not give as the policy's own."""
    if sampling.truncates:
        raise UserError(
            "rl.backend vllm cannot train on top_k, top_p, min_p or bans: its log-probs would not be the policy's; leave them out"
        )
    low, high = TEMPERATURES
    if sampling.temperature and not low <= sampling.temperature <= high:
        raise UserError(f"rl.backend vllm: sampling.temperature is {sampling.temperature:g}; vLLM samples at 0 or from {low:g} to {high:g}")


def engine_kwargs(settings: dict[str, Any], folder: str, policy: Any) -> dict[str, Any]:
    """Arguments of `vllm.AsyncEngineArgs`. settings: of the constructor; None is left to the policy."""
    given = {key: value for key, value in settings.items() if value is not None}
    own = {"dtype": str(policy.dtype).removeprefix("torch."), "max_model_len": policy.max_length}
    return {
        **{key: value for key, value in own.items() if value is not None},
        "disable_log_stats": True,
        **given,
        "model": folder,
        "skip_tokenizer_init": policy.tokenizer is None,
        "generation_config": "vllm",  # no sampling settings from the model's folder
        "logprobs_mode": "processed_logprobs",
    }


def sampling_kwargs(request: Request, index: int, eos_ids: Iterable[int]) -> dict[str, Any]:
    """Arguments of `vllm.SamplingParams` for completion `index`, but for `output_kind`.

    The ids that end a completion are the policy's and the request's own, whatever vLLM would read from the model's folder. Tokens of stop
    strings and end ids stay in the output, as everywhere in burnish.
    """
    sampling = request.sampling
    return {
        "n": 1,
        "temperature": sampling.temperature,
        "seed": int(request.seeds[index]) & (2**63 - 1),  # vLLM keeps seeds as int64 and reads -1 as none
        "stop": list(sampling.stop),
        "stop_token_ids": sorted({*eos_ids, *sampling.stop_ids}),
        "ignore_eos": True,
        "max_tokens": request.max_new_tokens,
        "logprobs": 0,  # of the drawn token alone
        "detokenize": bool(sampling.stop),
        "skip_special_tokens": False,
        "include_stop_str_in_output": True,
    }


def chunk_of(output: Any, index: int, version: int, eos_ids: Iterable[int]) -> Chunk:
    """A `vllm.outputs.CompletionOutput` that holds only new tokens. Raises RuntimeError where a log-prob is missing."""
    ids = tuple(int(token) for token in output.token_ids)
    entries = list(output.logprobs or ())
    if len(entries) != len(ids) or any(token not in entry for token, entry in zip(ids, entries)):
        raise RuntimeError(f"vLLM gave {len(entries)} log-probs for {len(ids)} tokens")
    logprobs = tuple(float(entry[token].logprob) for token, entry in zip(ids, entries))
    return Chunk(index, ids, logprobs, version, stop_of(output.finish_reason, output.stop_reason, eos_ids))


def stop_of(finish_reason: str | None, stop_reason: int | str | None, eos_ids: Iterable[int]) -> StopReason | None:
    """vLLM's two reasons as one. stop_reason: the id or string that stopped it."""
    if finish_reason is None:
        return None
    if finish_reason == "stop":
        return StopReason.EOS if stop_reason is None or stop_reason in set(eos_ids) else StopReason.STOP
    return {"length": StopReason.LENGTH, "abort": StopReason.CANCELLED}.get(finish_reason, StopReason.ERROR)


def write_weights(policy: Any, folder: Path) -> None:
    """The policy as a plain Hugging Face folder: its adapter, if it has one, is merged on the way; the policy stays as it is."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    base: Any = base_of(policy.model)
    with atomic.folder(folder) as temporary:
        base.save_pretrained(temporary, state_dict=merged_state(policy.model))
        if policy.tokenizer is not None:
            policy.tokenizer.save_pretrained(temporary)


part = VLLM
