"""The context of work on a delivery that was pulled, which may be left in any order, or in none."""

from opentelemetry import context as contexts
from opentelemetry.context import Context


class DeliveryContext(Context):
    """Is what it was made of until its delivery is over, and from then on what was current before it.

    Two iterators in step, a generator that nobody closes, a task that goes on: each may keep it as the current one.
    """

    is_over = False
    is_left_behind = False
    """Whether it was left while something else was current: whoever leaves that goes on past it."""

    def __init__(self, inside: Context, outside: Context) -> None:
        super().__init__(inside)
        self.outside = _past(outside)
        if isinstance(self.outside, DeliveryContext):  # so that no chain grows with the messages
            self.outside.outside = _past(self.outside.outside)

    def get(self, key: str, default: object = None) -> object:
        """Give a value of it, or of what was current before."""
        return self.outside.get(key, default) if self.is_over else super().get(key, default)

    def copy(self) -> dict[str, object]:
        """Give what a context with a further value is made of."""
        return self.outside.copy() if self.is_over else super().copy()

    def leave(self) -> None:
        """Make what was current before it current again, where it is still the current one."""
        if contexts.get_current() is self:
            contexts.attach(_past(self.outside))
        else:
            self.is_left_behind = True


def enter(inside: Context) -> DeliveryContext:
    """Make a context of a delivery the current one."""
    entered = DeliveryContext(inside, contexts.get_current())
    contexts.attach(entered)
    return entered


def _past(context: Context) -> Context:
    while isinstance(context, DeliveryContext) and (context.is_over or context.is_left_behind):
        context = context.outside
    return context
