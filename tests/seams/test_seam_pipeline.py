"""Seam: the queue with a generator behind it. Here the generator takes its turns in this process, whenever the learner waits."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from burnish.inference.engine import Engine
from burnish.models import tiny, tokenizer
from burnish.records import Limits, Sampling
from burnish.rl.curricula.shuffled_epochs import ShuffledEpochs
from burnish.rl.filters.combine import Refill
from burnish.rl.filters.zero_variance import ZeroVariance
from burnish.rl.pipeline import spool, weights
from burnish.rl.pipeline.generator import Generator, state_of
from burnish.rl.pipeline.link import FAILED, LOG, USER_ERROR, Child
from burnish.rl.pipeline.queue import PipelineQueue, staleness
from burnish.runs.errors import UserError

TOTAL = 6
BESIDE = []


class Beside:
    """In the place of the process: a generator with a model of its own, which works while the learner looks whether it does."""

    def __init__(self, source, folder, lag, total):
        self.args = (source, folder, lag, total)
        self.version, self.deaths, self.total_deaths, self.generator = -1, 0, 0, None
        BESIDE.append(self)

    def start(self):
        self.generator = Generator(*self.args, inbox=self)

    def tell(self, message):
        self.version = message["version"]

    def watch(self):
        self.generator.turn()
        return False

    def close(self):
        if self.generator is not None and not self.generator.loop.is_closed():
            self.generator.close()


def pipelined(wire, folder, lag, total=TOTAL, **settings):
    """The learner's Wired over a PipelineQueue, and its Beside."""
    model = tiny.make("qwen3", tokenizer.byte_level(), hidden=32, layers=2)
    run = wire(model=copy.deepcopy(model), **{name: copy.deepcopy(value) for name, value in settings.items()})
    other = wire(model=copy.deepcopy(model), **{name: copy.deepcopy(value) for name, value in settings.items()})
    run.queue = PipelineQueue(run.source, lag, folder, [])
    run.queue.child = Beside(other.source, folder, lag, total)
    return run


def settings_of(fixed, **more):
    """A curriculum with a state, a filter that draws again, completions of very different lengths."""
    items = [dataclasses.replace(one, limits=Limits(4 + 8 * (n % 3))) for n, one in enumerate(fixed(n=6, group_size=2).items)]
    filters = [Refill(ZeroVariance(), prompts=3, rounds=2)]
    return {"curriculum": ShuffledEpochs(items), "filters": filters, "prompts": 3, "learning_rate": 0.02} | more


def learn(run, steps=TOTAL):
    out = []
    for _ in range(steps):
        batch, metrics = run.step(total=TOTAL)
        if isinstance(run.queue, PipelineQueue):
            run.queue.observe(batch, metrics)
        out.append((batch, metrics))
    return out


def plain(batch):
    found = batch.to_dict()
    found["metrics"] = {key: value for key, value in found["metrics"].items() if not key.startswith("pipeline/")}
    return found


def test_without_lag_it_is_the_synchronous_trainer_bit_for_bit(wire, fixed, tmp_path):
    model = tiny.make("qwen3", tokenizer.byte_level(), hidden=32, layers=2)
    alone = wire(model=model, **copy.deepcopy(settings_of(fixed)))
    run = pipelined(wire, tmp_path / "spool", 0, **settings_of(fixed))
    expected, found = learn(alone), learn(run)
    assert [plain(batch) for batch, _ in found] == [plain(batch) for batch, _ in expected]
    for (_, mine), (_, theirs) in zip(found, expected):
        assert {key: value for key, value in mine.items() if not key.startswith("pipeline/")} == theirs
    for one, two in zip(run.policy.model.parameters(), alone.policy.model.parameters()):
        assert torch.equal(one, two)
    assert any(metrics["rollouts/rounds"] > 1 for metrics in (batch.metrics for batch, _ in found)), "no round was drawn again"
    assert run.source.curriculum.drawn == alone.source.curriculum.drawn, "the learner's parts have the generator's state"


@pytest.fixture(autouse=True)
def no_loop_stays_open():
    yield
    while BESIDE:
        BESIDE.pop().close()


