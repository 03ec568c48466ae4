"""What a user can do wrong, and how to fix it.

Every error says three things: what is wrong, where (file and line of the pipeline, or file and byte of the data),
and how to fix it. The constructor demands all three, so an error without a fix cannot be raised.

    CurateError
    ├── PlanError          found before a byte of data is read; exit code 2
    │   ├── MissingColumn      a step reads a column that nobody wrote, or wrote with another type
    │   ├── WrongDirection     a score is used against its direction
    │   ├── UnknownSetting     a setting that does not exist, or a value of the wrong type
    │   ├── MissingExtra       an optional package is not installed
    │   ├── BadPlan            labels repeated, nothing to write, a stage used in the wrong place
    │   ├── BadInput           no file matches, an unreadable location, an unwritable output
    │   └── StaleVersion       a stage's source changed and its version did not
    └── RunError           found while running; exit code 1
        ├── RowsLost           rows in != rows out + dropped + quarantined
        ├── BadData            data that cannot be used, with on_error="fail"
        ├── GuardFailed        a rule would drop too much of the target
        └── PartFailed         an item failed or killed its worker twice; names the item
"""


class CurateError(Exception):
    """A mistake with its place and its remedy.

    Args:
        what: one sentence, with the offending name or value in it.
        where: ``file:line`` of the pipeline, or file and position of the data.
        fix: what to type or change.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str, fix: str) -> None:
        super().__init__(what, where, fix)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        return f"{self.what}\n  where: {self.where}\n  fix:   {self.fix}"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.fix)


def _rebuild(kind: type[CurateError], what: str, where: str, fix: str) -> CurateError:
    return kind(what, where=where, fix=fix)


class PlanError(CurateError):
    """Found before a byte of data is read."""

    exit_code = 2


class MissingColumn(PlanError):
    """A step reads a column that no earlier step writes, or writes with another type."""


class WrongDirection(PlanError):
    """A score is used against its direction."""


class UnknownSetting(PlanError):
    """A setting that does not exist, or a value of the wrong type."""


class MissingExtra(PlanError):
    """An optional package that a step needs is not installed."""


class BadPlan(PlanError):
    """A plan that cannot be carried out as written."""


class BadInput(PlanError):
    """A location that cannot be read or written."""


class StaleVersion(PlanError):
    """A stage's source changed and its version did not."""


class RunError(CurateError):
    """Found while running."""


class RowsLost(RunError):
    """A step gave back other rows than it was given."""


class BadData(RunError):
    """Data that cannot be used, where the user asked to stop at it."""


class StoreFailed(RunError):
    """What was computed cannot be stored: no room, or no permission."""


class GuardFailed(RunError):
    """A rule would drop too much of the target."""


class PartFailed(RunError):
    """An item of work failed, or killed its worker twice."""
