// Package ctl holds the commands of mizzenctl. It may import api, config, webhook, xds/envoy, xds/mesh, xds/translate, internal/agentapi,
// internal/answers, internal/dashboard and internal/version of this module, and controller-runtime's client: routes and check read the
// cluster of the kubeconfig, unless they are given files only. No command writes to a cluster. The results for routes come from
// the functions that the control plane runs. identity, plaintext, dryrun, stat and top also ask the agents of pods, and status the
// replicas of the control plane, through forwarded ports.
package ctl

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/mizzen-mesh/mizzen/internal/version"
)

// NewCommand returns the root command. It returns errors and does not print them.
func NewCommand() *cobra.Command {
	return newCommand((*clusterFlags).connect, (*clusterFlags).connectAgents, time.Now)
}

// newCommand takes the connections to a cluster and the clock as arguments, for tests.
func newCommand(connect connector, agents agentConnector, now func() time.Time) *cobra.Command {
	root := &cobra.Command{
		Use:           "mizzenctl",
		Short:         "The command line tool of the Mizzen service mesh",
		Version:       version.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(
		newBugReportCommand(connect, agents, now),
		newCheckCommand(connect), newIdentityCommand(connect, agents, now), newInjectCommand(), newInstallCheckCommand(connect), newPlaintextCommand(connect, agents, now),
		newDashboardCommand(connect, agents, now), newDryRunCommand(connect, agents, now), newExplainCommand(),
		newRoutesCommand(connect), newStatCommand(connect, agents, now), newStatusCommand(connect, agents, now), newTopCommand(connect, agents, now), newVersionCommand(connect),
	)
	helpWithErrors(root)
	return root
}

func newInjectCommand() *cobra.Command {
	o := injectOptions{}
	cmd := &cobra.Command{
		Use:   "inject -f FILE|DIR|- [flags]",
		Short: "Inject the sidecar into the workloads of YAML files, without a cluster",
		Long: `Put the sidecar into every Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet,
ReplicationController, Job, CronJob and PodTemplate of the given files, also within a List.

It does what the admission webhook does, for a namespace in which injection is enabled: a pod
template with the label mizzen.dev/injection=disabled is left alone. All other documents come out
byte for byte; documents that change lose the comments inside them.

What was done is reported on stderr. On any error nothing is written and the exit code is 1.`,
		Example: `  # Give one file to the cluster
  mizzenctl inject -f web.yaml --image registry.example/mizzen-proxy:0.1.0 | kubectl apply -f -

  # A directory (*.yaml, *.yml, *.json) and a file, with the mesh's own configuration
  mizzenctl inject -f manifests/ -f extra.yaml --mesh-config mesh.yaml -o injected.yaml

  # A mesh with identity: its roots are in the control plane's Secret
  kubectl get secret mizzen-ca -n mizzen-system -o jsonpath='{.data.ca\.crt}' | base64 -d > roots.pem
  mizzenctl inject -f web.yaml --mesh-config mesh.yaml --trust-bundle roots.pem

  # What a chart renders
  helm template shop ./chart | mizzenctl inject -f - --mesh-config mesh.yaml`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&o.files, "filename", "f", nil, "file, directory or - for stdin; may be given more than once")
	flags.StringVar(&o.meshConfig, "mesh-config", "", "file with the mesh configuration (default: Mizzen's defaults)")
	flags.StringVar(&o.image, "image", "", "image of the sidecar; overrides sidecar.image of the mesh configuration")
	flags.StringVar(&o.trustBundle, "trust-bundle", "",
		"PEM file with the mesh's roots; required if the mesh has identities")
	flags.StringVar(&o.probeKey, "probe-key", "",
		"secret with which the kubelet calls the application's probes and hooks at the sidecar, 16 to 128 letters and digits (default: random)")
	flags.StringVarP(&o.output, "output", "o", "-", "file to write, - for stdout")
	if err := cmd.MarkFlagRequired("filename"); err != nil {
		panic(err) // the flag is two lines above
	}
	return cmd
}
