package e2e

import "time"

// kubectlCommand is a command as people give it. IMAGE, NAMESPACE and NODE stand for what the test has; a file is one of
// testdata/kubectl.
type kubectlCommand struct {
	command string
	// after is awaited first.
	after func(*env) (missing string, err error)
	// says is in what it prints without a sidecar, in which -HASH, AGE and SOME stand for what is another each time. If empty
	// it prints nothing.
	says string
	// exit is its exit code without a sidecar.
	exit int
	// unsteady is set where it shows something that comes and goes: it is given again until it shows what the table says.
	unsteady bool
	// differs are all the differences with a sidecar.
	differs []kubectlDifference
	// longer is how much longer it may take with a sidecar, and slower says why.
	longer time.Duration
	slower string
}

// kubectlDifference is one between what kubectl prints without a sidecar and with one.
type kubectlDifference struct {
	// instead has regular expressions, each followed by what takes the place of what it matches.
	instead []string
	// exit is added to the exit code.
	exit int
	// seen says it in words, with the reason.
	seen string
}

// Why a command that waits for pods to start or to end waits longer: docs/lifecycle.md.
const (
	starts = "the sidecar starts first"
	drains = "the drain delay comes before SIGTERM"

	rolledOut = 4 * time.Second // two pods, one after the other
	drained   = 3 * time.Second
)

var countsSidecar = []kubectlDifference{{instead: []string{" 1/1 ", " 2/2 "}, seen: "`2/2`: READY counts the sidecar"}}

