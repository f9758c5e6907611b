#!/bin/sh
# Replaces database and artifacts of the server by those of a backup: sh restore.sh /backup/mlflow-2026-01-31
set -eu
[ $# -eq 1 ] || { echo "usage: sh restore.sh FOLDER_OF_A_BACKUP" >&2; exit 2; }
folder=$(cd "$1" && pwd)
[ -f "$folder/database.dump" ] || { echo "$folder holds no whole backup (database.dump is missing)" >&2; exit 2; }
cd "$(dirname "$0")"

docker compose stop server
docker compose up --detach --wait database
docker compose exec -T database dropdb --username=mlflow --if-exists --force mlflow
docker compose exec -T database createdb --username=mlflow mlflow
docker compose exec -T database pg_restore --username=mlflow --dbname=mlflow --exit-on-error --single-transaction \
    <"$folder/database.dump"
docker compose run --rm -T --no-deps server tar --extract --file=- --directory=/artifacts <"$folder/artifacts.tar"
docker compose up --detach --wait
