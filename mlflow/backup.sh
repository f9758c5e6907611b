#!/bin/sh
# Copies database and artifacts of the running server into a new folder: sh backup.sh /backup/mlflow-2026-01-31
set -eu
[ $# -eq 1 ] || { echo "usage: sh backup.sh NEW_FOLDER" >&2; exit 2; }
umask 077
mkdir "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")"

# The database first: each file that it knows of is then among the artifacts that are read after it.
docker compose exec -T database pg_dump --username=mlflow --format=custom mlflow >"$folder/database.part"
docker compose exec -T server tar --create --file=- --directory=/artifacts . >"$folder/artifacts.part"
mv "$folder/artifacts.part" "$folder/artifacts.tar"
mv "$folder/database.part" "$folder/database.dump" # the last step: where it stands, the backup is whole
ls -l "$folder"
