"""Ranks: one training in several processes that a launcher started: who is who, sums, gathers, and one end for all.

    with ranks.together() as here:                  # joins the other processes, where a launcher started any
        share = ranks.cut_evenly(costs, here.world)[here.rank]
        ...                                         # gradients of the own share
        here.sum_gradients(model.parameters())      # now those of one process

One process is the ordinary case: nothing of `torch.distributed` is imported then, and every method hands back what it was given.
All ranks must call the same methods in the same order. A rank that fails says so in place of the next call (`together` does it), so that
all end with the same error instead of waiting for one another. Nothing is pickled: values travel as safetensors and JSON.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import random
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from burnish.runs import wire
from burnish.runs.errors import UserError

PATIENCE = datetime.timedelta(hours=2)
"""How long a rank waits for the others. A rank that died is noticed at once, by its closed connection."""


class RankLost(UserError):
    """Another process is gone without a word: killed, out of memory, its machine lost."""


class RankFailed(RuntimeError):
    """Another rank failed with something that is not the user's to mend."""


class Ranks:
    """rank: this process's number, 0 is the main one, which alone writes. world: how many there are. local, local_world: on this machine.

    device: where this rank computes, as accelerate picked it; None for one process.
    """

    def __init__(self, rank: int = 0, world: int = 1, local: int = 0, local_world: int = 1, device: Any = None):
        self.rank, self.world, self.local, self.local_world, self.device = rank, world, local, local_world, device
        self.inside = False
        self.failed = False
        self.lost = False

    @property
    def is_main(self) -> bool:
        """The rank that writes files, evaluates and speaks."""
        return self.rank == 0

    # -- plain values: whatever `runs.stateio` can write (dicts, lists, numbers, text, tensors, arrays)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, by rank. Tensors come back on the CPU."""
        if self.world == 1:
            return [value]
        data = wire.pack(value)
        self._enter()
        return [wire.unpack(one) for one in self._gather_bytes(data)]

    def broadcast(self, value: Any = None) -> Any:
        """The main rank's value, on all."""
        if self.world == 1:
            return value
        import torch
        import torch.distributed as dist

        data = wire.pack(value) if self.is_main else b""
        self._enter()
        with self._reaching():
            size = torch.tensor([len(data)])
            dist.broadcast(size, 0)
            buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8) if self.is_main else torch.empty(int(size), dtype=torch.uint8)
            dist.broadcast(buffer, 0)
        return value if self.is_main else wire.unpack(bytes(buffer.numpy()))

    def largest(self, value: int) -> int:
        """The largest of all ranks' numbers."""
        return value if self.world == 1 else self._enter(value=value)

    def barrier(self) -> None:
        """Waits until all ranks are here."""
        if self.world > 1:
            self._enter()

    # -- tensors, in place

    def sum_gradients(self, parameters: Iterable[Any]) -> None:
        """Adds up `.grad` over the ranks (halves in float32). A parameter that has one on no rank keeps None; a missing one counts as 0.

        All ranks must name the same parameters in the same order; all get the same bits.
        """
        if self.world == 1:
            return
        import torch
        import torch.distributed as dist

        wanted = list({id(p): p for p in parameters if p.requires_grad}.values())  # shared ones once
        self._enter()
        with self._reaching():
            there = torch.tensor([p.grad is not None for p in wanted], dtype=torch.uint8)
            dist.all_reduce(there, dist.ReduceOp.MAX)
            live = [p for p, flag in zip(wanted, there.tolist()) if flag]
            for p in live:
                if p.grad is None:
                    p.grad = torch.zeros_like(p)
            for bucket in wire.buckets(live):
                wide = torch.promote_types(bucket[0].dtype, torch.float32)
                joined = wire.reachable(torch.cat([p.grad.detach().reshape(-1).to(wide) for p in bucket]))
                dist.all_reduce(joined)
                for p, summed in zip(bucket, joined.split([p.numel() for p in bucket])):
                    p.grad.copy_(summed.view_as(p.grad))

    def align(self, module: Any) -> None:
        """Gives all ranks the main rank's parameters and buffers, where they differ."""
        if self.world == 1:
            return
        import torch
        import torch.distributed as dist

        named = dict(sorted(module.state_dict().items()))
        if len(set(self.gather(wire.digest(named)))) == 1:
            return
        if len({str(forms) for forms in self.gather({name: [str(one.dtype), *one.shape] for name, one in named.items()})}) > 1:
            raise UserError("the ranks loaded different models (names, shapes or dtypes differ); give all ranks the same model")
        self._enter()
        with self._reaching(), torch.no_grad():
            for value in named.values():
                sent = wire.reachable(value.detach().clone().contiguous())
                dist.broadcast(sent, 0)
                value.copy_(sent)

    def refuse_difference(self, tensors: dict[str, Any], what: str) -> None:
        """Raises UserError on all ranks where these are not the same bits everywhere."""
        if self.world > 1 and len(set(found := self.gather(wire.digest(tensors)))) > 1:
            odd = [rank for rank, one in enumerate(found) if one != found[0]]
            raise UserError(
                f"{what} differ between rank 0 and rank {odd[0]}: every rank must start from the same model and take the same steps; "
                "resume from an earlier checkpoint, and report it if it happens again"
            )

    def seed_apart(self) -> None:
        """Other random numbers than the main rank's, made of what this process would draw next. Nothing on the main rank."""
        from burnish.runs import seeds

        if self.rank:
            seeds.seed_everything(seeds.seed_for(random.getrandbits(62), "rank", self.rank))

    # -- failing together

    def fail(self, error: BaseException) -> None:
        """Tells the other ranks, in place of their next call. Nothing where they know already, are gone, or everybody was told to stop."""
        if self.world == 1 or self.failed or self.lost or (isinstance(error, KeyboardInterrupt) and not error.args):
            return
        with contextlib.suppress(BaseException):
            self._enter(error)

    def _enter(self, error: BaseException | None = None, value: int = 0) -> int:
        """What every call begins with: is all well everywhere? Returns the largest `value`; raises the first rank's error on all."""
        import torch
        import torch.distributed as dist

        with self._reaching():
            state = torch.tensor([int(error is not None), value])
            dist.all_reduce(state, dist.ReduceOp.MAX)
            if not int(state[0]):
                return int(state[1])
            self.failed = True
            said = [wire.unpack(one) for one in self._gather_bytes(wire.pack(_described(error)))]
        number, kind, text = next((number, *one) for number, one in enumerate(said) if one)
        if kind == "user":
            raise UserError(text if number == 0 else f"{text} (rank {number})")
        if kind == "interrupt":
            raise KeyboardInterrupt(text)
        raise RankFailed(f"rank {number}: {text}")

    def _gather_bytes(self, data: bytes) -> list[bytes]:
        import torch
        import torch.distributed as dist

        with self._reaching():
            sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
            dist.all_gather(sizes, torch.tensor([len(data)]))
            most = max(int(size) for size in sizes)
            mine = torch.frombuffer(bytearray(data.ljust(most, b"\0")), dtype=torch.uint8)
            found = [torch.empty(most, dtype=torch.uint8) for _ in range(self.world)]
            dist.all_gather(found, mine)
        return [bytes(one[: int(size)].numpy()) for one, size in zip(found, sizes)]

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        if self.lost:
            raise RankLost("another process of this training is gone; start it again with --resume")
        try:
            yield
        except RuntimeError as error:  # what gloo and nccl raise for a closed connection or a time-out
            if isinstance(error, RankFailed):
                raise
            self.lost = True
            why = "no answer within two hours" if "imed out" in str(error) else "killed, or out of memory?"
            raise RankLost(f"rank {self.rank}: another process of this training is gone ({why}); start it again with --resume") from error


