"""Seam: a source that lags k versions behind its learner."""

import pytest
import torch

from burnish.models.rows import flat


def weights_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("lag", [1, 3])
def test_a_batch_is_drawn_k_updates_early_and_its_tokens_say_so(wire, fixed, lag):
    run = wire(lag=lag, curriculum=fixed(max_new_tokens=6), learning_rate=0.02, objective="dr_grpo")
    history = []
    for step in range(1, 7):
        history.append(weights_of(run.policy.model))
        batch, metrics = run.step(total=6)
        drawn = max(0, step - 1 - lag)
        kept = run.agrees(batch, logps=drawn == step - 1)
        assert (batch.step, batch.version) == (step, drawn)
        assert set(flat(kept, "version").tolist()) == {drawn}
        # What the sampler recorded is the log-prob under the weights of that version, and the loss was given today's.
        trained = weights_of(run.policy.model)
        for version, name in ((drawn, "sample_logp"), (step - 1, "logp")):
            run.policy.model.load_state_dict(history[version])
            again = run.policy.score(kept)["policy.logp"].double()
            assert float((run.seen[name].double() - again).abs().max()) <= 2e-5
        run.policy.model.load_state_dict(trained)
        # The gap is that between sampler and trainer at equal weights: it is never taken over tokens of older weights.
        on_policy = drawn == step - 1
        assert ("sampling/sampling_logp_difference/max" in metrics) == on_policy
        assert on_policy or float((run.seen["logp"] - run.seen["sample_logp"]).abs().max()) > 1e-3
    assert not run.queue.waiting
    assert run.queue.drawn == 6


def test_batches_that_wait_are_part_of_the_checkpoint(wire, fixed, tmp_path):
    def start(folder, total=6, resume=False, stop=None):
        batches = []
        run = wire(lag=2, curriculum=fixed(max_new_tokens=6), learning_rate=0.01)

        def after(batch, metrics):
            batches.append(batch)
            if batch.step == stop:
                raise InterruptedError

        return run, run.trainer(tmp_path / folder, total=total, save_steps=2, resume=resume, after=after), batches

    whole, trainer, expected = start("whole")
    trainer.run()
    _, trainer, _ = start("broken", stop=5)
    with pytest.raises(InterruptedError):
        trainer.run()
    resumed, trainer, found = start("broken", resume=True)
    trainer.run()
    assert [batch.to_dict() for batch in found] == [batch.to_dict() for batch in expected[4:]]
    # Steps 5 and 6 were waiting in checkpoint 4, drawn under versions 2 and 3: nothing was drawn again.
    assert [batch.version for batch in found] == [2, 3]
    assert resumed.source.engine.stats["sampled"] == 0
    for one, two in zip(whole.policy.model.parameters(), resumed.policy.model.parameters()):
        assert torch.equal(one, two)
