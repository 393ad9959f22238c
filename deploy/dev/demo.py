#!/usr/bin/env python3
"""Runs the quickstart on a real Envoy, sends a dozen requests through it and tells what became of each.

Usage: demo.py CONTROLLER [once]

`once` ends after the story, with exit status 0 when it went as told and 1 otherwise; without it, all stays up until Ctrl-C.
"""

import base64
import contextlib
import http.client
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from browser import Browser

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOST = "www.example.com"
LOGIN_HOST = "www.localhost"
READY_SECONDS = 60
# Stands before the headers that the backend saw.
NAMES = {"> ": "the backend sees "}


def token(role):
    """A token of the example's issuer, good until the year 2100."""
    return "Bearer " + (ROOT / f"deploy/examples/jwt/{role}.jwt").read_text().strip()


def story():
    """What is sent, and what must come of it: path, headers, status, why, what the answer must show."""
    limited = "3 requests an hour for each x-user-id, counted by ratelimit"
    return [
        ("/", {}, 200, "HTTPRoute backend sends it to the echo backend", {}),
        ("/", {"host": "nobody.example.org"}, 404, "no HTTPRoute has this hostname", {}),
        ("/old/page", {}, 301, "the path moved", {"location": "/new/page"}),
        ("/limited", {"x-user-id": "ann"}, 200, limited, {"x-ratelimit-remaining": "2"}),
        ("/limited", {"x-user-id": "ann"}, 200, "the second one", {"x-ratelimit-remaining": "1"}),
        ("/limited", {"x-user-id": "ann"}, 200, "the third one", {"x-ratelimit-remaining": "0"}),
        ("/limited", {"x-user-id": "ann"}, 429, "ann's quota is used up", {"x-ratelimit-remaining": "0"}),
        ("/limited", {"x-user-id": "bob"}, 200, "bob has a quota of his own", {"x-ratelimit-remaining": "2"}),
        ("/local", {}, 200, "1 request an hour, counted in Envoy itself", {}),
        ("/local", {}, 429, "the token bucket is empty", {}),
        ("/jwt", {}, 401, "no token: Jwt is missing", {"www-authenticate": "Bearer"}),
        ("/jwt", {"authorization": token("guest")}, 403, "a good token, but its role is guest", {}),
        ("/jwt", {"authorization": token("admin")}, 200, "a good token with the role admin", {"> x-jwt-sub": "alice"}),
        ("/keys", {}, 401, "no API key", {}),
        ("/keys", {"x-api-key": "wrong"}, 401, "a key that nobody was given", {}),
        (
            "/keys",
            {"x-api-key": "supersecret", "x-client-tier": "platinum"},
            200,
            "the key of client1, whose tier is gold whatever the request says",
            {"> x-client-id": "client1", "> x-client-tier": "gold"},
        ),
        ("/fault", {}, 501, "BackendTrafficPolicy fault aborts every request", {}),
    ]


def send(address, path, headers):
    """Status, headers, and the headers that the backend saw under names with `> ` before them."""
    connection = http.client.HTTPConnection(*address, timeout=10)
    try:
        connection.request("GET", path, headers={"host": HOST, **headers})
        response = connection.getresponse()
        seen = {name.lower(): value for name, value in response.getheaders()}
        body = response.read()
        if response.status == 200:
            seen.update({"> " + name: ", ".join(values) for name, values in json.loads(body)["headers"].items()})
        return response.status, seen
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        return f"no answer ({error})", {}
    finally:
        connection.close()


def tell(address):
    """Sends the story's requests; whether all went as told."""
    good = True
    for path, headers, status, why, shows in story():
        got, seen = send(address, path, headers)
        sent = " ".join([f"GET {path}", *(f"{name}: {shorten(value)}" for name, value in headers.items())])
        shown = "".join(f"; {NAMES.get(name[:2], '')}{name.strip('> ')}: {seen.get(name, 'nothing')}" for name in shows)
        print(f"  {sent:<60} {got}  {why}{shown}", flush=True)
        if got != status or any(value not in seen.get(name, "") for name, value in shows.items()):
            good = False
            print(f"    NOT AS TOLD: {status} was expected", *(f"{name}: {value}" for name, value in shows.items()), sep=", ")
    return good


