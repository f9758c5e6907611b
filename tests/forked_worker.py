"""python tests/forked_worker.py FLAGS: stands for a worker of Ray, whose work a fork of ``forks.py`` does."""

import json
import os
import socket
import sys

if __name__ == "__main__":
    worker, address = os.environ["FORKED_WORKER"], os.environ["FORK_SERVER"]
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(address)
        except OSError:  # the tests are over
            os.execv(sys.executable, [sys.executable, worker, *sys.argv[1:]])
        folder = os.getcwd()  # noqa: PTH109 - importing pathlib takes longer than all the rest
        request = {"words": [worker, *sys.argv[1:]], "folder": folder, "environment": dict(os.environ)}
        request["new_group"] = os.getpgrp() == os.getpid()  # Ray ends the whole group of a worker
        socket.send_fds(server, [json.dumps(request).encode() + b"\n"], [0, 1, 2])
        with server.makefile("rb") as answers:
            status = answers.readline()
    os._exit(int(status) & 0xFF if status else 1)