@pytest.mark.parametrize("lag", [1, 3])
def test_batches_come_in_order_and_no_token_is_older_than_the_lag(wire, fixed, tmp_path, lag):
    run = pipelined(wire, tmp_path / "spool", lag, **settings_of(fixed, filters=[]))
    found = learn(run)
    assert [batch.step for batch, _ in found] == list(range(1, TOTAL + 1))
    mixed = 0
    for batch, metrics in found:
        for rollout in (rollout for group in batch.groups for rollout in group.rollouts):
            versions = rollout.turns[0].version
            assert versions.min() >= max(0, batch.step - 1 - lag)
            assert versions.max() <= batch.step - 1
            assert np.all(np.diff(versions) >= 0)
            mixed += versions.min() < versions.max()
        assert metrics["pipeline/lag_max"] <= lag
        assert metrics["pipeline/lag_max"] == staleness(batch)["pipeline/lag_max"]
    assert max(metrics["pipeline/lag_max"] for _, metrics in found) == lag
    assert mixed, "no completion went on under new weights"
    # Where a token may stand on older keys, sampler and trainer differ for a reason, and no gap is taken.
    assert all(("sampling/sampling_logp_difference/max" in metrics) == (batch.version == batch.step - 1) for batch, metrics in found)


def test_a_token_names_the_weights_it_was_drawn_under_and_its_log_prob_stays_that_of_its_drawing():
    words = tokenizer.byte_level()
    torch.manual_seed(0)
    model = tiny.make("qwen3", words, hidden=32, layers=2)
    old = {name: value.clone() for name, value in model.state_dict().items()}
    new = {name: value + 0.05 * torch.randn_like(value) for name, value in old.items()}
    new["lm_head.weight"] = new["model.embed_tokens.weight"] if model.config.tie_word_embeddings else new["lm_head.weight"]
    engine = Engine(model, words, (), slots=8)
    prompt = words("hello")["input_ids"]
    root = engine.prefill(prompt, sampling=Sampling(), seed=3, max_new_tokens=9)
    late = engine.fork(root, 1, seeds=[6])[0]  # its prompt is computed now, its first token drawn under the new weights
    engine.start([root])
    for _ in range(4):
        engine.step()
    engine.load_weights(new, 7)
    turn, other = engine.decode([late])[0], root
    while other.running:
        engine.step()
    versions = root.turn().version.tolist()
    assert versions == [0] * 4 + [7] * 5
    assert turn.version.tolist() == [0] + [7] * 8, "the first token's logits are those of the old weights"

    # The same by hand: keys of the old weights up to the token that was fed last under them, the new weights from there on.
    ids, expected = root.ids, []
    model.load_state_dict(old)
    model.requires_grad_(False)
    seen = model(input_ids=torch.tensor([ids[: len(prompt) + 3]]), use_cache=True)
    logp = seen.logits[0].double().log_softmax(-1)
    expected += [float(logp[len(prompt) - 1 + place, ids[len(prompt) + place]]) for place in range(4)]
    model.load_state_dict(new)
    cache = seen.past_key_values
    for place in range(3, 8):
        seen = model(input_ids=torch.tensor([[ids[len(prompt) + place]]]), past_key_values=cache, use_cache=True)
        expected.append(float(seen.logits[0, -1].double().log_softmax(-1)[ids[len(prompt) + place + 1]]))
    assert np.abs(root.turn().logprobs - expected).max() < 1e-5


def crash(run, source):
    """The generator is gone and another takes its place."""
    child = run.queue.child
    child.generator.close()
    child.args = (source, *child.args[1:])
    child.start()


