#!/bin/sh
# Writes .env beside this script from env.example, with fresh passwords, readable by you alone: sh make-env.sh
set -eu
cd "$(dirname "$0")"
umask 077
set -C # never overwrite
secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
while IFS= read -r line; do
    case $line in
        MLFLOW_*_PASSWORD= | MLFLOW_SECRET_KEY=) printf '%s%s\n' "$line" "$(secret)" ;;
        *) printf '%s\n' "$line" ;;
    esac
done <env.example >.env
echo "wrote $(pwd)/.env"
