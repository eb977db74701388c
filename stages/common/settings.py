"""What a user has set for other programs, kept out of the stages."""

import os
import sys
import warnings

# As Python has it by itself; only __main__'s own deprecations are not told from others'.
UNSEEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


def leave_out_users_settings() -> None:
    """Drop settings that could stop a stage or spoil its pictures; before a library reads them."""
    for name in [*os.environ]:
        if name.startswith(("TORCH_LOGS", "TQDM_")):  # a wrong value ends the import
            del os.environ[name]
    # matplotlib draws without a screen, and reads no file of settings, not from the home either.
    os.environ.update({"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull})
    if sys.warnoptions:  # PYTHONWARNINGS=error: a library's deprecation would end a stage
        warnings.resetwarnings()
        for category in UNSEEN:
            warnings.simplefilter("ignore", category)
