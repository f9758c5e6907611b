"""The platform: searches, their trials and their records. Knows no physics."""

import trainables  # noqa: F401 - first: it turns the telemetry of dependencies off