def test_a_dead_generator_costs_only_what_was_half_done(wire, fixed, tmp_path):
    """At k = 0 the batches must come out the same, so that what was lost or drawn twice would show."""
    long = settings_of(fixed, filters=[])
    expected = learn(pipelined(wire, tmp_path / "unbroken", 0, **long))
    folder = tmp_path / "spool"
    run = pipelined(wire, folder, 0, **long)
    found = learn(run, 2)
    run.queue.push(2)
    generator = run.queue.child.generator
    generator._changed.clear()
    generator._load()
    assert generator._start()
    while not (folder / "open-000003.jsonl").exists():  # until the first group is finished
        generator.loop.run_until_complete(_once())
    lines = (folder / "open-000003.jsonl").read_bytes()
    finished = lines.count(b"\n")
    assert 0 < finished < 3
    (folder / "open-000003.jsonl").write_bytes(lines + b'{"round": 0, "place": 2, "rollo')  # torn by the kill
    with open(folder / spool.JOURNAL, "ab") as file:
        file.write(b'{"done": 3, "ser')
    (folder / "batch-000003").mkdir()  # finished, but the journal does not say so
    (folder / "tmp-parts-000009").mkdir()
    again = wire(model=copy.deepcopy(generator.source.policy.model), **copy.deepcopy(long))
    crash(run, again.source)
    assert not (folder / "batch-000003").exists()
    assert not (folder / "tmp-parts-000009").exists()
    found += learn(run, TOTAL - 2)
    assert [plain(batch) for batch, _ in found] == [plain(batch) for batch, _ in expected]
    assert found[-1][1]["pipeline/half_done"] == 3 - finished
    tokens = sum(len(rollout.output_ids) for batch, _ in found[2:] for group in batch.groups for rollout in group.rollouts)
    kept = sum(len(rollout.output_ids) for place in range(finished) for rollout in _group(lines, place))
    assert again.source.engine.stats["sampled"] == tokens - kept, "a finished group was drawn again"
    drawn = [(line["drawn"], line["round"]) for line in spool.whole_lines(folder / spool.JOURNAL) if "drawn" in line]
    assert drawn == [(step, 0) for step in range(1, TOTAL + 1)]


async def _once():
    import asyncio

    await asyncio.sleep(0)


def _group(lines, place):
    from burnish.records import Rollout

    return [Rollout.from_dict(one) for one in json.loads(lines.split(b"\n")[place])["rollouts"]]


def test_a_dead_learner_goes_on_from_its_checkpoint_with_the_batches_that_were_finished(wire, fixed, tmp_path):
    """Killed in step 5, saved after step 2: steps 3 to 5 are learnt again from the same batches, and end in the same weights."""
    config = settings_of(fixed, filters=[])
    whole = []
    run = pipelined(wire, tmp_path / "run" / "pipeline", 2, **config)

    def witness(batch, metrics):
        run.queue.observe(batch, metrics)
        whole.append((batch, [parameter.clone() for parameter in run.policy.model.parameters()]))
        if batch.step == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run.trainer(tmp_path / "run", total=TOTAL, save_steps=2, after=witness).run()
    (tmp_path / "run" / "checkpoint-4" / "state.json").unlink()  # and the newest checkpoint is broken
    again = pipelined(wire, tmp_path / "run" / "pipeline", 2, **config)
    seen = []

    def after(batch, metrics):
        again.queue.observe(batch, metrics)
        seen.append((batch, [parameter.clone() for parameter in again.policy.model.parameters()]))

    again.trainer(tmp_path / "run", total=TOTAL, save_steps=2, resume=True, after=after).run()
    assert [batch.step for batch, _ in seen] == [3, 4, 5, 6]
    for (batch, mine), (before, theirs) in zip(seen, whole[2:]):
        assert plain(batch) == plain(before)
        assert all(torch.equal(one, two) for one, two in zip(mine, theirs))
    assert not list((tmp_path / "run" / "pipeline").glob("batch-*")), "a finished run needs no batches"


def test_a_spool_that_does_not_go_on_where_the_checkpoint_ends_is_begun_anew_and_counted(wire, fixed, tmp_path):
    run = pipelined(wire, tmp_path / "spool", 1, **settings_of(fixed, filters=[]))
    learn(run, 3)
    run.queue.reader.drop_until(2)
    left = len(list((tmp_path / "spool").glob("batch-*")))
    again = pipelined(wire, tmp_path / "spool", 1, **settings_of(fixed, filters=[]))
    again.queue.load_state_dict({"consumed": 1})
    again.updates = 1
    with pytest.warns(UserWarning, match=f"does not go on at step 2.*{left} finished batches"):
        batch, metrics = again.step(total=TOTAL)
    again.queue.observe(batch, metrics)
    assert batch.step == 2
    assert metrics["pipeline/dropped"] == left > 0


