"""Names of the files of a search directory; they never change, because searches begun earlier must resume."""

EVENT_LOG = "search.journal"
STUDY = "optuna.journal"
DESCRIPTION = "search.json"
LEADERBOARD = "leaderboard.json"
LOG = "search.log"  # what was printed, and what libraries log; of this machine alone
TOKEN = "token"  # identifies the search's run in MLflow
STAGED_FILES = "outbox"  # folder of files that wait for their export to MLflow
LOCK, OWNER = "lock", "owner.json"  # of the process that runs the search on this machine
STATE, LEASE = "state", "lease.json"  # of a search in a URL: folder of its small files, and its driver on any machine

# Files that only grow. The study is written before the event log, so a trial of the log is never missing in the study.
APPEND_ONLY = (EVENT_LOG, STUDY)
