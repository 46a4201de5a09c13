"""Ctrl-C for child processes of tests."""

import signal


def heed_ctrl_c():
    """For ``preexec_fn``: a job in the background starts with Ctrl-C ignored, and hands that on."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