def test_weights_of_another_model_are_refused(tmp_path):
    words = tokenizer.byte_level()
    one, two = (tiny.make("qwen3", words, hidden=32, layers=layers) for layers in (1, 2))
    weights.write(tmp_path, one, 3)
    with pytest.raises(UserError, match="do not hold the same weights"):
        weights.read(tmp_path, two)
    with pytest.raises(UserError, match="has shape"):
        weights.read(tmp_path, tiny.make("qwen3", words, hidden=64, layers=1))
    for parameter in list(one.parameters())[:-1]:
        parameter.requires_grad_(False)
    weights.write(tmp_path, one, 4)
    before = [value.clone() for value in one.parameters()]
    with torch.no_grad():
        list(one.parameters())[-1].zero_()
    assert weights.read(tmp_path, one) == 4, "only what is trained travels"
    assert all(torch.equal(a, b) for a, b in zip(before, one.parameters()))
    (tmp_path / weights.NAME).write_bytes(b"torn")
    with pytest.raises(UserError, match="missing or broken"):
        weights.read(tmp_path, one)


def test_a_broken_line_in_the_middle_of_the_journal_is_named(wire, fixed, tmp_path):
    run = wire(curriculum=fixed(max_new_tokens=4))
    spool.begin(tmp_path / "spool", 1, state_of(run.source))
    with open(tmp_path / "spool" / spool.JOURNAL, "ab") as file:
        file.write(b"nonsense\n{}\n")
    with pytest.raises(UserError, match="line 2 is not JSON; remove the folder"):
        spool.Writer(tmp_path / "spool")


# -- the process


def watched(child):
    child.start()
    end = time.monotonic() + 60
    try:
        while time.monotonic() < end:
            child.watch()
            time.sleep(0.01)
    finally:
        child.close()


def test_a_generator_that_keeps_dying_is_given_up_with_its_last_words(tmp_path):
    child = Child([sys.executable, "-c", "import sys; print('no such luck', flush=True); sys.exit(9)"], tmp_path, restarts=2)
    with pytest.raises(UserError, match=r"ended 3 times in a row .*status 9\): no such luck; see .*generator.log.*--resume"):
        watched(child)
    assert (tmp_path / LOG).read_text().count("no such luck") == 3
    child = Child([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], tmp_path, restarts=0)
    with pytest.raises(UserError, match=r"ended 1 times in a row .*signal 9"):
        watched(child)


def test_what_the_user_has_to_mend_is_said_once(tmp_path):
    text = f"import sys, json; open({str(tmp_path / FAILED)!r}, 'w').write(json.dumps({{'error': 'mend it'}})); sys.exit({USER_ERROR})"
    child = Child([sys.executable, "-c", text], tmp_path)
    with pytest.raises(UserError, match=r"^mend it$"):
        watched(child)
    assert child.total_deaths == 0


LEARNER = """
import sys, time
from pathlib import Path
from burnish.rl.pipeline.link import Child
child = Child([sys.executable, "-c", sys.argv[2]], Path(sys.argv[1]))
child.start()
child.tell({"version": 5})
print(child.process.pid, flush=True)
time.sleep(60)
"""
GENERATOR = """
import subprocess, sys, time
from burnish.rl.pipeline.link import Inbox, own_input
stream = own_input()
inbox = Inbox(stream, lambda: print("heard", inbox.version, flush=True))
inbox.start()
reader = [sys.executable, "-c", "import sys; print(sys.stdin.read())"]
print("child reads", repr(subprocess.run(reader, capture_output=True).stdout), flush=True)
end = time.monotonic() + 90
while time.monotonic() < end:
    sum(range(1000))
"""


def test_the_generator_ends_with_its_learner_whatever_it_is_doing(tmp_path):
    learner = subprocess.Popen([sys.executable, "-c", LEARNER, str(tmp_path), GENERATOR], stdout=subprocess.PIPE)
    number = int(learner.stdout.readline())
    log, end = tmp_path / LOG, time.monotonic() + 60
    while time.monotonic() < end and not all(word in log.read_text() for word in ("heard 5", "child reads b'\\n'")):
        time.sleep(0.01)
    assert "heard 5" in log.read_text(), "the message was read by the generator, not by its child"
    os.kill(number, 0)
    learner.kill()
    learner.wait()
    learner.stdout.close()
    while time.monotonic() < end and alive(number):
        time.sleep(0.01)
    assert not alive(number)


def alive(number):
    """Whether a process runs (one that waits for its new parent to read its status does not)."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