_here = Ranks()


def current() -> Ranks:
    """The ranks of this process: one of one, until `start` has joined others."""
    return _here


def launched() -> tuple[int, int]:
    """(rank, world) as the launcher's environment says; (0, 1) without one."""
    rank, world = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
    if not (rank.isdigit() and world.isdigit() and os.environ.get("MASTER_ADDR")) or int(world) < 2:
        return 0, 1
    return int(rank), int(world)


def start() -> Ranks:
    """Joins the processes that a launcher (accelerate launch, torchrun) started, once. Raises UserError where they cannot be reached."""
    global _here
    if _here.world > 1 or launched()[1] == 1:
        _warn_of_a_lone_process()
        return _here
    import torch
    from accelerate import PartialState

    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes") or not torch.cuda.is_available()
    try:  # plain values travel through gloo, gradients on a GPU through nccl
        state = PartialState(cpu=on_cpu, timeout=PATIENCE, **({} if on_cpu else {"backend": "cpu:gloo,cuda:nccl"}))
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"rank {launched()[0]} cannot reach the other processes: {reason}; check the launcher's address and port") from None
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE") or state.num_processes)
    _here = Ranks(state.process_index, state.num_processes, state.local_process_index, local_world, state.device)
    return _here


@contextlib.contextmanager
def together() -> Iterator[Ranks]:
    """All ranks enter the block and leave it together, well or with one error. Only the main rank's warnings are shown.

    Blocks inside each other are one block. One process just runs it.
    """
    here = start()
    if here.world == 1 or here.inside:
        yield here
        return
    here.inside, here.failed = True, False
    with warnings.catch_warnings():
        if not here.is_main:
            warnings.simplefilter("ignore")
        try:
            yield here
            here.barrier()
        except BaseException as error:
            here.fail(error)
            raise
        finally:
            here.inside = False


def cut_evenly(costs: Sequence[float], parts: int) -> list[list[int]]:
    """Places 0..n-1 as `parts` consecutive stretches of about equal cost (costs above 0); some are empty where there are few places."""
    out: list[list[int]] = [[] for _ in range(parts)]
    total, before = float(sum(costs)) or 1.0, 0.0
    for place, cost in enumerate(costs):
        out[min(parts - 1, int((before + cost / 2) / total * parts))].append(place)
        before += cost
    return out


def _described(error: BaseException | None) -> list[str] | None:
    if error is None:
        return None
    if isinstance(error, UserError):
        return ["user", str(error)]
    if isinstance(error, KeyboardInterrupt):
        return ["interrupt", str(error)]
    return ["defect", f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"]


def _warn_of_a_lone_process() -> None:
    """`accelerate launch --cpu --num_processes 2` starts one process (it leaves the rest to mpirun) and says nothing."""
    alone = os.environ.get("MASTER_PORT") and "WORLD_SIZE" not in os.environ and os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    if alone and _here.world == 1:
        warnings.warn(
            "accelerate launch --cpu started one process only, whatever --num_processes says; for several processes on the CPU: "
            "ACCELERATE_USE_CPU=1 accelerate launch --multi_gpu --num_processes 2 -m burnish train ...",
            stacklevel=3,
        )
