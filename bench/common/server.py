"""An engine as a process that answers requests, so that several can be measured in turns.

The protocol. The process reads one JSON object per line from
its standard input and answers each with one line on its standard output; its standard error goes to OUT/ENGINE.log. It ends when the
input ends. Paths are relative to the folder it was started in.

1. {"model": "models/gpt-text.toml", "precision": "highest" | "tf32", "weights": "F.safetensors", "data": "F.npz", "dropout": true}
   Forget the job before; build this one: first weights from the file (names and layouts of backprop's weights.safetensors), batches from the
   arrays x and y, stacked [batches, batch, …] as the network and the loss read them, used round and round; "dropout": false sets every
   p to 0. The learning rate is the configuration's, constant, whatever its schedule. "highest" is f32 throughout, "tf32" lets products and
   convolutions of f32 round their operands to TF32. Run one step (this with building and compiling is compile_s), 20 more
   ("warm_up" in the request says another number), and time as many again. Answer:
   {"engine": "jax", "model": "gpt-text", "device": "NVIDIA H100", "precision": "highest", "compile_s": 5.1, "step_ms": 0.31}
2. {"losses": 10}
   Back to the first weights and an empty optimizer, then so many steps from batch 0 on. Answer: {"losses": [4.3, …]}, one for each step:
   losses[0] is of the first weights, losses[9] of the tenth step, after nine updates.
3. {"window": 1.5, "steps": 100}
   Windows until 1.5 seconds are over, at least one. A window is 100 steps, enqueued as fast as the engine can, each with its
   batch copied from host memory, and one synchronisation after the last; its figure is its time / 100. Training goes on from window to
   window. Answer: {"step_ms": [0.302, 0.301], "steps": 100}
   With "wait": true in the first request each step is waited for instead.
A request that fails is answered with {"error": "what was wrong"}; the process goes on.
"""

import json
import os
import queue
import subprocess
import threading


class Failure(Exception):
    """An engine did not answer, or with an error."""


class Server:
    """An engine's process, on the cores given, else on all."""

    def __init__(self, name, command, log, env, cores=None):
        self.name, self.command, self.log, self.env, self.cores = name, command, log, env, cores
        self.process = None

    def start(self):
        """Starts the process; not waited for."""
        pin = (lambda: os.sched_setaffinity(0, self.cores)) if self.cores else None
        with open(self.log, "a") as log:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
            self.process = subprocess.Popen(self.command, **pipes, text=True, env={**os.environ, **self.env}, preexec_fn=pin)
        self.answers = queue.Queue()
        threading.Thread(target=self.listen, args=(self.process, self.answers), daemon=True).start()

    @staticmethod
    def listen(process, answers):
        for line in process.stdout:
            answers.put(line)
        answers.put(None)

    def ask(self, request, seconds):
        """The answer to a request. A process that gives none in time is ended; the next request starts another."""
        try:
            if self.process is None:
                self.start()
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.answers.get(timeout=max(1.0, seconds))
            answer = json.loads(line) if line else {"error": f"ended; see {self.log}"}
        except (queue.Empty, OSError, ValueError) as error:
            self.stop()
            raise Failure(f"no answer within {seconds:.0f} s to {request}: {error!r}; see {self.log}") from None
        if line is None:
            self.stop()
        if "error" in answer:
            raise Failure(answer["error"])
        return answer

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None
