"""Ray Tune and Optuna: proposing points, running trials, stopping and recording them.

Ray and Tune read these variables when they are imported, so they are set before any module of this package is.
"""

import os

for _name, _value in {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # CPU trials must not hide the GPUs of others
    # Ours are the loggers, the live view and the directories; Tune's own stay off.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a diverged epoch carries no metric, on purpose
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # one sentence is printed; the trial's folder has the traceback
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C requests a stop of ours
}.items():
    os.environ.setdefault(_name, _value)
