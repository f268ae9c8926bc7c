"""What a user's own file would hold: functions that parts of the matrix are made from."""

from burnish.chat.scripted import Scripted


class Marker:
    """A shaper that marks every other token."""

    def shape(self, completions, scores, measured):
        """The scores, with a token column."""
        for rollout, score in zip(completions.rollouts, scores, strict=True):
            score.extras["planning"] = [place % 2 for place in range(rollout.n_loss_tokens)]
        return scores


async def agent(item, chat):
    """One call."""
    await chat.complete([{"role": "user", "content": item.columns["question"]}])


def more_letters(text, columns):
    """A share in [0, 1]: how much of the text is the letter asked for."""
    return text.count(columns["letter"]) / max(1, len(text))


def lengths(completions, **columns):
    """In TRL's signature."""
    return [len(text) / 8 for text in completions]


def by_turn(rollout, columns):
    """One number a turn."""
    return [len(turn.output_ids) / 8 for turn in rollout.turns]


def by_token(rollout, columns):
    """One number a loss token."""
    return [0.1 * (place % 3) for place in range(rollout.n_loss_tokens)]


class Judge(Scripted):
    """Says yes or a score, by the length of what it is shown."""

    def __init__(self):
        super().__init__(lambda messages: f'{{"score": {len(str(messages)) % 10}, "met": true}}')


def grade(item, text, instruction):
    """Of a checklist's item that names a letter."""
    return "fully met" if item.text[-1] in text else "not met"
