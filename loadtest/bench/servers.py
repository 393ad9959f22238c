"""Programs under load: where they run, what they are loaded with, and what they cost."""

import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request

import envoy

SERVER_CORE, CLIENT_CORE = "0", "1"


def median(values):
    """The middle of what is known."""
    return statistics.median([value for value in values if value is not None])


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def healthy(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthcheck", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def listens(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """A program that is pinned to a core and ends with the bench."""

    def __init__(self, name, core, command):
        self.name = name
        self.started = time.monotonic()
        self.child = subprocess.Popen(["taskset", "--cpu-list", core, *command], stdout=subprocess.DEVNULL)

    def await_condition(self, holds, pause=0.02):
        """Waits for `holds`, and returns the seconds since the start."""
        while not holds():
            if self.child.poll() is not None:
                raise RuntimeError(f"{self.name} ended with status {self.child.returncode}")
            if time.monotonic() - self.started > 30:
                raise RuntimeError(f"{self.name} does not listen after 30 seconds")
            time.sleep(pause)
        return time.monotonic() - self.started

    def rss(self):
        """Resident bytes."""
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024

    def cpu_ms(self):
        """CPU time of all its threads, finer than the kernel's ticks."""
        threads = pathlib.Path(f"/proc/{self.child.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e6

    def end(self):
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()


class Redis(Process):
    """A Redis that keeps nothing on disk."""

    def __init__(self, place):
        self.path = place / "redis.sock"
        program = os.environ.get("REDIS_SERVER", "redis-server")
        options = ["--port", "0", "--unixsocket", str(self.path), "--save", "", "--daemonize", "no"]
        super().__init__("redis", CLIENT_CORE, [program, *options])
        self.await_condition(self.path.exists)

    def command(self, *words):
        """A command's answer, as the bytes of one simple or bulk string."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.path))
            client.sendall(" ".join(words).encode() + b"\r\n")
            answer = client.makefile("rb")
            head = answer.readline()
            return answer.read(int(head[1:])).decode() if head[:1] == b"$" else head[1:].decode().strip()

    def info(self, section):
        lines = (line.partition(":") for line in self.command("INFO", section).splitlines())
        return {name: value for name, _, value in lines}

    def calls(self, command=None):
        """Commands that it has carried out, also within scripts, but for INFO; or those of one kind."""
        stats = self.info("commandstats").items()
        count = {name: int(value.split(",")[0].removeprefix("calls=")) for name, value in stats if value}
        if command:
            return count.get(f"cmdstat_{command}", 0)
        return sum(calls for name, calls in count.items() if name != "cmdstat_info")


class Server(Process):
    """Something that answers over gRPC on a port."""

    def __init__(self, name, port, command, pause=0.02):
        self.port = port
        super().__init__(name, SERVER_CORE, command)
        self.ready_ms = self.await_condition(lambda: listens(port), pause) * 1000
        self.ready_cpu_ms = self.cpu_ms()


class Bench:
    """The programs that have been built, and all that has been started."""

    def __init__(self, target, seconds):
        self.release = target / "release"
        self.seconds = seconds
        self.place = pathlib.Path(tempfile.mkdtemp())
        self.started = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()
        shutil.rmtree(self.place)

    def _keep(self, process):
        self.started.append(process)
        return process

    def end(self, *processes):
        """Ends these, or all."""
        for process in processes or list(self.started):
            self.started.remove(process)
            process.end()

    def redis(self):
        place = self.place / f"redis-{len(list(self.place.iterdir()))}"
        place.mkdir()
        return self._keep(Redis(place))

    def config(self, name, yaml):
        """A RUNTIME_ROOT with one file."""
        root = self.place / name
        (root / "config").mkdir(parents=True)
        (root / "config" / "bench.yaml").write_text(yaml)
        return root

    def ratelimit(self, name, root, redis=None, pause=0.02, **settings):
        """Our server; with a Redis that it always waits for, so that nothing is decided without it unseen."""
        port, metrics = free_port(), free_port()
        settings = {
            "backend_type": "memory", "runtime_root": root, "log_level": "error", "grpc_host": "127.0.0.1",
            "grpc_port": port, "host": "127.0.0.1", "port": 0, "debug_host": "127.0.0.1", "debug_port": 0,
            "prometheus_addr": f"127.0.0.1:{metrics}",
        } | settings
        if redis:
            settings |= {
                "backend_type": "redis", "redis_url": redis.path, "redis_timeout": "5s", "store_deadline": "5s",
                "on_store_loss": "error",
            }
        flags = [word for key, value in settings.items() for word in ("--" + key.replace("_", "-"), str(value))]
        server = Server(name, port, [str(self.release / "ratelimit"), *flags], pause)
        server.metrics = f"http://127.0.0.1:{metrics}/metrics"
        return self._keep(server)

    def floor(self, kind, redis=None):
        port = free_port()
        command = [str(self.release / "loadtest"), "floor", "--kind", kind, "--listen", f"127.0.0.1:{port}"]
        command += ["--redis", f"unix://{redis.path}"] if redis else []
        return self._keep(Server(f"the {kind} floor", port, command))

    def await_answers(self, server):
        """A replica with leases first waits for others that may know more about a Redis that is empty."""
        for _ in range(20):
            try:
                self.load(server, seconds=0.5, quiet=True)
                return
            except (RuntimeError, subprocess.CalledProcessError):
                time.sleep(0.2)
        raise RuntimeError(f"{server.name} answers with errors after 20 attempts")

    def credentials(self, kind, count, redis=None):
        """A folder with credentials, made beforehand, and the policy that accepts them. Sessions go to Redis."""
        place = self.place / f"{kind}-{count}"
        command = [self.release / "loadtest", "credentials", kind, "--count", str(count), "--out", place]
        command += ["--redis", f"unix://{redis.path}"] if redis else []
        subprocess.run(command, check=True)
        return place

    def envoy(self, listeners, clusters=()):
        """A real Envoy on the servers' core, and by their names the listeners that it has."""
        config = self.place / "envoy.json"
        config.write_text(json.dumps(envoy.bootstrap(listeners, clusters)))
        program = os.environ.get("ENVOY", "envoy")
        command = [program, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "--config-path", str(config)]
        process = self._keep(Process("Envoy", SERVER_CORE, command))
        process.await_condition(lambda: all(listens(listener.port) for listener in listeners))
        for listener in listeners:
            listener.child = process.child
        return process

    def extauth(self, name, policies, **settings):
        """Our server, with the policies of a folder in force. It serves on the one core that it has."""
        port, http = free_port(), free_port()
        settings = {
            "config_dir": policies, "grpc_addr": f"127.0.0.1:{port}", "http_addr": f"127.0.0.1:{http}", "log_level": "error",
            "cores": 1,
        } | settings
        flags = [word for key, value in settings.items() for word in ("--" + key.replace("_", "-"), str(value))]
        server = Server(name, port, [str(self.release / "extauth"), *flags])
        server.await_condition(lambda: healthy(http))
        return self._keep(server)

    def authz(self, server, *options, target="authz", **load):
        """One run of checks, or of requests through Envoy, all of them allowed: its report."""
        report = self.load(server, *options, target=target, **load)
        if report["verdicts"]["DENIED"]:
            raise RuntimeError(f"{server.name}: {report['verdicts']['DENIED']} requests were denied")
        return report

    def load(self, server, *options, target="rls", redis=None, also=None, seconds=None, warm_up=0.5, quiet=False):
        """One run of the load generator without a failure: its report."""
        command = [
            "taskset", "--cpu-list", CLIENT_CORE, str(self.release / "loadtest"), target,
            f"http://127.0.0.1:{server.port}", "--pid", str(server.child.pid), "--quiet", "--json",
            "--connections", "4", "--duration", str(seconds or self.seconds), "--warm-up", str(warm_up), *map(str, options),
        ]
        others = (also or {}) | ({"redis": redis} if redis else {})
        command += [word for name, other in others.items() for word in ("--also-pid", f"{name}={other.child.pid}")]
        complaints = subprocess.DEVNULL if quiet else None
        report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=complaints).stdout)
        if report["errors"]:
            raise RuntimeError(f"{server.name}: {report['errors']} requests failed: {report['errors_by_kind']}")
        return report

    def rounds(self, count, loads):
        """Loads all in turn, `count` times: the reports by name."""
        reports = {name: [] for name in loads}
        for _ in range(count):
            for name, load in loads.items():
                reports[name].append(load())
        return reports


def cpu(reports, of="server"):
    """Median of CPU seconds for 100,000 decisions, of the server or of `redis`."""
    costs = [report["server"] if of == "server" else report["others"][of] for report in reports]
    return median([cost and cost["cpu_seconds_per_100k"] for cost in costs])


def page_size(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return len(answer.read())