def login_story(app, address):
    """What people and programs do, what comes of it, and whether that is as told."""
    ann, program = Browser(address), Browser(address)
    page = ann.open(f"{app}/orders")
    yield "open /orders", page, "nobody is logged in: the provider's form", "/interaction/" in page.url
    page = ann.submit(page, login="ann", password="any")
    user = claims(page).get("sub")
    yield "log in as ann", page, f"back at /orders; the backend sees a token of {user}", (page.url, user) == (f"{app}/orders", "ann")
    page = ann.open(f"{app}/")
    yield "open /", page, "logged in, so there is no redirect", (page.status, page.redirects) == (200, [])
    page = program.fetch(f"{app}/orders")
    yield "a program asks for /orders", page, "no session, and no redirect either", (page.status, page.redirects) == (401, [])
    page = ann.submit(ann.open(f"{app}/logout"), logout="yes")
    yield "open /logout, and confirm", page, "the session has ended, here and at the provider", page.status == 200
    page = ann.open(f"{app}/orders")
    yield "open /orders", page, "the provider's form again", "/interaction/" in page.url


def claims(page):
    """What the ID token says that the backend got."""
    try:
        payload = json.loads(page.body)["headers"]["x-id-token"][0].split(".")[1]
        return json.loads(base64.urlsafe_b64decode(payload + "=="))
    except (ValueError, KeyError, IndexError):
        return {}


def tell_login(address):
    """Lets somebody log in and out; whether all went as told."""
    app = f"http://{LOGIN_HOST}:{address[1]}"
    print(f"A browser at {app}:")
    try:
        for deed, page, why, good in login_story(app, address):
            print(f"  {deed:<60} {page.status}  {why}", flush=True)
            if not good:
                print(f"    NOT AS TOLD: ended at {page.url}")
                return False
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
        print(f"    NOT AS TOLD: {error!r}")
        return False
    return True


@contextlib.contextmanager
def provider():
    """The OpenID provider of the examples; nothing where it cannot run."""
    if not (shutil.which("node") and (ROOT / ".tools/oidc-provider").exists()):
        yield None
        return
    command = ["node", ROOT / "deploy/dev/logins/provider.mjs", (ROOT / "deploy/dev/logins/examples.json").read_text()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            # Nothing, when it could not start: then the story is not as told.
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def shorten(text):
    return text if len(text) <= 24 else text[:20] + "..."


def wait_until_ready(controller, file):
    """What the controller wrote into its ready file; None when it ended or took too long."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and controller.poll() is None:
        try:
            ready = json.loads(file.read_text())
            if ready["ready"]:
                return ready
        except (OSError, ValueError, KeyError):
            pass
        time.sleep(0.05)
    return None


def listeners_of(gateway):
    return {listener["name"]: listener["port"] for listener in gateway["listeners"]}


def ports(ready, issuer):
    gateway = ready["gateways"][0]
    listeners = listeners_of(gateway)
    print("Ports:")
    for name, port in listeners.items():
        print(f"  {gateway['address']}:{port}  Envoy, for Gateway {gateway['name']}, listener {name}")
    print(f"  {ready['admin']}  the controller's admin: /ready /status /metrics /config_dump")
    print(f"  {ready['echo']}  the echo backend")
    if issuer:
        print(f"  {issuer.removeprefix('http://')}  the OpenID provider, which lets everybody in under any name")
        print(f"Log in: http://{LOGIN_HOST}:{listeners['browser']}/")
    print(f"Try: curl -i -H 'host: {HOST}' http://{gateway['address']}:{listeners['http']}/")


def run(binary, once, directory, issuer):
    log = directory / "controller.log"
    ready_file = directory / "ready.json"
    command = [binary, "standalone", "deploy/examples/quickstart", "--ready-file", ready_file]
    with log.open("wb") as output:
        controller = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        print("==> controller standalone deploy/examples/quickstart: waiting until Envoy is ready", flush=True)
        ready = wait_until_ready(controller, ready_file)
        if ready is None:
            print("error: it did not become ready; its last lines:", *log.read_text().splitlines()[-15:], sep="\n  ")
            return 1
        gateway = ready["gateways"][0]
        address, listeners = gateway["address"], listeners_of(gateway)
        good = tell((address, listeners["http"]))
        if issuer is None:
            print("No login: its OpenID provider needs Node.js 20 or newer and npm (apt-get install nodejs npm).")
        else:
            good = tell_login((address, listeners["browser"])) and good
        print("The story went as told." if good else "The story did not go as told.")
        if not once:
            ports(ready, issuer)
            print(f"Log: {log}. Change a file in deploy/examples/quickstart and watch; Ctrl-C ends.", flush=True)
            controller.wait()
        return 0 if good else 1
    finally:
        stop(controller)


def stop(controller):
    """Lets the controller take Envoy down with it."""
    controller.send_signal(signal.SIGTERM)
    try:
        controller.wait(15)
    except subprocess.TimeoutExpired:
        controller.kill()


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[2:] not in ([], ["once"]):
        sys.exit(__doc__)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="tollgate-demo-") as directory:
        try:
            with provider() as issuer:
                sys.exit(run(sys.argv[1], len(sys.argv) == 3, pathlib.Path(directory), issuer))
        except KeyboardInterrupt:
            pass


main()
