"""What ends a job that was asked for rightly."""


class JobError(RuntimeError):
    """The job cannot go on, and no key is wrong: a full disk, a cluster that does not answer.

    The message is one line with what to do. Jobs end with code 1 over it; what they have finished
    holds.
    """
