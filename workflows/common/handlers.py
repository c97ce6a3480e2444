"""Handlers of signals and updates that no input can break.

The SDK calls a handler with as many values as came. A signal with one too many, or without the one that its handler
takes, raises a ``TypeError`` in there, and that fails the workflow's task again and again: whoever forgets ``--input``
would stop the workflow for good.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, get_type_hints

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

Result = TypeVar("Result")


def with_inputs(method: Callable[[Any, Sequence[Any]], Result]) -> Callable[..., Result]:
    """Hand all inputs to a method as they came: none, one as a ``RawValue``, or several that the SDK has decoded.

    To the SDK it is a method with one raw input, because it drops a signal that does not decode to the type declared.
    """

    def handle(self: Any, *given: Any) -> Result:
        return method(self, given)

    parameters = [
        inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD),
        inspect.Parameter("given", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=RawValue),
    ]
    functools.update_wrapper(handle, method)
    del handle.__wrapped__  # type: ignore[attr-defined]
    handle.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    handle.__annotations__ = {"given": RawValue, "return": method.__annotations__["return"]}
    if not inspect.iscoroutinefunction(method):
        return handle

    async def handle_async(self: Any, *given: Any) -> Any:
        return await method(self, given)

    functools.update_wrapper(handle_async, handle)
    return handle_async  # type: ignore[return-value]


def drop_misfits(method: Callable[..., None]) -> Callable[..., None]:
    """Ignore a signal with other inputs than the method takes; what does not decode the SDK drops itself."""
    misfit = _judge_of(method)

    @functools.wraps(method)
    def handle(self: Any, *given: Any) -> None:
        if why := misfit(given):
            workflow.logger.warning("a signal %s is dropped: %s", method.__name__, why)
            return
        method(self, *given)

    return handle


def refuse_misfits(method: Callable[..., Awaitable[Result]]) -> Callable[..., Awaitable[Result]]:
    """Fail an update with other inputs than the method takes."""
    misfit = _judge_of(method)

    @functools.wraps(method)
    async def handle(self: Any, *given: Any) -> Result:
        if why := misfit(given):
            raise ApplicationError(f"{method.__name__}: {why}", non_retryable=True)
        return await method(self, *given)

    return handle


def _judge_of(method: Callable[..., Any]) -> Callable[[Sequence[Any]], str]:
    """Make the function that says why inputs do not fit a method; empty if they do.

    An input that is no JSON comes as bytes or ``None``, whatever type was declared.
    """
    _, *parameters = inspect.signature(method).parameters.values()
    hints = get_type_hints(method)
    kinds = [hints[each.name] for each in parameters]
    least = len([each for each in parameters if each.default is inspect.Parameter.empty])

    def misfit(given: Sequence[Any]) -> str:
        if not least <= len(given) <= len(kinds):
            return f"{len(given)} inputs were given, of {len(kinds)}"
        wrong = [kind for kind, value in zip(kinds, given, strict=False) if not isinstance(value, kind)]
        return f"the input is no {wrong[0]}" if wrong else ""

    return misfit
