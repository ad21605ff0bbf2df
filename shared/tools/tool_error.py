"""What a person is told when something did not work: the one error that the command line expects."""


class ToolError(Exception):
    """A failure that is told in one sentence, which the message is: no traceback, exit code 1."""
