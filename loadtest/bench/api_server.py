"""A kube-apiserver with its etcd and the CRDs, for benches."""

import json
import os
import pathlib
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from results import ROOT
from servers import CLIENT_CORE, Process, free_port

TOOLS = pathlib.Path(os.environ.get("KUBEBUILDER_ASSETS", ROOT / ".tools" / "kube"))
TOKEN = "the-bench-is-the-admin"


class ApiServer:
    """etcd and kube-apiserver, which know Gateway API and what `controller crds` prints."""

    def __init__(self, controller):
        self.place = pathlib.Path(tempfile.mkdtemp(prefix="bench-"))
        etcd, peer, self.port = free_port(), free_port(), free_port()
        client, peer = f"http://127.0.0.1:{etcd}", f"http://127.0.0.1:{peer}"
        (self.place / "tokens.csv").write_text(f'{TOKEN},bench,1,"system:masters"\n')
        subprocess.run(["openssl", "genrsa", "-out", self.place / "accounts.key", "2048"], check=True, capture_output=True)
        self.etcd = Process("etcd", CLIENT_CORE, [
            TOOLS / "etcd", f"--data-dir={self.place}/etcd", "--unsafe-no-fsync", "--log-level=error",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}",
        ])
        self.server = Process("kube-apiserver", CLIENT_CORE, [
            TOOLS / "kube-apiserver", f"--etcd-servers={client}", f"--secure-port={self.port}", "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/16",
            f"--cert-dir={self.place}/certs", "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={self.place}/accounts.key",
            f"--service-account-key-file={self.place}/accounts.key", "--disable-admission-plugins=ServiceAccount",
            "--authorization-mode=RBAC", f"--token-auth-file={self.place}/tokens.csv", "--v=0",
        ])
        self.until(lambda: self.ask("/readyz") is not None)
        self.kubeconfig = self.place / "kubeconfig"
        self.kubeconfig.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "bench",
            "clusters": [{"name": "bench", "cluster": {
                "server": f"https://127.0.0.1:{self.port}", "insecure-skip-tls-verify": True}}],
            "users": [{"name": "bench", "user": {"token": TOKEN}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        }))
        files = (ROOT / ".tools" / "gateway-api" / "standard").glob("gateway.networking.k8s.io_*.yaml")
        ours = subprocess.run([controller, "crds"], check=True, capture_output=True, text=True).stdout
        crds = [file.read_text() for file in files if "_vap_" not in file.name] + ("\n" + ours).split("\n---\n")
        for crd in crds:
            if crd.strip():
                self.ask("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
        kinds = ("gateway.networking.k8s.io/v1/httproutes", "gateway.envoyproxy.io/v1alpha1/securitypolicies")
        self.until(lambda: all(self.ask(f"/apis/{kind}") is not None for kind in kinds))

    def until(self, holds):
        """Waits for `holds`, which may take a while on a machine that does other things."""
        deadline = time.monotonic() + 180
        while not holds():
            if self.server.child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("kube-apiserver has ended, or is not ready after three minutes")
            time.sleep(0.5)

    def ask(self, path, manifest=None):
        """What it answers, `None` unless that is good; with a manifest, which is created, anything else is an error."""
        request = urllib.request.Request(f"https://127.0.0.1:{self.port}{path}", manifest and manifest.encode())
        request.add_header("authorization", f"Bearer {TOKEN}")
        request.add_header("content-type", "application/yaml")
        try:
            with urllib.request.urlopen(request, timeout=30, context=ssl._create_unverified_context()) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            if manifest is not None:
                raise RuntimeError(f"{path}: {error.read().decode()}") from error
        except OSError:
            pass
        return None

    def end(self):
        self.server.end()
        self.etcd.end()
