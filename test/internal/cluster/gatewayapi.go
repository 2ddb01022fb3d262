package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
)

// ownedLabel marks what InstallGatewayAPI created, so that the CRDs of a cluster that had them before
// are neither changed nor removed.
const ownedLabel = "mizzen-test"

// The release channels of the Gateway API. The experimental one has all that the standard one has, and
// more fields.
const (
	standardChannel     = "standard"
	experimentalChannel = "experimental"
)

// InstallGatewayAPI installs the Gateway API's CRDs, standard channel, in the version of go.mod, with the
// policy that comes with them, and waits until they are served. What is there already and not of an
// earlier call is left as it is.
func (c *Cluster) InstallGatewayAPI(ctx context.Context) error {
	return c.installGatewayAPI(ctx, standardChannel, func(*unstructured.Unstructured) bool { return true })
}

// InstallExperimentalGatewayAPI is InstallGatewayAPI for the experimental channel, without the policy, which
// forbids to go from one channel to the other. That of an earlier call is removed.
func (c *Cluster) InstallExperimentalGatewayAPI(ctx context.Context) error {
	err := c.eachOfGatewayAPI(standardChannel, func(r dynamic.ResourceInterface, obj *unstructured.Unstructured) error {
		if isCRD(obj) {
			return nil
		}
		return removeOwn(ctx, r, obj.GetName())
	})
	if err != nil {
		return err
	}
	// The API server goes by the policy for a moment after it is gone.
	return Poll(ctx, 30*time.Second, func(ctx context.Context) (string, error) {
		err := c.installGatewayAPI(ctx, experimentalChannel, isCRD)
		if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) {
			return err.Error(), nil
		}
		return "", err
	})
}

// ForeignGatewayAPI reports whether the cluster has CRDs of the Gateway API that are not of an earlier
// installation by this package, so that RemoveGatewayAPI leaves them.
func (c *Cluster) ForeignGatewayAPI(ctx context.Context) (foreign bool, err error) {
	err = c.eachOfGatewayAPI(experimentalChannel, func(r dynamic.ResourceInterface, obj *unstructured.Unstructured) error {
		now, err := r.Get(ctx, obj.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		foreign = foreign || err == nil && now.GetLabels()[ownedLabel] == ""
		return err
	})
	return foreign, err
}

func (c *Cluster) installGatewayAPI(ctx context.Context, channel string, wanted func(*unstructured.Unstructured) bool) error {
	// What the API server did not serve before is not looked up in what is remembered of it.
	defer meta.MaybeResetRESTMapper(c.mapper)
	return c.eachOfGatewayAPI(channel, func(r dynamic.ResourceInterface, obj *unstructured.Unstructured) error {
		if !wanted(obj) {
			return nil
		}
		switch now, err := r.Get(ctx, obj.GetName(), metav1.GetOptions{}); {
		case err == nil && now.GetLabels()[ownedLabel] == "":
			return nil
		case err != nil && !apierrors.IsNotFound(err):
			return err
		}
		obj.SetLabels(map[string]string{ownedLabel: "true"})
		if _, err := r.Apply(ctx, obj.GetName(), obj, metav1.ApplyOptions{FieldManager: fieldManager, Force: true}); err != nil {
			return err
		}
		if !isCRD(obj) {
			return nil
		}
		return Poll(ctx, 30*time.Second, func(ctx context.Context) (string, error) {
			now, err := r.Get(ctx, obj.GetName(), metav1.GetOptions{})
			if err != nil || established(now) {
				return "", err
			}
			return "not established", nil
		})
	})
}

// RemoveGatewayAPI removes what was installed of either channel, with all objects of those kinds, and waits
// until it is gone.
func (c *Cluster) RemoveGatewayAPI(ctx context.Context) error {
	return c.eachOfGatewayAPI(experimentalChannel, func(r dynamic.ResourceInterface, obj *unstructured.Unstructured) error {
		return removeOwn(ctx, r, obj.GetName())
	})
}

// removeOwn removes an object that InstallGatewayAPI has made, and waits until it is gone.
func removeOwn(ctx context.Context, r dynamic.ResourceInterface, name string) error {
	switch now, err := r.Get(ctx, name, metav1.GetOptions{}); {
	case apierrors.IsNotFound(err) || err == nil && now.GetLabels()[ownedLabel] == "":
		return nil
	case err != nil:
		return err
	}
	if err := r.Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	return Poll(ctx, time.Minute, func(ctx context.Context) (string, error) {
		_, err := r.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		return "still there", err
	})
}

// eachOfGatewayAPI calls f for every object of a channel, all of which have cluster scope.
func (c *Cluster) eachOfGatewayAPI(channel string, f func(dynamic.ResourceInterface, *unstructured.Unstructured) error) error {
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api") //nolint:noctx // it ends by itself
	list.Dir = c.Root
	dir, err := list.Output()
	if err != nil {
		return fmt.Errorf("directory of the module sigs.k8s.io/gateway-api: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "config/crd", channel, "gateway.networking.*.yaml"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no CRDs in %q", dir)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		objects, err := parse(string(data))
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for _, obj := range objects {
			gvk := obj.GroupVersionKind()
			mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
			if err != nil {
				return err
			}
			if err := f(c.Dynamic.Resource(mapping.Resource), obj); err != nil {
				return fmt.Errorf("%s %s: %w", gvk.Kind, obj.GetName(), err)
			}
		}
	}
	return nil
}

func isCRD(obj *unstructured.Unstructured) bool { return obj.GetKind() == "CustomResourceDefinition" }

// established says whether a CRD is served.
func established(crd *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(crd.Object, "status", "conditions")
	for _, c := range conditions {
		if m, ok := c.(map[string]any); ok && m["type"] == "Established" && m["status"] == "True" {
			return true
		}
	}
	return false
}
