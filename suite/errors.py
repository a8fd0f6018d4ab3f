"""The one exception that a user is meant to see."""


class UserError(Exception):
    """A mistake that the user can mend: one line that says what was given and what to do.

    The command line prints the message alone and exits with code 2.
    """
