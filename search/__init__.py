"""The platform: searches, their trials and their records. Knows no physics."""
