package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
)

// newCheckCommand returns the command that `helm test` runs.
func newCheckCommand() *cobra.Command {
	var readyURL, namespace string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check that the control plane is ready and that a pod would get its sidecar (a dry run)",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			restConfig, err := ctrl.GetConfig()
			if err != nil {
				return err
			}
			c, err := client.New(restConfig, client.Options{})
			if err != nil {
				return err
			}
			tell := func(err error) { fmt.Fprintln(cmd.OutOrStdout(), "not yet:", err) }
			fmt.Fprintf(cmd.OutOrStdout(), "waiting at most %v for the control plane to be ready and for a dry run of a pod in namespace %s\n", timeout, namespace)
			if err := retry(ctx, tell, func() error { return checkReady(ctx, readyURL) }); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "ok: the control plane is ready")
			if err := retry(ctx, tell, func() error { return checkInjection(ctx, c, namespace) }); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "ok: a pod would get its sidecar")
			return nil
		},
	}
	cmd.Flags().StringVar(&readyURL, "ready-url", "http://mizzen-controller.mizzen-system.svc:15014/readyz", "URL of the control plane's readiness")
	cmd.Flags().StringVar(&namespace, "dry-run-namespace", "default", "namespace in which to create a pod as a dry run")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to try again after a failure")
	return cmd
}

// retry tries once a second until ctx ends, and then returns the last error. It prints each new reason.
func retry(ctx context.Context, tell func(error), try func() error) error {
	last := ""
	for {
		err := try()
		if err == nil {
			return nil
		}
		if text := err.Error(); text != last {
			tell(err)
			last = text
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
}

func checkReady(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", url, res.Status, strings.TrimSpace(string(body)))
	}
	return nil
}

// checkInjection tests the whole path: API server, caBundle, Service, webhook.
func checkInjection(ctx context.Context, c client.Client, namespace string) error {
	no := false
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, GenerateName: "mizzen-check-",
			Labels: map[string]string{config.LabelInjection: config.InjectionEnabled},
		},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: &no,
			Containers:                   []corev1.Container{{Name: "check", Image: "check"}},
		},
	}
	if err := c.Create(ctx, pod, client.DryRunAll); err != nil {
		return fmt.Errorf("dry run of a pod in namespace %s: %w", namespace, err)
	}
	if sidecar.Has(pod) {
		return nil
	}
	return errors.New("dry run of a pod in namespace " + namespace + ": the pod got no sidecar; does the API server reach the webhook?")
}