var kubectlCommands = []kubectlCommand{
	// What people write, applied.
	{command: "apply -f workloads.yaml", says: "deployment.apps/server created"},
	{command: "apply -f bare.yaml", says: "pod/bare created"},
	{command: "apply -f probed.yaml", says: "pod/probed created"},
	{command: "rollout status deployment/server", says: `deployment "server" successfully rolled out`, longer: rolledOut, slower: starts},
	{command: "rollout status statefulset/store", says: "partitioned roll out complete", longer: rolledOut, slower: starts},
	{command: "wait --for=condition=Ready pod/bare pod/probed --timeout=90s", says: "pod/bare condition met", longer: rolledOut, slower: starts},
	{command: "apply -f workloads.yaml", says: "deployment.apps/server unchanged"},
	{command: "apply -f bare.yaml", says: "pod/bare unchanged"},
	{command: "apply -f probed.yaml", says: "pod/probed unchanged", differs: []kubectlDifference{{
		instead: []string{"unchanged", "configured"},
		seen:    "says `configured`, but the pod does not change: its `httpGet` probes go to the agent (probes.md)",
	}}},
	{command: "diff -f workloads.yaml"},
	{command: "diff -f bare.yaml"},
	{command: "diff -f probed.yaml"},

	// Looked at, and into.
	{command: "get deployments,statefulsets,services", says: "deployment.apps/server 2/2 2 2 AGE"},
	{command: "get pods -l app=server", says: "server-HASH 1/1 Running 0 AGE", differs: countsSidecar},
	{command: "get pod bare -o jsonpath={.spec.containers[*].name}", says: "app"},
	{command: "logs bare", says: "INFO serving pod=bare"},
	{command: "logs -l app=server --tail=1 --prefix", says: "[pod/server-HASH/app]"},
	{command: "exec bare -- /testapp call --target=http://127.0.0.1:8080/healthz", says: `"OK":true`},
	{command: "exec bare -- /testapp call --target=http://server:8080/healthz", says: `"OK":true`},
	{command: "exec deployment/server -- /testapp unheard-of", says: "testapp: want one of", exit: 1},
	{command: "label pod bare tier=front", says: "pod/bare labeled"},
	{command: "annotate pod bare note=seen", says: "pod/bare annotated"},
	{command: "debug bare --image=IMAGE --container=debugger --target=app -- /testapp sleep", says: `Targeting container "app"`},
	{command: "get pod bare -o jsonpath={.spec.ephemeralContainers[*].name}", after: debugged, says: "debugger"},
	{command: "logs bare --tail=1", says: `Defaulted container "app" out of: app, debugger (ephem)`, differs: []kubectlDifference{{
		instead: []string{"Defaulted container .*\n", ""},
		seen:    "does not name the container: injection has set the default container by an annotation",
	}}},
	{command: "debug bare --copy-to=copy --image=IMAGE --container=debugger -- /testapp sleep"},
	{command: "debug bare --copy-to=other --set-image=*=IMAGE"},
	{command: "wait --for=condition=Ready pod/copy pod/other --timeout=90s", says: "pod/copy condition met", longer: rolledOut, slower: starts},
	{command: "delete pod copy other", says: `pod "copy" deleted from NAMESPACE namespace`, longer: drained, slower: drains},

	// Applied by another, who lets the server merge.
	{command: "apply --server-side --field-manager=another -f workloads.yaml", says: "deployment.apps/server serverside-applied"},
	{command: "apply --server-side --field-manager=another -f bare.yaml", says: "pod/bare serverside-applied"},
	{command: "apply --server-side --field-manager=another -f probed.yaml", says: "pod/probed serverside-applied", differs: []kubectlDifference{{
		instead: []string{"(?s).*", probeConflict}, exit: 1,
		seen: "a conflict, exit code 1: the probes in the pod are not those of the manifest (probes.md)",
	}}},
	{command: "apply --server-side --force-conflicts --field-manager=another -f probed.yaml", says: "pod/probed serverside-applied"},
	{command: "logs probed --tail=1", says: "INFO serving pod=probed", differs: []kubectlDifference{{
		instead: []string{"^", `Defaulted container "app" out of: app, mizzen-proxy (init), mizzen-capture (init)` + "\n"},
		seen: "names the container first. The annotation that sets the default container was removed with kubectl's own annotation when " +
			"another began to apply this pod on the server's side",
	}}},
	{command: "get pod probed", says: "probed 1/1 Running 0 AGE", differs: countsSidecar},

	// Jobs, and pods that do not get far, which are looked at below.
	{command: "apply -f states.yaml", says: "pod/running created"},
	{command: "apply -f states.yaml", says: "pod/crashing-init unchanged", differs: []kubectlDifference{{
		instead: []string{"pod/crashing-init unchanged", "pod/crashing-init configured"},
		seen: "says `configured` for the pod with an init container of its own, but the pod does not change: kubectl sends the order of a list " +
			"that has other members, as it does of volumes without the mesh",
	}}},
	{command: "diff -f states.yaml"},
	{command: "create job once --image=IMAGE -- /testapp call --target=http://server:8080/healthz", says: "job.batch/once created"},
	{command: "create cronjob nightly --schedule=@yearly --image=IMAGE -- /testapp call --target=http://server:8080/healthz", says: "cronjob.batch/nightly created"},
	{command: "create job tonight --from=cronjob/nightly", says: "job.batch/tonight created"},
	{command: "wait --for=condition=complete job/once job/tonight --timeout=90s", says: "job.batch/once condition met", longer: rolledOut, slower: starts},
	{command: "get jobs", says: "once Complete 1/1 AGE AGE"},
	{command: "logs job/once", says: `"OK":true`},
	{command: "delete job once tonight", says: `job.batch "once" deleted from NAMESPACE namespace`},

	// Rolled out.
	{command: "set env deployment/server GREETING=hello", says: "deployment.apps/server env updated"},
	{command: "rollout status deployment/server", says: `deployment "server" successfully rolled out`, longer: rolledOut, slower: starts},
	{command: "rollout restart deployment/server statefulset/store", says: "deployment.apps/server restarted"},
	{command: "rollout status deployment/server", says: `deployment "server" successfully rolled out`, longer: rolledOut, slower: starts},
	{command: "rollout status statefulset/store", says: "partitioned roll out complete", longer: rolledOut + drained, slower: starts},
	{command: "rollout undo deployment/server", says: "deployment.apps/server rolled back"},
	{command: "rollout status deployment/server", says: `deployment "server" successfully rolled out`, longer: rolledOut, slower: starts},
	{command: "rollout history deployment/server", says: "4 <none>"},
	{command: "scale deployment/server --replicas=3", says: "deployment.apps/server scaled"},
	{command: "rollout status deployment/server", says: `deployment "server" successfully rolled out`, longer: rolledOut, slower: starts},

	// Drained.
	{command: "drain NODE --pod-selector=drained=NAMESPACE --dry-run=server", after: gone, says: "cannot delete Pods that declare no controller (use --force to override): NAMESPACE/bare", exit: 1},
	{command: "drain NODE --pod-selector=drained=NAMESPACE,app=server", says: "node/NODE drained", longer: drained, slower: drains},
	{command: "uncordon NODE", says: "node/NODE uncordoned"},
	{command: "rollout status deployment/server", says: `deployment "server" successfully rolled out`, longer: rolledOut, slower: starts},

	// Deleted, in each state.
	{command: "get pods -l of=states", after: inTheirStates, unsteady: true, says: "running 1/1 Running 0 AGE", differs: []kubectlDifference{{
		instead: []string{
			"(?m)^(unready|no-image|crashing|crashing-init) 0/1 ", "$1 1/2 ",
			"(?m)^(completed|failed|gated|no-volume) 0/1 ", "$1 0/2 ",
			"running 1/1 ", "running 2/2 ",
		},
		seen: "READY counts the sidecar",
	}, {
		instead: []string{"ContainerCreating", "Init:0/2"},
		seen:    "`Init:0/2` for `ContainerCreating`: there are init containers",
	}}},
	{command: "delete pod running", says: `pod "running" deleted from NAMESPACE namespace`, longer: drained, slower: drains},
	{command: "delete pod unready", says: `pod "unready" deleted from NAMESPACE namespace`, longer: drained, slower: drains},
	{command: "delete pod gated", says: `pod "gated" deleted from NAMESPACE namespace`},
	{command: "delete pod no-image", says: `pod "no-image" deleted from NAMESPACE namespace`},
	{command: "delete pod no-volume", says: `pod "no-volume" deleted from NAMESPACE namespace`},
	{command: "delete pod crashing", says: `pod "crashing" deleted from NAMESPACE namespace`},
	{command: "delete pod crashing-init", says: `pod "crashing-init" deleted from NAMESPACE namespace`},
	{command: "delete pod failed", says: `pod "failed" deleted from NAMESPACE namespace`},
	{command: "delete pod completed", says: `pod "completed" deleted from NAMESPACE namespace`},
	{command: "delete deployment server --cascade=foreground", says: `deployment.apps "server" deleted from NAMESPACE namespace`, longer: drained, slower: drains},
	{command: "get pods -l app=server", says: "No resources found in NAMESPACE namespace."},
	{command: "delete -f workloads.yaml --ignore-not-found", says: `statefulset.apps "store" deleted from NAMESPACE namespace`},
}

// probeConflict is what kubectl says to who applies probes that go to the agent on the server's side.
const probeConflict = `error: Apply failed with 4 conflicts: conflicts with "kubectl-client-side-apply" using v1:
- .spec.containers[name="app"].livenessProbe.httpGet.path
- .spec.containers[name="app"].livenessProbe.httpGet.port
- .spec.containers[name="app"].readinessProbe.httpGet.path
- .spec.containers[name="app"].readinessProbe.httpGet.port
`
