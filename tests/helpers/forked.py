"""The command line in forked children of one process that has imported it: a command costs no start of Python.

Each child is limited in memory and time, and may be sent a signal after some seconds.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import saffu

LIMIT = 10.0  # seconds that a command may take
NO_FIGURE = (
    "saffu roadmap: warning: a figure needs matplotlib; pip install 'saffu[plot]' installs it; there will be none\n"
)


def but_for_the_figure(errors):
    """Error output without the line that a figure will be missing, where matplotlib is."""
    return errors.removeprefix(NO_FIGURE)


class CommandLine:
    """The process; ``run`` gives exit code (None after too long), output and error output of a command."""

    def __init__(self, scratch, bytes_more=0):
        package = os.path.dirname(os.path.dirname(saffu.__file__))
        path = os.pathsep.join([package, os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-P", __file__, str(bytes_more)]
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, **streams)
        self._names = {name: os.path.join(scratch, name) for name in ("stdout", "stderr")}
        self.seconds = 0.0  # that the last command took

    def run(self, folder, *arguments, interrupt_after=None, **environment):
        job = {"folder": str(folder), "arguments": [*map(str, arguments)], "environment": environment}
        print(
            json.dumps({**job, **self._names, "interrupt_after": interrupt_after}), file=self._process.stdin, flush=True
        )
        found = json.loads(self._process.stdout.readline())
        self.seconds = found["seconds"]
        return found["code"], *(Path(name).read_text("utf-8") for name in self._names.values())

    def close(self):
        self._process.communicate()


def serve(bytes_more):
    """Run one command for each line of standard input, a JSON object, and answer with one."""
    import saffu.utils.config  # children would import these again and again, when they load a model
    import saffu.vectorizers  # noqa: F401
    from saffu.cli import main as cli
    from saffu.utils import interrupts as _interrupts

    _interrupts.leave_at_once()  # as the command does while it is imported
    for line in sys.stdin:
        job = json.loads(line)
        ready, tell = os.pipe()
        child = os.fork()
        if child == 0:
            os._exit(_child(job, bytes_more, cli, _interrupts, tell))
        os.close(tell)
        os.read(ready, 1)
        os.close(ready)
        print(json.dumps(_outcome(child, job.get("interrupt_after"))), flush=True)


def _child(job, bytes_more, cli, _interrupts, tell):
    os.chdir(job["folder"])
    os.environ.update(job.get("environment", {}))
    for number, name in ((0, os.devnull), (1, job["stdout"]), (2, job["stderr"])):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    sys.stdin = open(0)  # noqa: SIM115 (as long as the process)
    if bytes_more:
        with open("/proc/self/statm") as file:
            held = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + bytes_more, resource.RLIM_INFINITY))
    os.write(tell, b".")
    code = _interrupts.Watch().run(lambda: cli.main(job["arguments"]))
    sys.stdout.flush()
    return code


def _outcome(child, interrupt_after):
    began = time.perf_counter()
    while time.perf_counter() - began < LIMIT:
        if interrupt_after is not None and time.perf_counter() - began >= interrupt_after:
            os.kill(child, signal.SIGINT)
            interrupt_after = None
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return {"code": os.waitstatus_to_exitcode(status), "seconds": time.perf_counter() - began}
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return {"code": None, "seconds": LIMIT}


if __name__ == "__main__":
    serve(int(sys.argv[1]))
