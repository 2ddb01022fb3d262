package e2e

import "time"

// kubectlCommand is a command as people give it. IMAGE, NAMESPACE and NODE stand for what the test has; a file is one of
// testdata/kubectl.
type kubectlCommand struct {
	command string
	// after is awaited first.
	after func(*env) (missing string, err error)
	// says is in what it prints without a sidecar, in which -HASH, AGE and SOME stand for what is another each time.
	says string
	// exit is its exit code without a sidecar.
	exit int
	// alone has one namespace come after the other, for what concerns the node.
	alone bool
	// differs are all the differences with a sidecar.
	differs []kubectlDifference
	// longer is how much longer it may take with a sidecar, and slower says why.
	longer time.Duration
	slower string
}

// kubectlDifference turns what kubectl prints without a sidecar into what it prints with one.
type kubectlDifference struct {
	// without is a regular expression, and with takes its place.
	without, with string
	// exit is added to the exit code.
	exit int
	// seen says it in words, with the reason.
	seen string
}

// Every one that starts or ends containers.
const (
	starts = "the sidecar starts first (lifecycle.md)"
	drains = "the drain delay comes before SIGTERM (lifecycle.md)"
)

var kubectlCommands = []kubectlCommand{
	// What people write, applied.
	{command: "apply -f workloads.yaml", says: "deployment.apps/server created"},
	{command: "apply -f states.yaml", says: "pod/running created"},
	{command: "apply -f bare.yaml", says: "pod/bare created"},
	{command: "apply -f probed.yaml", says: "pod/probed created"},
	{command: "rollout status deployment/server", says: `deployment "server" successfully rolled out`, longer: 2 * time.Second, slower: starts},
	{command: "rollout status statefulset/store", says: "partitioned roll out complete", longer: 2 * time.Second, slower: starts},
	{command: "wait --for=condition=Ready pod/bare pod/probed --timeout=90s", says: "pod/bare condition met"},
	{command: "apply -f workloads.yaml", says: "deployment.apps/server unchanged"},
	{command: "apply -f states.yaml", says: "pod/running unchanged"},
	{command: "apply -f bare.yaml", says: "pod/bare unchanged"},
	{command: "apply -f probed.yaml", says: "pod/probed unchanged"},
	{command: "diff -f workloads.yaml"},
	{command: "diff -f bare.yaml"},
	{command: "diff -f probed.yaml"},
	{command: "apply --server-side --field-manager=another -f workloads.yaml", says: "deployment.apps/server serverside-applied"},
	{command: "apply --server-side --field-manager=another -f bare.yaml", says: "pod/bare serverside-applied"},
	{command: "apply --server-side --field-manager=another -f probed.yaml", says: "pod/probed serverside-applied"},

	// Looked at.
	{command: "get deployments,statefulsets,services", says: "deployment.apps/server 2/2 2 2 AGE"},
	{command: "get pods -l app=server", says: "server-HASH 1/1 Running 0 AGE"},
	{command: "get pod bare -o jsonpath={.spec.containers[*].name}", says: "app"},
	{command: "logs bare --tail=1", says: `"msg":"serving"`},
	{command: "exec bare -- /testapp call --target=http://127.0.0.1:8080/healthz", says: `"OK":true`},
	{command: "exec bare -- /testapp call --target=http://server:8080/healthz", says: `"OK":true`},
	{command: "label pod bare tier=front", says: "pod/bare labeled"},
	{command: "annotate pod bare note=seen", says: "pod/bare annotated"},
	{command: "debug bare --image=IMAGE --container=debugger --target=app -- /testapp sleep", says: `Targeting container "app"`},
	{command: "get pod bare -o jsonpath={.spec.ephemeralContainers[*].name}", after: debugged, says: "debugger"},
	{command: "debug bare --copy-to=copy --image=IMAGE --container=debugger -- /testapp sleep"},
	{command: "debug bare --copy-to=other --set-image=*=IMAGE"},
	{command: "wait --for=condition=Ready pod/copy pod/other --timeout=90s", says: "pod/copy condition met", longer: 2 * time.Second, slower: starts},
	{command: "delete pod copy other", says: `pod "copy" deleted from NAMESPACE namespace`, longer: 3 * time.Second, slower: drains},

	// Jobs.
	{command: "create job once --image=IMAGE -- /testapp call --target=http://server:8080/healthz", says: "job.batch/once created"},
	{command: "create cronjob nightly --schedule=@yearly --image=IMAGE -- /testapp call --target=http://server:8080/healthz", says: "cronjob.batch/nightly created"},
	{command: "create job tonight --from=cronjob/nightly", says: "job.batch/tonight created"},
	{command: "wait --for=condition=complete job/once job/tonight --timeout=90s", says: "job.batch/once condition met", longer: 2 * time.Second, slower: starts},
	{command: "get jobs", says: "once Complete 1/1 AGE AGE"},
	{command: "logs job/once", says: `"OK":true`},
	{command: "delete job once tonight", says: `job.batch "once" deleted from NAMESPACE namespace`},

	// Rolled out.
	{command: "set env deployment/server GREETING=hello", says: "deployment.apps/server env updated"},
	{command: "rollout status deployment/server", says: `deployment "server" successfully rolled out`, longer: 2 * time.Second, slower: starts},
	{command: "rollout restart deployment/server statefulset/store", says: "deployment.apps/server restarted"},
	{command: "rollout status deployment/server", says: `deployment "server" successfully rolled out`, longer: 2 * time.Second, slower: starts},
	{command: "rollout status statefulset/store", says: "partitioned roll out complete", longer: 5 * time.Second, slower: starts + ", and " + drains},
	{command: "rollout undo deployment/server", says: "deployment.apps/server rolled back"},
	{command: "rollout status deployment/server", says: `deployment "server" successfully rolled out`, longer: 2 * time.Second, slower: starts},
	{command: "rollout history deployment/server", says: "4 <none>"},
	{command: "scale deployment/server --replicas=3", says: "deployment.apps/server scaled"},
	{command: "rollout status deployment/server", says: `deployment "server" successfully rolled out`, longer: 2 * time.Second, slower: starts},

	// Drained.
	{command: "drain NODE --pod-selector=drained=NAMESPACE --dry-run=server", after: gone, says: "cannot delete Pods that declare no controller (use --force to override): NAMESPACE/bare", exit: 1, alone: true},
	{command: "drain NODE --pod-selector=drained=NAMESPACE,app=server", says: "node/NODE drained", alone: true, longer: 3 * time.Second, slower: drains},
	{command: "uncordon NODE", says: "node/NODE uncordoned", alone: true},
	{command: "rollout status deployment/server", says: `deployment "server" successfully rolled out`},

	// Deleted, in each state.
	{command: "get pods -l of=states", after: inTheirStates, says: "running 1/1 Running 0 AGE"},
	{command: "delete pod running", says: `pod "running" deleted from NAMESPACE namespace`, longer: 3 * time.Second, slower: drains},
	{command: "delete pod unready", says: `pod "unready" deleted from NAMESPACE namespace`, longer: 3 * time.Second, slower: drains},
	{command: "delete pod gated", says: `pod "gated" deleted from NAMESPACE namespace`},
	{command: "delete pod no-image", says: `pod "no-image" deleted from NAMESPACE namespace`},
	{command: "delete pod no-volume", says: `pod "no-volume" deleted from NAMESPACE namespace`},
	{command: "delete pod crashing", says: `pod "crashing" deleted from NAMESPACE namespace`},
	{command: "delete pod crashing-init", says: `pod "crashing-init" deleted from NAMESPACE namespace`},
	{command: "delete pod failed", says: `pod "failed" deleted from NAMESPACE namespace`},
	{command: "delete pod completed", says: `pod "completed" deleted from NAMESPACE namespace`},
	{command: "delete pod bare", says: `pod "bare" deleted from NAMESPACE namespace`, longer: 3 * time.Second, slower: drains},
	{command: "delete deployment server --cascade=foreground", says: `deployment.apps "server" deleted from NAMESPACE namespace`, longer: 3 * time.Second, slower: drains},
	{command: "get pods -l app=server", says: "No resources found in NAMESPACE namespace."},
	{command: "delete -f workloads.yaml --ignore-not-found", says: `statefulset.apps "store" deleted from NAMESPACE namespace`},
}
